"""What makes a job one of a kind, for how long, and what becomes of a second one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any, Literal

LONGEST_PERIOD = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Unique:
    """At most one job of a task at a time for the same arguments, or for the same ``key``.

    >>> @task(unique=Unique("unfinished"))
    ... def rebuild_index(shop: Shop) -> None: ...
    >>> @task(unique=Unique("queued", key=lambda order, note="": order, on_conflict="replace"))
    ... def notify(order: Order, note: str = "") -> None: ...

    Raises: ValueError.
    """

    during: Literal["queued", "unfinished"] | timedelta
    """Until the job is claimed; until it is finished; or for so long after it was enqueued."""
    key: Callable[..., Any] | None = None
    """Called with the task's arguments; jobs for which it answers alike are the same. None: those
    with the same arguments. If the answer is None, the job is not unique."""
    on_conflict: Literal["return", "reject", "replace"] = "return"
    """What a second call gets: the job that is there; NotUniqueError; or that job, which stands
    for the second call from now on if it was not claimed yet."""

    def __post_init__(self) -> None:
        if problem := self._find_problem():
            raise ValueError(f"{self!r}: {problem}")

    def _find_problem(self) -> str | None:
        during: Any = self.during
        if isinstance(during, timedelta):
            if not timedelta(0) < during <= LONGEST_PERIOD:
                return "a period is longer than no time, and a hundred years at most."
        elif during not in ("queued", "unfinished"):
            return 'a job is unique while it is "queued" or "unfinished", or for a timedelta.'
        if self.on_conflict not in ("return", "reject", "replace"):
            return 'on_conflict is "return", "reject" or "replace".'
        key: Any = self.key
        if key is not None and (not callable(key) or iscoroutinefunction(key)):
            return "key is a function of the task's arguments, and not an asynchronous one."
        return None

    @property
    def word(self) -> str:
        """What a job's row says of it: queued, unfinished or period."""
        return self.during if isinstance(self.during, str) else "period"

    @property
    def period(self) -> timedelta | None:
        return self.during if isinstance(self.during, timedelta) else None


def uniqueness_of(job: Any, now: datetime) -> str | None:
    """How long the key of a job's row is its own, in words; None: it has none, or no more."""
    if job.unique_key is None:
        return None
    if job.unique_while == "period":
        return f"until {job.unique_until:%Y-%m-%d %H:%M:%S %Z}" if now < job.unique_until else None
    if job.finished_at is not None:
        return None
    if job.unique_while == "unfinished":
        return "until it is finished"
    return "until it is claimed" if job.lease_token == 0 else None
