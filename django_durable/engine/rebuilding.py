"""Errors that travel as themselves: stored with a step's failure, rebuilt from the declaration.

Only classes named in ``@step(raises=...)`` are rebuilt, without calling ``__init__``, and the class
is always the declared one, never one that a row names.
"""

import json
from collections.abc import Sequence
from typing import Any

from django_durable.engine import instances
from django_durable.exceptions import EnqueueError, StepTimeoutError

LARGEST_PART = 20_000
"""Bytes of one argument or attribute of an error; larger ones are shortened or left out."""


def storable_error(error: BaseException, raises: Sequence[type[BaseException]]) -> str:
    """The text of a step's error, with what rebuilding it takes if it is declared."""
    declared = next((cls for cls in raises if isinstance(error, cls)), None)
    if declared is not None:
        return instances.encode_error(
            error,
            declared=class_path(declared),
            args=[_structure(arg) for arg in error.args],
            attributes={k: _structure(v) for k, v in vars(error).items() if _is_storable(v)},
        )
    if isinstance(error, StepTimeoutError):
        return instances.encode_error(error, timeout="yes", detail=error.error_message)
    return instances.encode_error(error)


def class_path(cls: type[BaseException]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def rebuild_error(
    stored: dict[str, Any], raises: Sequence[type[BaseException]]
) -> BaseException | None:
    """The declared error that was stored, or None if it is not declared (any more)."""
    declared = next((cls for cls in raises if class_path(cls) == stored.get("declared")), None)
    if declared is None:
        return None
    args = [instances.decode(json.dumps(arg)) for arg in stored.get("args", [])]
    attributes = {
        name: instances.decode(json.dumps(value))
        for name, value in stored.get("attributes", {}).items()
    }
    try:
        error = declared.__new__(declared, *args)
        error.args = tuple(args)
        error.__dict__.update(attributes)
    except Exception:  # user code: __new__ may want other arguments
        return None
    return error


def _structure(value: Any) -> Any:
    try:
        return json.loads(instances.encode(value, path="argument", limit=LARGEST_PART))
    except EnqueueError:
        return instances.error_message(Exception(value))


def _is_storable(value: Any) -> bool:
    try:
        instances.encode(value, path="attribute", limit=LARGEST_PART)
    except EnqueueError:
        return False
    return True
