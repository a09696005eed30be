"""What undoes a step: declared with it, checked against it, kept with its checkpoint as a call.

A compensation is known by its path. The rows of jobs name such paths; they are looked up among what
the decorators declared, and nothing is ever imported for a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from inspect import Parameter, Signature
from typing import Any

from django_durable.engine import instances
from django_durable.engine.codec import dump
from django_durable.engine.replay import describe, same_function
from django_durable.exceptions import TaskDefinitionError

RESULT = "result"
"""The parameter by which a compensation takes what the step returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    """What undoes a step: ``step`` is a Step too, ``undoes`` the function of the one it undoes."""

    step: Any
    undoes: Any

    @property
    def path(self) -> str:
        return describe(self.step.rule.func)

    @property
    def takes_result(self) -> bool:
        return takes_result(self.step.rule.func)

    @property
    def signature(self) -> instances.Signature:
        return _merged_signature(self.step.rule.func, self.undoes)

    def encode_call(self, args: Sequence[Any], kwargs: dict[str, Any], limit: int) -> str:
        """The text of a checkpoint's ``compensation``. Raises: EnqueueError."""
        arguments = instances.encode_arguments(self.signature, args, kwargs, limit)
        return f'{{"path":{dump(self.path)},"step":{dump(describe(self.undoes))},{arguments[1:]}'

    def decode_call(self, text: str, value: str | None) -> instances.Arguments:
        """What the compensation is called with, for a step that returned ``value``.

        Raises: UndecodableError, MissingInstanceError; TypeError if it cannot be called so.
        """
        function = self.step.rule.func
        arguments = instances.read_arguments(text, self.signature, besides=_BESIDES)
        if self.takes_result:
            hint = instances.hints_of(function).get(RESULT, Any)
            hint = instances.hints_of(self.undoes).get("return", Any) if hint is Any else hint
            arguments.kwargs[RESULT] = instances.decode(value or "null", hint=hint)
        instances.python_signature(function).bind(*arguments.args, **arguments.kwargs)
        return arguments


@lru_cache(maxsize=4096)
def _merged_signature(function: Any, undoes: Any) -> instances.Signature:
    """The step's parameters; where the compensation's have hints that say something, those hold."""
    own, theirs = instances.hints_of(function), instances.signature_of(undoes)
    said = {name: hint for name, hint in own.items() if hint is not Any}
    return replace(theirs, hints={**theirs.hints, **said})


# --- the registry

_BESIDES = frozenset({"path", "step"})
_compensations: dict[str, dict[str, Compensation]] = {}
"""By path, then by the path of the function that is undone."""


def declare(step_name: str, compensation: Compensation) -> Compensation:
    """Check a compensation and make it known. Raises: TaskDefinitionError."""
    function, undoes = compensation.step.rule.func, compensation.undoes
    known, owner = _compensations.get(compensation.path, {}), describe(undoes)
    is_other = any(_is_other(compensation, one) for one in known.values())
    problem = (
        _home_problem(function)
        or _signature_problem(function, undoes)
        or ("another function of that name undoes other steps." * (is_other and owner not in known))
    )
    if problem:
        reason = f"it cannot be undone by {compensation.path}: {problem}"
        raise TaskDefinitionError(name=step_name, reason=reason)
    # other code for a step that was declared before: its module is loaded again
    _compensations[compensation.path] = {**({} if is_other else known), owner: compensation}
    return compensation


def _is_other(one: Compensation, another: Compensation) -> bool:
    functions = one.step.rule.func, another.step.rule.func
    return same_function(functions[0]) is not same_function(functions[1])


def find(text: str) -> Compensation | None:
    """The compensation that a checkpoint names, if it is known here."""
    stored = json.loads(text)
    known = _compensations.get(stored["path"], {})
    for found in known.values():
        # of a step that was moved since, nothing is known but what undoes it
        return known.get(stored["step"]) or replace(found, undoes=found.step.rule.func)
    return None


# --- what is refused


def _home_problem(function: Any) -> str | None:
    qualname = getattr(function, "__qualname__", "<without a name>")
    if not qualname.isidentifier():
        return "it must be a function of a module, under a name, so that other processes know it."
    return None


def takes_result(function: Any) -> bool:
    parameter = instances.python_signature(function).parameters.get(RESULT)
    return parameter is not None and parameter.kind not in _VARIADIC


def _signature_problem(function: Any, undoes: Any) -> str | None:
    """Why the step's own arguments cannot be handed to the compensation, or None if they can."""
    try:
        theirs = instances.python_signature(function)
    except (TypeError, ValueError):
        return "its parameters are unknown."
    step = instances.python_signature(undoes)
    if takes_result(function) and RESULT in step.parameters:
        return f"both take {RESULT}, which is to be what the step returned; rename the step's own."
    result = {RESULT: RESULT} if takes_result(function) else {}
    for args, kwargs in _calls_of(step):
        try:
            bound = theirs.bind(*args, **kwargs, **result)
        except TypeError as error:
            return f"{error}. {_CURE}"
        for name, value in bound.arguments.items():
            if isinstance(value, str) and value != name:
                return f"it would get {value} as {name}. {_CURE}"
    return None


_CURE = "It takes the step's parameters, by their names and in their order, and may take result."
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _calls_of(signature: Signature) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The ways to call a function: all arguments or the required ones, by position or by name.

    Each value is the name of its parameter; what goes into ``*args`` or ``**kwargs`` has its stars.
    """
    every = list(signature.parameters.values())
    required = [p for p in every if p.default is p.empty and p.kind not in _VARIADIC]
    for parameters in (every, required):
        for by_name in (False, True):
            args: list[str] = []
            kwargs: dict[str, str] = {}
            for p in parameters:
                if p.kind is p.VAR_KEYWORD:
                    kwargs[f"**{p.name}"] = f"**{p.name}"
                elif p.kind is p.KEYWORD_ONLY or (by_name and p.kind is p.POSITIONAL_OR_KEYWORD):
                    kwargs[p.name] = p.name
                elif p.kind is not p.VAR_POSITIONAL:
                    args.append(p.name)
                elif not by_name:
                    args.append(f"*{p.name}")
            yield args, kwargs
