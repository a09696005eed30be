"""Model instances among values: stored by label and key, fetched fresh when decoded.

Also the shapes in which a job's arguments, return value and errors are stored. Reads only.
"""

import hashlib
import inspect
import json
import sys
import traceback
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any, cast

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, models, router

from django_durable.engine import codec, registry
from django_durable.exceptions import JobRowError, MissingInstanceError

LONGEST_MESSAGE, LONGEST_TRACEBACK = 5_000, 20_000  # characters


def model_key(value: Any) -> tuple[str, Any] | None:
    """The label and key of a saved model instance, None of anything else.

    Raises: ValueError for an unsaved instance, with the cure.
    """
    if not isinstance(value, models.Model):
        return None
    if value.pk is None or value._state.adding:
        name = type(value).__name__
        raise ValueError(f"the {name} is not saved; save it first, or pass its data.")
    return value._meta.label_lower, value.pk


def encode(value: Any, *, hint: Any = Any, path: str, limit: int | None = None) -> str:
    return codec.encode_text(value, hint=hint, path=path, model_key=model_key, limit=limit)


def decode(text: str, *, hint: Any = Any) -> Any:
    """The value of a text; its model instances are fetched with one query for each model.

    Raises: UndecodableError, MissingInstanceError.
    """
    if codec.is_scalar(text):
        return codec.decode_scalar(text)
    return codec.decode_text(text, hint=hint, resolve=resolver(text))


def resolver(text: str) -> codec.Resolve:
    """Fetch every model instance that a text names; the answer hands them out by label and key."""
    found = _fetch(codec.find_references(text))

    def resolve(label: str, key: Any) -> Any:
        instance = found.get((label, key))
        if instance is None:
            raise MissingInstanceError(label=label, key=key)
        return instance

    return resolve


def _fetch(references: Iterable[tuple[str, Any]]) -> dict[tuple[str, Any], models.Model]:
    wanted: dict[str, list[Any]] = {}
    for label, key in references:
        wanted.setdefault(label, []).append(key)
    return {(label, row.pk): row for label, keys in wanted.items() for row in _rows(label, keys)}


def _rows(label: str, keys: list[Any]) -> list[models.Model]:
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        raise codec.UndecodableError(reason=f"there is no model {label}.") from None
    alias = router.db_for_write(model) or DEFAULT_DB_ALIAS
    try:
        return list(model._base_manager.using(alias).filter(pk__in=keys))
    except (ValueError, TypeError, ValidationError) as error:
        raise codec.UndecodableError(reason=f"{label} has no such keys ({error}).") from None


def find_instance(model: type[models.Model], key: str) -> models.Model | None:
    """The row of a model whose primary key reads so; None if there is none (any more)."""
    alias = router.db_for_write(model) or DEFAULT_DB_ALIAS
    try:
        return model._base_manager.using(alias).filter(pk=key).first()
    except (ValueError, ValidationError):  # keys of this model look different by now
        return None


@lru_cache(maxsize=2048)
def hints_of(function: Any) -> dict[str, Any]:
    """The type hints of a function; none of it if one cannot be evaluated."""
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


@dataclass(slots=True)
class Arguments:
    """What a task is called with."""

    args: list[Any]
    kwargs: dict[str, Any]


_NO_ARGUMENTS = '{"args":[],"kwargs":{}}'
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function says of its parameters, for encoding a call of it."""

    names: tuple[str, ...]
    """The positional parameters, without a task's context; the last one may be ``*args``."""
    hints: dict[str, Any]
    other: Any
    """The hint of keyword arguments that are no parameter: that of ``**kwargs``."""
    least: int = 1
    most: int = 0
    """A call with so many arguments, given by position only, fits."""

    def positional(self, args: Sequence[Any]) -> list[tuple[str, Any]]:
        fallback = self.names[-1] if self.names else "args"
        return list(zip_longest(self.names[: len(args)], args, fillvalue=fallback))

    def hint(self, name: str) -> Any:
        return self.hints.get(name, self.other)


@lru_cache(maxsize=4096)
def signature_of(function: Any, *, takes_context: bool = False) -> Signature:
    parameters = list(python_signature(function).parameters.values())
    positional = [p.name for p in parameters if p.kind in _POSITIONAL]
    hints = hints_of(function)
    open_ended = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
    least, most = _range_of(parameters)
    return Signature(
        names=tuple(positional[1:] if takes_context else positional),
        hints={name: hint for name, hint in hints.items() if name not in open_ended},
        other=hints.get(open_ended[0], Any) if open_ended else Any,
        least=least - takes_context,
        most=most - takes_context,
    )


def _range_of(parameters: Sequence[inspect.Parameter]) -> tuple[int, int]:
    """How few and how many arguments fit by position; (1, 0) if others are needed, or may be."""
    named = [p for p in parameters if p.kind in _NAMED_BY_PLACE]
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return 1, 0
    return sum(p.default is p.empty for p in named), len(named)


