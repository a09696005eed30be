"""Which limit a call is under, and what that counts apart: told in the caller, kept in the row."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django_durable.engine import registry
from django_durable.engine.instances import model_key
from django_durable.engine.options import check_key
from django_durable.exceptions import InvalidArgumentsError, InvalidOptionError
from django_durable.limits import Limit


def limit_of(
    task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str, str] | tuple[None, None]:
    """The name and the key of the limit that a call is under. The key is empty if it counts all.

    Raises: InvalidArgumentsError if the key cannot be told; InvalidOptionError for a limit that no
    task is declared with.
    """
    limit = task.limit
    if limit is None:
        return None, None
    _check_declared(task, limit)
    if limit.key is None:
        return limit.name, ""
    args, kwargs = task.bind_arguments(args, kwargs)
    try:
        key = limit.key(*args, **kwargs)
        text = None if key is None else text_of(key)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        reason = f'the key of its limit "{limit.name}" could not be told, {why}'
        raise InvalidArgumentsError(path=task.path, reason=reason) from error
    return (None, None) if text is None else (limit.name, text)


def text_of(key: Any) -> str:
    """A key as text. Raises: TypeError, ValueError."""
    found = model_key(key)
    value = key if found is None else found[1]
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        raise TypeError(
            f"it must be text, an int, a UUID, a model instance or None, not {type(value).__name__}"
        )
    text = str(value)
    if problem := check_key(text):
        raise ValueError(problem.rstrip("."))
    return text


def _check_declared(task: Any, limit: Limit) -> None:
    """Workers know a limit's numbers from the tasks they know."""
    known = registry.find_task(task.path)
    if known is not None and known.limit is limit:
        return
    declared = registry.declared_limits().get(limit.name)
    if declared is None or declared.numbers != limit.numbers:
        reason = "no task is declared with it, so that workers do not know it: @task(limit=...)."
        raise InvalidOptionError(option="limit", value=limit, reason=reason)
