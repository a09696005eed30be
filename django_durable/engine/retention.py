"""Deleting what finished long enough ago, a chunk at a time, never a live job."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django_durable.conf import get_settings
from django_durable.engine.sql import Connection, execute, fetch_one, load

PRUNE_JOBS = load("prune_jobs")
PRUNE_EVENTS = load("prune_events")
PRUNE_KEYS = load("prune_keys")
PRUNE_WORKERS = load("prune_workers")


@dataclass(frozen=True, slots=True)
class Rule:
    """How long jobs in a final state are kept: those of one queue, or of all but some."""

    state: str
    kept: timedelta | None
    """None: for ever."""
    queue: str | None = None
    other_queues: tuple[str, ...] = ()
    """With no queue: those that have rules of their own."""


def rules_of(state: str) -> Iterator[Rule]:
    """The rules for a final state: each queue's that has its own, then that of all others."""
    settings = get_settings()
    own = [name for name, kept in settings.queue_retention.items() if state in kept]
    for name in own:
        yield Rule(state, settings.retention(state, name), queue=name)
    yield Rule(state, settings.retention(state), other_queues=tuple(own))


@dataclass(frozen=True, slots=True)
class Place:
    """How far a pass over old jobs has come: when the last one finished, and its id."""

    time: datetime
    id: UUID


BEGINNING = Place(datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True)
class Chunk:
    """What became of a chunk of old jobs, and where the next one begins."""

    pruned: int
    end: Place
    is_last: bool


def prune_jobs(
    connection: Connection, rule: Rule, *, after: Place = BEGINNING, limit: int
) -> Chunk:
    """Look at up to ``limit`` jobs that a rule keeps no longer; delete those nobody needs."""
    if rule.kept is None:
        return Chunk(0, after, is_last=True)
    row = fetch_one(connection, PRUNE_JOBS, parameters(rule, after=after, limit=limit))
    assert row is not None  # a select without a table returns one row
    seen, pruned, time, last = row
    return Chunk(pruned, Place(time, last) if seen else after, is_last=seen < limit)


def parameters(rule: Rule, *, after: Place, limit: int) -> dict[str, Any]:
    """What the statement takes."""
    return {
        "state": rule.state,
        "retention": rule.kept,
        "queue": rule.queue,
        "other_queues": list(rule.other_queues),
        "after_time": after.time,
        "after_id": after.id,
        "limit": limit,
    }


def prune_events(connection: Connection, retention: timedelta, *, limit: int) -> int:
    """Delete up to ``limit`` broadcast events older than the retention; how many."""
    return execute(connection, PRUNE_EVENTS, {"retention": retention, "limit": limit})


def prune_keys(connection: Connection, *, limit: int) -> int:
    """Delete up to ``limit`` expired keys of ``once``; how many."""
    return execute(connection, PRUNE_KEYS, {"limit": limit})


def prune_workers(connection: Connection, retention: timedelta) -> int:
    """Delete the rows of workers that ended before the retention; how many."""
    return execute(connection, PRUNE_WORKERS, {"retention": retention})
