"""Steps: named parts of a job whose outcome is saved, so that they are not run again.

>>> @step(raises=(CardDeclined,))
... def charge_card(order): ...            # at least once, with a stable idempotency key
>>> @step(atomic=True)
... def reserve_stock(order): ...          # exactly once: writes and checkpoint are one commit
>>> @step(at_most_once=True)
... def send_letter(order): ...            # a crash inside raises StepInterrupted
>>> @step(compensate=give_back)
... def hire(order): ...                   # undone by give_back(order), should the job end badly

Inside a task a call finds the checkpoint, or runs the body and saves one. Anywhere else it is a
plain call.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.db import DEFAULT_DB_ALIAS, transaction

from django_durable.conf import get_settings
from django_durable.engine import compensations, stepping
from django_durable.engine.atomic import run_atomic
from django_durable.engine.replay import Recorded, check_name
from django_durable.engine.run import (
    ActiveStep,
    Run,
    active_step,
    current_run,
    enter_step,
    leave_step,
    on_event_loop,
    plain_step,
    require_run,
)
from django_durable.engine.threads import release_connections
from django_durable.exceptions import (
    AsyncStepError,
    NestedStepError,
    NoCurrentStepError,
    StepTimeoutError,
    Suspension,
    TaskDefinitionError,
)
from django_durable.retry import RetryPolicy

__all__ = ["Step", "current_step", "release_connections", "run_step", "step"]

P = ParamSpec("P")
R = TypeVar("R")


class Step(Generic[P, R]):
    """A function whose calls inside a task are saved. Called, patched and inspected like it."""

    def __init__(self, rule: stepping.StepRule) -> None:
        functools.update_wrapper(cast("Callable[P, R]", self), rule.func)
        self.rule = rule
        self.is_async = iscoroutinefunction(rule.func)
        if self.is_async:
            markcoroutinefunction(cast("Any", self))

    def __repr__(self) -> str:
        return f"<Step {self.rule.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The saved value, or the body's, saved. Async steps return an awaitable of it.

        Raises: the errors named in ``raises`` as themselves, StepFailedError for others whose
        tries are used up, Suspension when the job must stop here.
        """
        if self.is_async:
            return cast("R", self._call_async(args, kwargs))
        run = self._find_run()
        if run is None:
            return cast("R", self._call_plain(args, kwargs))
        if on_event_loop():
            name = self.rule.name
            raise AsyncStepError(step=name, call=f'Step "{name}"', cure=f"{name}.acall(...)")
        return cast("R", self._call_sync(run, args, kwargs))

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call from ``async def``: a synchronous step runs in the job's own thread."""
        if self.is_async:
            return await self._call_async(args, kwargs)
        return await sync_to_async(self.__call__, thread_sensitive=True)(*args, **kwargs)

    def _find_run(self) -> Run | None:
        """The run this call is a durable call of; None where it is a plain call."""
        rule = self.rule
        run = require_run(f'Step "{rule.name}"')
        outer = active_step()
        if run is None or outer is None:
            return run
        if rule.kind != "plain" or rule.compensation is not None:
            kind = "compensated" if rule.kind == "plain" else rule.kind.replace("_", "-")
            raise NestedStepError(step=rule.name, kind=kind, outer=outer.identity)
        return None

    def _call_plain(self, args: Any, kwargs: Any) -> Any:
        """Outside a job, or inside another step: the function itself."""
        token = enter_step(active_step() or plain_step(self.rule.name))
        try:
            if self.rule.kind == "atomic":
                with transaction.atomic(using=_jobs_alias()):
                    return self.rule.func(*args, **kwargs)
            return self.rule.func(*args, **kwargs)
        finally:
            leave_step(token)

    def _call_sync(self, run: Run, args: Any, kwargs: Any) -> Any:
        scope = run.scope
        scope.enter(self.rule.name)
        try:
            found = stepping.find(run, self.rule, args, kwargs)
            if isinstance(found, Recorded):
                return stepping.outcome(self.rule, found)
            record, cause = self.run_body(found, args, kwargs)
        finally:
            scope.leave()
        return stepping.outcome(self.rule, record, cause)

    def run_body(
        self, call: stepping.Call, args: Any, kwargs: Any
    ) -> tuple[Recorded, BaseException | None]:
        """Run the body and save what came of it; also the error, if it was one."""
        interrupted = stepping.prepare(call)
        if interrupted is not None:
            return interrupted, None
        token = enter_step(call.active)
        try:
            if self.rule.kind == "atomic":
                return run_atomic(call, lambda: self.rule.func(*args, **kwargs)), None
            value = self.rule.func(*args, **kwargs)
        except Suspension:
            raise
        except BaseException as error:
            return _failed(call, error)
        finally:
            leave_step(token)
        stepping.close(call)
        if call.is_late:
            return stepping.fail(call, late := stepping.timeout_error(call)), late
        return stepping.succeed(call, value), None

    async def _call_async(self, args: Any, kwargs: Any) -> Any:
        run = self._find_run()
        if run is None:
            return await self._call_plain_async(args, kwargs)
        scope = run.scope
        scope.enter(self.rule.name)
        try:
            found = await _in_job_thread(stepping.find, run, self.rule, args, kwargs)
            if isinstance(found, Recorded):
                return await _in_job_thread(stepping.outcome, self.rule, found)
            record, cause = await self.arun_body(found, args, kwargs)
        finally:
            scope.leave()
        return await _in_job_thread(stepping.outcome, self.rule, record, cause)

    async def _call_plain_async(self, args: Any, kwargs: Any) -> Any:
        token = enter_step(active_step() or plain_step(self.rule.name))
        try:
            return await cast("Callable[..., Awaitable[Any]]", self.rule.func)(*args, **kwargs)
        finally:
            leave_step(token)

    async def arun_body(
        self, call: stepping.Call, args: Any, kwargs: Any
    ) -> tuple[Recorded, BaseException | None]:
        interrupted = await _in_job_thread(stepping.prepare, call)
        if interrupted is not None:
            return interrupted, None
        token = enter_step(call.active)
        limit = self.rule.timeout.total_seconds() if self.rule.timeout else None
        try:
            async with asyncio.timeout(limit) as timer:
                value = await cast("Callable[..., Awaitable[Any]]", self.rule.func)(*args, **kwargs)
        except Suspension:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled_from_outside():
                raise
            if isinstance(error, TimeoutError) and timer.expired():
                error = stepping.timeout_error(call)
            failed: tuple[Recorded, BaseException] = await _in_job_thread(_failed, call, error)
            return failed
        finally:
            leave_step(token)
        return await _in_job_thread(stepping.succeed, call, value), None


