"""The options of a task: what each may be, and how a wrong one is refused."""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any

from django_durable.exceptions import InvalidOptionError
from django_durable.limits import Limit
from django_durable.retry import RetryPolicy
from django_durable.unique import Unique

_QUEUE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}")
LONGEST_KEY = 500
ENGINE_KEYS = "durable/"
"""What the keys of the engine's own events begin with."""
LONGEST = timedelta(days=36_500)


def check_options(options: Mapping[str, Any], *, allowed: Collection[str]) -> None:
    """Raises: InvalidOptionError for the first option that is unknown or out of its range."""
    for name, value in options.items():
        if name not in allowed:
            reason = f"there is no such option here; known: {', '.join(sorted(allowed))}."
            raise InvalidOptionError(option=name, value=value, reason=reason)
        problem = _RULES[name](value) if name in _RULES else None
        if problem:
            raise InvalidOptionError(option=name, value=value, reason=problem)


def _priority(value: Any) -> str | None:
    fit = isinstance(value, int) and not isinstance(value, bool) and -100 <= value <= 100
    return None if fit else "it must be an integer from -100 to 100, higher first."


def check_queue_name(value: Any) -> str | None:
    """What is wrong with a queue name, or None."""
    if isinstance(value, str) and _QUEUE_NAME.fullmatch(value):
        return None
    return "a queue name has 1 to 100 letters, digits, and _ . : - (not first)."


def _run_after(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, datetime) and value.tzinfo is not None:
        return None if _is_storable_time(value) else "it lies beyond the year 9998."
    if isinstance(value, datetime):
        return "it is naive; use django.utils.timezone.now() or make_aware()."
    return "it must be an aware datetime; for a time from now use delay."


def _delay(value: Any) -> str | None:
    if value is None or (isinstance(value, timedelta) and timedelta(0) <= value <= LONGEST):
        return None
    return "it must be a timedelta that is not negative, of a hundred years at most."


def check_duration(value: Any, least: timedelta = timedelta(0)) -> str | None:
    """What is wrong with a time to wait, or None."""
    if isinstance(value, timedelta) and least <= value <= LONGEST:
        return None
    if least:
        return f"it must be a timedelta of {least} at least, and a hundred years at most."
    return "it must be a timedelta that is not negative, of a hundred years at most."


def check_moment(value: Any) -> str | None:
    """What is wrong with a time to wait until, or None."""
    return _run_after(value) if value is not None else "it must be an aware datetime."


def check_backoff(value: Any) -> str | None:
    """What is wrong with the factor by which pauses grow, or None."""
    fit = isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 100
    return None if fit else "it must be a number from 1 to 100."


def check_event_key(value: Any) -> str | None:
    """What is wrong with the key of a broadcast event, or None."""
    if isinstance(value, str) and value.startswith(ENGINE_KEYS):
        return f"keys that begin with {ENGINE_KEYS} are the engine's own."
    return check_key(value)


def _deadline(value: Any) -> str | None:
    if isinstance(value, timedelta):
        fit = timedelta(0) < value <= LONGEST
        return None if fit else "it must be a positive time, of a hundred years at most."
    if value is None or isinstance(value, datetime):
        return _run_after(value)
    return "it must be a timedelta from enqueueing on, or an aware datetime."


def _on_parent_end(value: Any) -> str | None:
    return None if value in (None, "cancel") else 'it must be "cancel", or None.'


def _is_storable_time(value: datetime) -> bool:
    try:
        return value.astimezone(UTC).year < MAXYEAR
    except OverflowError:
        return False


def check_key(value: Any) -> str | None:
    """What is wrong with an idempotency key, or None."""
    if not isinstance(value, str):
        return "it must be text."
    if not value.strip():
        return "it must not be empty or blank."
    if len(value) > LONGEST_KEY:
        return f"it must not have more than {LONGEST_KEY} characters."
    return check_text(value)


def check_text(value: str) -> str | None:
    """What the database could not store of a text, or None."""
    if "\x00" in value:
        return "it must not hold a NUL character."
    if any("\ud800" <= c <= "\udfff" for c in value):
        return "it must not hold half of a surrogate pair."
    return None


def _optional_key(value: Any) -> str | None:
    return None if value is None else check_key(value)


def check_retention(value: Any) -> str | None:
    """What is wrong with the time a key answers, or None."""
    fit = isinstance(value, timedelta) and timedelta(0) < value <= LONGEST
    return None if fit else "it must be a positive timedelta of a hundred years at most."


def _retry(value: Any) -> str | None:
    fit = value is None or isinstance(value, RetryPolicy)
    return None if fit else "it must be a RetryPolicy, or None."


def _unique(value: Any) -> str | None:
    fit = value is None or isinstance(value, Unique)
    return None if fit else "it must be a Unique, or None."


def _limit(value: Any) -> str | None:
    return None if value is None or isinstance(value, Limit) else "it must be a Limit, or None."


def _on_missing(value: Any) -> str | None:
    return None if value in ("fail", "skip") else 'it must be "fail" or "skip".'


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "it must be True or False."


_RULES: dict[str, Callable[[Any], str | None]] = {
    "priority": _priority,
    "queue_name": check_queue_name,
    "run_after": _run_after,
    "delay": _delay,
    "deadline": _deadline,
    "on_parent_end": _on_parent_end,
    "idempotency_key": _optional_key,
    "idempotency_retention": check_retention,
    "retry": _retry,
    "unique": _unique,
    "limit": _limit,
    "on_missing": _on_missing,
    "takes_context": _flag,
    "atomic": _flag,
    "outside_transaction": _flag,
}
