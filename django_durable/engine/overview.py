"""What stands where: every queue somebody knows of, every limit, and how many jobs each has now.

Bounded reading, for the doors that show it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections

from django_durable.conf import get_settings
from django_durable.engine import claims, queues, registry
from django_durable.engine.counting import MOST, ZERO, Bounded
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.rows import limits as limit_rows
from django_durable.engine.rows import queues as queue_rows
from django_durable.engine.sql import fetch_one
from django_durable.engine.states import DELAYED, JobState

if TYPE_CHECKING:
    from django_durable.models import Limit, Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverview:
    """A queue, how many of its jobs stand where, and what operators said about it."""

    name: str
    ready: Bounded = ZERO
    running: Bounded = ZERO
    scheduled: Bounded = ZERO
    oldest_ready_due_at: datetime | None = None
    paused_at: datetime | None = None
    """Since when it is paused; None: it is not, or not any more."""
    resume_at: datetime | None = None
    reason: str = ""
    concurrency: int | None = None
    rate: int | None = None
    period: timedelta | None = None


def database_now(alias: str) -> datetime:
    row = fetch_one(connections[alias], "select statement_timestamp()", {})
    assert row is not None  # a select without a table returns one row
    now: datetime = row[0]
    return now


def read_queues(alias: str, now: datetime) -> list[QueueOverview]:
    """The queues that have jobs to run or a row, and those that settings and tasks name."""
    connection = connections[alias]
    ready = queues.count_ready(connection, claims.find_ready_queues(connection), limit=MOST)
    others = queues.count_others(connection, finals=(), limit=MOST)
    rows = {row.name: row for row in queue_rows(alias)}
    names = {*rows, *declared_names(), *(r.queue_name for r in ready)}
    names.update(count.queue_name for count in others)
    by_queue = {row.queue_name: row for row in ready}
    return [
        QueueOverview(
            name=name,
            running=_count_in(others, name, (JobState.RUNNING,)),
            scheduled=_count_in(others, name, DELAYED, JobState.SCHEDULED),
            **_ready_of(by_queue.get(name)),
            **_said_of(rows.get(name), now),
        )
        for name in sorted(names)
    ]


def declared_names() -> set[str]:
    """The queues that the settings and the tasks known here name."""
    return {*(get_settings().QUEUES or ()), *(task.queue_name for task in registry.iter_tasks())}


def _ready_of(ready: queues.Ready | None) -> dict[str, Any]:
    if ready is None:
        return {}
    count = Bounded(ready.jobs, ready.jobs < MOST)
    return {"ready": count, "oldest_ready_due_at": ready.oldest_due_at}


def _count_in(
    others: Sequence[queues.Others], name: str, read: Sequence[str], state: str | None = None
) -> Bounded:
    """The jobs of a queue in a state, which were read together with those of other states."""
    state = state or read[0]
    found = [row.jobs for row in others if row.queue_name == name and row.state == state]
    return Bounded(sum(found), all(row.is_exact for row in others if row.state in read))


def _said_of(row: Queue | None, now: datetime) -> dict[str, Any]:
    if row is None:
        return {}
    said: dict[str, Any] = {column: getattr(row, column) for column in queues.BOUNDS}
    if row.is_paused_at(now):
        said |= {"paused_at": row.paused_at, "resume_at": row.resume_at, "reason": row.reason}
    return said


# --- limits


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOverview:
    """A limit, and the places that running jobs hold under it."""

    name: str
    concurrency: int | None
    rate: int | None
    period: timedelta | None
    declared_concurrency: int | None
    declared_rate: int | None
    declared_period: timedelta | None
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How many jobs run under a limit, under how many keys, and most under one of them."""

    running: Bounded = ZERO
    keys: int = 0
    most: int = 0
    busiest_key: str = field(default="")


def read_limits(alias: str) -> list[LimitOverview]:
    usages = count_usages(alias)
    return [
        LimitOverview(
            name=row.name,
            usage=usages.get(row.name, Usage()),
            **{name: getattr(row, name) for name in _LIMIT_COLUMNS},
        )
        for row in limit_rows(alias).order_by("name")
    ]


_LIMIT_COLUMNS = (*queues.BOUNDS, *(f"declared_{column}" for column in queues.BOUNDS))


def count_usages(alias: str) -> dict[str, Usage]:
    """The places in use, by limit. Reads ``MOST`` running jobs at most."""
    held = job_rows(alias).filter(worker_id__isnull=False, limit_name__isnull=False)
    pairs = list(held.values_list("limit_name", "limit_key")[:MOST])
    keys: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for (name, key), count in Counter(pairs).items():
        keys[name or ""].append((key or "", count))
    return {name: _usage(found, len(pairs)) for name, found in keys.items()}


def _usage(keys: Iterable[tuple[str, int]], read: int) -> Usage:
    ordered = sorted(keys, key=lambda pair: -pair[1])
    key, most = ordered[0]
    total = sum(n for _, n in ordered)
    return Usage(running=Bounded(total, read < MOST), keys=len(ordered), most=most, busiest_key=key)


def is_as_declared(limit: Limit | LimitOverview) -> bool:
    """Whether nobody gave a limit other values than the code."""
    return all(getattr(limit, c) == getattr(limit, f"declared_{c}") for c in queues.BOUNDS)
