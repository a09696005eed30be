"""All settings: the keys of ``DURABLE`` in Django's settings, each with its default and meaning.

Nothing else in the package reads ``django.conf.settings`` for options. Unknown keys and wrong types
are refused by a system check, and by the first use, with the nearest known name.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from django_durable.retry import RetryPolicy

LANGUAGE, TIMEZONE, USER = "language", "timezone", "user"
"""What every job's context may hold; the names of providers must differ."""
SHORTEST_LEASE = timedelta(seconds=2)
LONGEST_TIMEOUT = timedelta(days=24)
"""The server counts its timeouts in milliseconds, in 31 bits."""
LONGEST = timedelta(days=36_500)
MILLISECOND = timedelta(milliseconds=1)
DEFAULT_RETENTION: dict[str, timedelta | None] = {
    "SUCCESSFUL": timedelta(days=7),
    "CANCELLED": timedelta(days=7),
    "FAILED": timedelta(days=90),
    "EVENT": timedelta(days=90),
}
FINAL_STATES = ("SUCCESSFUL", "CANCELLED", "FAILED")
OF_QUEUES = "QUEUES"
"""The key of RETENTION under which queues have lengths of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The ``DURABLE`` dict, checked. Every key is optional."""

    DATABASE: str = "default"
    """Alias of the database that holds the jobs; best the one that holds the business models."""
    DIRECT_DATABASE: str | None = None
    """Alias that reaches the same database without a pooler, for LISTEN and the worker's lock."""
    ENGINE_DATABASE: str | None = None
    """Alias of the same database for the engine's own sessions: claims, plain steps, outcomes."""
    SLOT_CONNECTIONS: int | None = None
    """How many connections to a database the slots of a worker hold at once; None: one each."""
    STATEMENT_TIMEOUT: timedelta | None = timedelta(seconds=60)
    """After which the server ends a statement of the engine's own; None: never."""
    IDLE_TRANSACTION_TIMEOUT: timedelta | None = timedelta(seconds=15)
    """After which it ends a session of the engine's that pauses in a transaction; None: never."""
    TASK_MODULES: tuple[str, ...] = ("tasks",)
    """Names of the modules searched for tasks in each installed app."""
    QUEUES: tuple[str, ...] | None = None
    """Queue names that exist. None: any well-formed name, and workers serve all they meet."""
    LEASE: timedelta = timedelta(seconds=15)
    """How long a worker's right to its jobs outlives its last heartbeat (sent each LEASE / 5)."""
    POLL_INTERVAL: timedelta = timedelta(seconds=1)
    """How often an idle worker looks for work; jittered by a fifth."""
    NOTIFY: bool | Mapping[str, bool] = True
    """Whether enqueueing wakes workers at once: for all queues, or by queue name (default True)."""
    MAX_LOST: int = 5
    """A job that loses its worker this often in a row without progress is failed as poison."""
    MAX_PAYLOAD_BYTES: int = 1_048_576
    """Largest encoded size of a job's arguments and of each returned value, in bytes."""
    WARN_CHECKPOINTS: int = 1_000
    """A job with so many checkpoints is warned of in the log, once in each run."""
    MAX_CHECKPOINTS: int = 10_000
    """A job that needs more checkpoints than this fails, without losing any."""
    RETRY: RetryPolicy = field(default_factory=RetryPolicy)
    """The policy of tasks and steps that declare none. Default: one try."""
    RETENTION: Mapping[str, Any] = field(default_factory=dict)
    """How long finished jobs are kept, by state, and broadcast events; None keeps for ever.

    7 days, FAILED and EVENT 90. Under QUEUES: the same by state for single queues.
    """

    CONTEXT: Mapping[str, str] = field(default_factory=dict)
    """What else jobs take along: names, each with the dotted path of what captures and restores."""

    def notifies(self, queue_name: str) -> bool:
        return self.NOTIFY is not False and queue_name not in self.quiet_queues

    @property
    def quiet_queues(self) -> list[str]:
        """The queues for which NOTIFY is switched off by name."""
        if isinstance(self.NOTIFY, bool):
            return []
        return [name for name, on in self.NOTIFY.items() if not on]

    @property
    def notify_parameters(self) -> dict[str, Any]:
        """What the statements that wake workers take."""
        return {"notify": self.NOTIFY is not False, "quiet_queues": self.quiet_queues}

    @property
    def session_limits(self) -> tuple[int, int]:
        """Timeouts of the engine's sessions for statements and idle transactions, ms; 0: none."""
        limits = (self.STATEMENT_TIMEOUT, self.IDLE_TRANSACTION_TIMEOUT)
        statement, idle = [int(limit / MILLISECOND) if limit else 0 for limit in limits]
        return statement, idle

    def retention(self, kind: str, queue: str | None = None) -> timedelta | None:
        """How long jobs of a final state are kept, or ``EVENT``; None: for ever."""
        kept: timedelta | None = self.RETENTION.get(kind, DEFAULT_RETENTION[kind])
        return kept if queue is None else self.queue_retention.get(queue, {}).get(kind, kept)

    @property
    def queue_retention(self) -> Mapping[str, Mapping[str, timedelta | None]]:
        """How long queues that say so themselves keep their jobs, by state."""
        own: Mapping[str, Mapping[str, timedelta | None]] = self.RETENTION.get(OF_QUEUES, {})
        return own


