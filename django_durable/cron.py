"""``Cron``: when a task's jobs are enqueued again and again, and what becomes of missed times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, get_args

from django_durable.engine.options import check_key
from django_durable.engine.ticks import read_rule
from django_durable.exceptions import InvalidOptionError

Missed = Literal["none", "one", "all"]
Overlap = Literal["skip", "queue", "cancel"]
LONGEST_NAME = 200
LONGEST_JITTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A schedule of a task, for ``@task(schedule=...)`` and ``add_schedule()``.

    Raises: InvalidOptionError, also for an expression that never comes due.
    """

    expression: str = field(kw_only=False)
    """Minute, hour, day, month, weekday; or six fields, the seconds first."""
    tz: str | None = None
    """The time zone the expression is read in; None: ``settings.TIME_ZONE``."""
    name: str | None = None
    """What the schedule is called everywhere; None: the task's path."""
    missed: Missed = "one"
    """Of the times that passed while no worker was alive, which are made up; one is the latest."""
    overlap: Overlap = "skip"
    """What becomes of a time at which an earlier job of the schedule is unfinished."""
    jitter: timedelta | None = None
    """Each job is due up to so much later, by chance."""
    args: tuple[Any, ...] = ()
    """What the task is called with."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """What it is called with by name."""

    def __post_init__(self) -> None:
        read_rule(self.expression, "UTC" if self.tz is None else self.tz)
        check_policies(self.missed, self.overlap)
        check_jitter(self.jitter)
        if self.name is not None:
            check_schedule_name(self.name)
        if not isinstance(self.args, tuple | list):
            _refuse("args", self.args, "it must be a tuple of the task's arguments.")
        if not isinstance(self.kwargs, Mapping):
            _refuse("kwargs", self.kwargs, "it must be a dict of the task's arguments.")


def check_policies(missed: object, overlap: object) -> None:
    """Raises: InvalidOptionError."""
    for option, value, known in (
        ("missed", missed, get_args(Missed)),
        ("overlap", overlap, get_args(Overlap)),
    ):
        if value not in known:
            _refuse(option, value, f"it must be one of {', '.join(known)}.")
    if (missed, overlap) == ("all", "cancel"):
        reason = 'missed="all" says that each time matters; then none is cancelled for the next.'
        _refuse("overlap", overlap, reason)


def check_jitter(jitter: object) -> None:
    """Raises: InvalidOptionError."""
    fit = isinstance(jitter, timedelta) and timedelta(0) <= jitter <= LONGEST_JITTER
    if jitter is not None and not fit:
        _refuse("jitter", jitter, "it must be a timedelta that is not negative, of a day at most.")


def check_schedule_name(name: object) -> None:
    """Raises: InvalidOptionError."""
    problem = check_key(name)
    if problem is None and isinstance(name, str):
        if len(name) > LONGEST_NAME:
            problem = f"it must not have more than {LONGEST_NAME} characters."
        elif not name.isprintable() or name != name.strip():
            problem = "it must be one line without spaces around it."
    if problem is not None:
        _refuse("name", name, problem)


def _refuse(option: str, value: object, reason: str) -> None:
    raise InvalidOptionError(option=option, value=value, reason=reason)