def _failed(call: stepping.Call, error: BaseException) -> tuple[Recorded, BaseException]:
    if not isinstance(error, StepTimeoutError):
        stepping.close(call)
    return stepping.fail(call, error), error


def _is_cancelled_from_outside() -> bool:
    """Whether somebody cancelled this call, rather than its body raising CancelledError."""
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


def _in_job_thread(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    """Run blocking work of an async job in the thread that carries the job, which is idle now."""
    return sync_to_async(function, thread_sensitive=True)(*args)


def _jobs_alias() -> str:
    return get_settings().DATABASE or DEFAULT_DB_ALIAS


class StepDecorator(Protocol):
    """What ``step(...)`` returns: takes the function, keeps its signature."""

    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    atomic: bool = False,
    at_most_once: bool = False,
    retry: RetryPolicy | None = None,
    timeout: timedelta | None = None,
    raises: tuple[type[BaseException], ...] = (),
    key: Callable[..., Any] | None = None,
    match_arguments: bool = True,
    compensate: Callable[..., Any] | None = None,
) -> StepDecorator: ...
def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a step.

    ``name`` (default: the function's) is its identity: renaming it makes a new step. ``atomic``
    commits the body's writes and the checkpoint together. ``at_most_once`` records the start first.
    ``retry`` is the policy of its tries, ``timeout`` bounds each. ``raises`` are errors that travel
    as themselves. ``key(*args)`` makes the identity ``name[key]``, for loops over sets that change.
    ``match_arguments=False`` lets a replay pass other arguments. ``compensate`` is a function, or a
    step, that undoes this one if the job ends FAILED or CANCELLED.

    Raises: TaskDefinitionError.
    """
    if function is not None:
        return _declare(function)
    return lambda function: _declare(function, **options)


def _declare(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    atomic: bool = False,
    at_most_once: bool = False,
    compensate: Callable[..., Any] | None = None,
    **rest: Any,
) -> Step[..., Any]:
    shown = name if name is not None else getattr(function, "__name__", repr(function))
    _check_declaration(
        function, shown, atomic=atomic, at_most_once=at_most_once, compensate=compensate, **rest
    )
    kind = "atomic" if atomic else "at_most_once" if at_most_once else "plain"
    undoing = _undoing(shown, function, compensate) if compensate is not None else None
    rule = stepping.StepRule(name=shown, func=function, kind=kind, compensation=undoing, **rest)
    return Step(rule)


def _undoing(
    name: str, function: Callable[..., Any], compensate: Callable[..., Any]
) -> compensations.Compensation:
    step = compensate
    if not isinstance(step, Step):
        called = getattr(compensate, "__name__", repr(compensate))
        step = Step(stepping.StepRule(name=called, func=compensate))
    return compensations.declare(name, compensations.Compensation(step=step, undoes=function))


def _check_declaration(function: Any, name: str, **options: Any) -> None:
    problems = [text for rule, text in _DECLARATION_RULES if rule(function, options)]
    if problems:
        raise TaskDefinitionError(name=name, reason=problems[0])
    check_name(name)


def _is_in_class(function: Any) -> bool:
    outer = getattr(function, "__qualname__", "").rpartition(".")[0]
    return outer.rpartition(".")[2].isidentifier()


_OPTIONS = {
    "atomic", "at_most_once", "retry", "timeout", "raises", "key", "match_arguments", "compensate",
}  # fmt: skip


def _is_optional(options: dict[str, Any], name: str, kind: type) -> bool:
    return options.get(name) is None or isinstance(options[name], kind)


def _has_bad_timeout(options: dict[str, Any]) -> bool:
    timeout = options.get("timeout")
    return timeout is not None and not (isinstance(timeout, timedelta) and timeout > timedelta(0))


def _has_bad_raises(options: dict[str, Any]) -> bool:
    raises = options.get("raises", ())
    return not isinstance(raises, tuple) or not all(
        isinstance(cls, type) and issubclass(cls, Exception) for cls in raises
    )


_DECLARATION_RULES: list[tuple[Callable[[Any, dict[str, Any]], bool], str]] = [
    (lambda f, o: isinstance(f, Step), "it is a step already."),
    (lambda f, o: not callable(f), "a step is made from a function."),
    (
        lambda f, o: _is_in_class(f),
        "a step stands in a module, not in a class; make it a function.",
    ),
    (
        lambda f, o: o["atomic"] and o["at_most_once"],
        "an atomic step runs exactly once already; drop at_most_once.",
    ),
    (
        lambda f, o: o["atomic"] and iscoroutinefunction(f),
        "Django has no asynchronous transactions; make it def, and call it by acall().",
    ),
    (
        lambda f, o: not (o.keys() <= _OPTIONS),
        f"the options are {', '.join(sorted(_OPTIONS | {'name'}))}.",
    ),
    (lambda f, o: _has_bad_timeout(o), "timeout must be a positive timedelta."),
    (lambda f, o: not _is_optional(o, "retry", RetryPolicy), "retry must be a RetryPolicy."),
    (
        lambda f, o: o.get("key") is not None and not callable(o["key"]),
        "key must be a function of the step's arguments.",
    ),
    (
        lambda f, o: o.get("compensate") is not None and not callable(o["compensate"]),
        "compensate must be a function, or a step.",
    ),
    (lambda f, o: _has_bad_raises(o), "raises takes a tuple of Exception classes."),
]


def run_step(name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function as a step, inline: ``run_step("load", fetch, url)``. Async ones are awaited.

    The name is the identity, as in ``@step(name=...)``.
    """
    made: Step[P, R] = Step(stepping.StepRule(name=check_name(name), func=function))
    return made(*args, **kwargs)


def current_step() -> ActiveStep:
    """The step whose body runs now: ``name``, ``attempt`` and ``idempotency_key``.

    The key has 36 characters and is the same over every retry: hand it to whoever is called, so
    that they can tell a repetition. Outside a worker's job it is a fresh one.

    Raises: NoCurrentStepError in a task, between its steps.
    """
    active, run = active_step(), current_run()
    if active is None and run is not None:
        raise NoCurrentStepError(task_path=run.job.task_path)
    return active or plain_step("outside")