DEFAULTS = {f.name: f for f in fields(Settings)}


def find_problems(options: object) -> list[str]:
    """Say in sentences what is wrong with a ``DURABLE`` value; empty when nothing is."""
    if not isinstance(options, Mapping):
        return [f"DURABLE must be a dict, not {type(options).__name__}."]
    problems = []
    for key, value in options.items():
        if key not in DEFAULTS:
            near = difflib.get_close_matches(str(key), DEFAULTS, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else f" Known: {', '.join(DEFAULTS)}."
            problems.append(f"DURABLE[{key!r}] is not a setting.{hint}")
        elif problem := _problem_of(key, value):
            problems.append(f"DURABLE[{key!r}] = {value!r}: {problem}")
    return problems


def _problem_of(key: str, value: Any) -> str | None:
    rule, expectation = _RULES[key]
    return None if rule(value) else f"it must be {expectation}."


def _is_names(value: Any) -> bool:
    return (
        not isinstance(value, str)
        and isinstance(value, Iterable)
        and all(isinstance(name, str) and name.strip() for name in value)
    )


def _is_duration(value: Any) -> bool:
    return isinstance(value, timedelta) and timedelta(0) < value <= LONGEST


def _is_timeout(value: Any) -> bool:
    return isinstance(value, timedelta) and SHORTEST_LEASE <= value <= LONGEST_TIMEOUT


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_notify(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and isinstance(v, bool) for k, v in value.items())
    return isinstance(value, bool)


def _is_retention(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _is_queue_retention(kept)
        if kind == OF_QUEUES
        else kind in DEFAULT_RETENTION and _is_kept(kept)
        for kind, kept in value.items()
    )


def _is_queue_retention(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and name.strip()
        and isinstance(own, Mapping)
        and all(state in FINAL_STATES and _is_kept(kept) for state, kept in own.items())
        for name, own in value.items()
    )


def _is_kept(value: Any) -> bool:
    return value is None or _is_duration(value)


def _is_context(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and name.strip()
        and name not in (LANGUAGE, TIMEZONE, USER)
        and isinstance(path, str)
        and all(part.isidentifier() for part in path.split("."))
        for name, path in value.items()
    )


_RULES: dict[str, tuple[Any, str]] = {
    "DATABASE": (
        lambda v: isinstance(v, str) and v in settings.DATABASES,
        "an alias of DATABASES",
    ),
    "DIRECT_DATABASE": (
        lambda v: v is None or (isinstance(v, str) and v in settings.DATABASES),
        "an alias of DATABASES, or None",
    ),
    "ENGINE_DATABASE": (
        lambda v: v is None or (isinstance(v, str) and v in settings.DATABASES),
        "an alias of DATABASES, or None",
    ),
    "SLOT_CONNECTIONS": (
        lambda v: v is None or (_is_count(v) and v >= 2),
        "an integer of 2 or more, or None",
    ),
    "STATEMENT_TIMEOUT": (
        lambda v: v is None or _is_timeout(v),
        "a timedelta from 2 seconds to 24 days, or None",
    ),
    "IDLE_TRANSACTION_TIMEOUT": (
        lambda v: v is None or _is_timeout(v),
        "a timedelta from 2 seconds to 24 days, or None",
    ),
    "TASK_MODULES": (_is_names, "a list of module names"),
    "QUEUES": (lambda v: v is None or (_is_names(v) and bool(list(v))), "a list of names, or None"),
    "LEASE": (_is_timeout, "a timedelta from 2 seconds to 24 days"),
    "POLL_INTERVAL": (_is_duration, "a positive timedelta, of a hundred years at most"),
    "NOTIFY": (_is_notify, "True, False, or a dict of queue name to bool"),
    "MAX_LOST": (_is_count, "a positive integer"),
    "MAX_PAYLOAD_BYTES": (_is_count, "a positive integer, in bytes"),
    "WARN_CHECKPOINTS": (_is_count, "a positive integer"),
    "MAX_CHECKPOINTS": (_is_count, "a positive integer"),
    "RETRY": (lambda v: isinstance(v, RetryPolicy), "a RetryPolicy"),
    "RETENTION": (
        _is_retention,
        "a dict of SUCCESSFUL, CANCELLED, FAILED, EVENT to a timedelta of a hundred years at most, "
        "or to None, and of QUEUES to a dict of queue names to such dicts without EVENT",
    ),
    "CONTEXT": (
        _is_context,
        "a dict of names (language, timezone and user are taken) to dotted paths",
    ),
}


@cache
def get_settings() -> Settings:
    """The settings in force. Raises ImproperlyConfigured, naming each bad key."""
    options = getattr(settings, "DURABLE", {})
    if problems := find_problems(options):
        raise ImproperlyConfigured("\n".join(problems))
    values: dict[str, Any] = {
        key: tuple(value) if key in ("TASK_MODULES", "QUEUES") and value else value
        for key, value in options.items()
    }
    return Settings(**values)


def _forget_settings(*, setting: str, **_: Any) -> None:
    if setting in ("DURABLE", "DATABASES"):
        get_settings.cache_clear()


setting_changed.connect(_forget_settings, dispatch_uid="durable.forget_settings")