@lru_cache(maxsize=4096)
def python_signature(function: Any) -> inspect.Signature:
    return inspect.signature(function)


_NAMED_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


def encode_arguments(
    signature: Signature, args: Sequence[Any], kwargs: dict[str, Any], limit: int | None = None
) -> str:
    """The text of a call. Raises: NotSerializableError, PayloadTooLargeError."""
    if not args and not kwargs:
        return _NO_ARGUMENTS
    if not kwargs and (plain := codec.plain_text(args)) is not None:
        text = f'{{"args":[{plain}],"kwargs":{{}}}}'
        if limit is None or len(text) <= limit:
            return text

    def build(encoder: codec.Encoder) -> codec.JsonValue:
        return {
            "args": [
                encoder.encode(value, signature.hint(name), name)
                for name, value in signature.positional(args)
            ],
            "kwargs": {k: encoder.encode(v, signature.hint(k), k) for k, v in kwargs.items()},
        }

    return codec.write_text(build, "arguments", model_key, limit)


def digest_call(signature: Signature, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """A digest of a call; of arguments bound to parameters, however they were passed."""
    return digest(encode_arguments(signature, args, dict(sorted(kwargs.items()))))


def decode_arguments(text: str, task_path: str, job_id: Any) -> Arguments:
    """The call a job stands for; hints come from the task if this process knows it.

    Raises: JobRowError for a text no enqueue could have written, MissingInstanceError.
    """
    if text == _NO_ARGUMENTS:
        return Arguments([], {})
    task = registry.find_task(task_path)
    try:
        return read_arguments(text, task.signature if task else Signature((), {}, Any))
    except codec.UndecodableError as error:
        reason = f"its arguments are not what was enqueued: {error}"
        raise JobRowError(job_id=job_id, task_path=task_path, reason=reason) from error


def read_arguments(
    text: str, signature: Signature, *, besides: frozenset[str] = _NOTHING
) -> Arguments:
    """The call in a text; ``besides`` is what else stands in the text.

    Raises: UndecodableError, MissingInstanceError.
    """

    def build(decoder: codec.Decoder, call: codec.JsonValue) -> Arguments:
        args, kwargs = call["args"], call["kwargs"]
        strange = call.keys() - besides - {"args", "kwargs"}
        if type(args) is not list or type(kwargs) is not dict or strange:
            raise codec.UndecodableError(reason='it is not {"args": [...], "kwargs": {...}}.')
        return Arguments(
            [
                decoder.decode(value, signature.hint(name))
                for name, value in signature.positional(args)
            ],
            {k: decoder.decode(v, signature.hint(k)) for k, v in kwargs.items()},
        )

    return cast("Arguments", codec.read_text(text, build, resolver(text)))


def decode_result(text: str, task_path: str) -> Any:
    """A job's return value; the hint is the task's return annotation if known here."""
    task = registry.find_task(task_path)
    return decode(text, hint=hints_of(task.func).get("return", Any) if task else Any)


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why an attempt failed, as Django's ``TaskError``."""

    exception_class_path: str
    traceback: str
    message: str = ""

    @classmethod
    def from_text(cls, text: str) -> "TaskError":
        stored = json.loads(text)
        if not isinstance(stored, dict):
            return cls("?", "", str(stored))
        return cls(stored.get("type", "?"), stored.get("traceback", ""), stored.get("message", ""))

    @property
    def exception_class(self) -> type[BaseException]:
        """The class, if this process has loaded its module. Raises ValueError otherwise."""
        module, _, qualname = self.exception_class_path.rpartition(".")
        found = getattr(sys.modules.get(module or "builtins"), qualname, None)
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            raise ValueError(f"{self.exception_class_path} is not an exception known here.")
        return found


def error_path(error: BaseException) -> str:
    """Where the class of an error lives: ``package.module.Class``, builtins by name alone."""
    cls = type(error)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def error_message(error: BaseException) -> str:
    """``str(error)``, even of errors whose ``__str__`` fails."""
    try:
        return storable(str(error)[:LONGEST_MESSAGE])
    except Exception as broken:  # user code: __str__ may raise anything
        return f"({type(error).__name__} whose __str__ raised {type(broken).__name__})"


def storable(text: str) -> str:
    """The text without what PostgreSQL cannot store: NUL, and halves of surrogate pairs."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def digest(text: str) -> str:
    """A SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def encode_error(error: BaseException, **more: codec.JsonValue) -> str:
    """The stored form of an error: type, message, traceback, and what the caller adds."""
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception as broken:  # an error broken enough not to be formatted
        trace = f"(the traceback could not be formatted: {type(broken).__name__})"
    return codec.dump(
        {
            "type": error_path(error),
            "message": error_message(error),
            "traceback": storable(trace[-LONGEST_TRACEBACK:]),
            **more,
        }
    )
