"""What operators say about queues and limits, in their rows, and how many jobs a queue has.

Each change is one short transaction: the row is made if it is missing, locked, looked at, written.
Claims hold the same row while they count places, so a change waits for them, and they for it. At
its commit workers are woken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.options import check_queue_name
from django_durable.engine.rows import limits as limit_rows
from django_durable.engine.rows import new_queue
from django_durable.engine.rows import queues as queue_rows
from django_durable.engine.sql import Connection, fetch_all, fetch_one, load
from django_durable.exceptions import InvalidOptionError
from django_durable.limits import check_number, check_period

if TYPE_CHECKING:
    from django_durable.models import Limit, Queue

COUNT_READY = load("count_ready")
COUNT_JOBS = load("count_jobs")
WAKE_QUEUE = load("wake_queue")
BOUNDS = ("concurrency", "rate", "period")


class NoSuchLimitError(LookupError):
    """There is no row of that limit: no worker has met a task that names it."""


def check_queue(name: object) -> None:
    """Raises: InvalidOptionError for a name that no queue can have, or none of the settings has."""
    known = get_settings().QUEUES
    problem = check_queue_name(name)
    if not problem and known is not None and name not in known:
        problem = f"DURABLE['QUEUES'] names {', '.join(known)}."
    if problem:
        raise InvalidOptionError(option="queue", value=name, reason=problem)


# --- pausing


def pause(alias: str, name: str, *, until: datetime | None, reason: str) -> Queue:
    """Start no more jobs of a queue, until a time or until resumed; its row afterwards.

    One that is paused already stays so since then, with the new end and reason.

    Raises: InvalidOptionError, also if ``until`` has passed by the database's clock.
    """
    check_queue(name)
    with _held_queue(alias, name) as row:
        if until is not None and until <= row.now:
            raise InvalidOptionError(option="until", value=until, reason="that time has passed.")
        columns: dict[str, Any] = {"resume_at": until, "reason": reason}
        if not row.is_paused_at(row.now):
            columns["paused_at"] = StatementTimestamp()
        queue_rows(alias).filter(pk=name).update(**columns)
    return queue_rows(alias).get(pk=name)


def resume(alias: str, name: str) -> bool:
    """Start its jobs again; whether it was paused."""
    with transaction.atomic(using=alias):
        row = _lock(queue_rows(alias), name)
        if row is None or row.paused_at is None:
            return False
        queue_rows(alias).filter(pk=name).update(paused_at=None, resume_at=None, reason="")
        _wake(alias, name)
    return bool(row.is_paused_at(row.now))


def paused_queues(alias: str, now: datetime) -> list[Queue]:
    """The rows of the queues that are paused, by name."""
    rows = queue_rows(alias).filter(paused_at__isnull=False).order_by("name")
    return [row for row in rows if row.is_paused_at(now)]


def find_pause(alias: str, name: str, now: datetime) -> Queue | None:
    """The row of a queue that is paused; None: it is not."""
    row = queue_rows(alias).filter(pk=name).first()
    return row if row is not None and row.is_paused_at(now) else None


# --- limits


def bound_queue(alias: str, name: str, changes: Mapping[str, Any]) -> Queue:
    """Change some of a queue's ``concurrency``, ``rate`` and ``period``; its row afterwards.

    Raises: InvalidOptionError.
    """
    check_queue(name)
    with _held_queue(alias, name) as row:
        queue_rows(alias).filter(pk=name).update(**_merged(row, changes))
    return queue_rows(alias).get(pk=name)


def bound_limit(alias: str, name: str, changes: Mapping[str, Any] | None) -> Limit:
    """Change the same of a limit; None: back to what the code declares. Its row afterwards.

    Raises: NoSuchLimitError; InvalidOptionError.
    """
    with transaction.atomic(using=alias):
        row = _lock(limit_rows(alias), name)
        if row is None:
            raise NoSuchLimitError(name)
        if changes is None:
            columns = {column: getattr(row, f"declared_{column}") for column in BOUNDS}
        else:
            columns = _merged(row, changes)
        limit_rows(alias).filter(pk=name).update(**columns)
        _wake(alias, "")
    return limit_rows(alias).get(pk=name)


def _merged(row: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """All three after the changes. A rate that is taken away takes its period along.

    Raises: InvalidOptionError.
    """
    merged = {column: changes.get(column, getattr(row, column)) for column in BOUNDS}
    if "rate" in changes and changes["rate"] is None and changes.get("period") is None:
        merged["period"] = None
    problems = {
        "concurrency": check_number(merged["concurrency"]),
        "rate": check_number(merged["rate"]),
        "period": check_period(merged["rate"], merged["period"]),
    }
    for option, problem in problems.items():
        if problem:
            raise InvalidOptionError(option=option, value=merged[option], reason=problem)
    return merged


# --- rows


@contextmanager
def _held_queue(alias: str, name: str) -> Iterator[Any]:
    """The queue's row, made if there is none, locked; workers are woken at the commit."""
    with transaction.atomic(using=alias):
        queue_rows(alias).bulk_create([new_queue(name=name)], ignore_conflicts=True)
        yield _lock(queue_rows(alias), name)
        _wake(alias, name)


def _lock(rows: Any, name: str) -> Any:
    locked = rows.filter(pk=name).select_for_update(no_key=True)
    return locked.annotate(now=StatementTimestamp()).first()


def _wake(alias: str, name: str) -> None:
    """Let workers look into a queue at commit; an empty name: into all."""
    fetch_one(connections[alias], WAKE_QUEUE, {"queue_name": name})


# --- counting


@dataclass(frozen=True, slots=True)
class Ready:
    """The ready jobs of one queue, as far as they were read."""

    queue_name: str
    jobs: int
    suspects: int
    oldest_due_at: datetime


@dataclass(frozen=True, slots=True)
class Others:
    """The jobs of one queue in one other state, as far as they were read."""

    state: str
    queue_name: str
    jobs: int
    blocked: int
    suspects: int
    is_exact: bool


def count_ready(connection: Connection, names: Sequence[str], *, limit: int) -> list[Ready]:
    """The ready jobs of these queues, reading at most ``limit`` rows of each."""
    params = {"queues": list(names), "limit": limit}
    return [Ready(*row) for row in fetch_all(connection, COUNT_READY, params)]


def count_others(connection: Connection, *, finals: Iterable[str], limit: int) -> list[Others]:
    """Jobs that are delayed, that run, and that ended in one of these states, up to ``limit``
    of each kind."""
    params = {"finals": list(finals), "limit": limit}
    return [Others(*row) for row in fetch_all(connection, COUNT_JOBS, params)]
