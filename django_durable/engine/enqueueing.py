"""New jobs and their idempotency keys: one insert, in the caller's transaction.

Every function is one statement on the connection it is given. A job enqueued by another carries its
parent and origin, unique together, so that a replay meets the same row; the parent's lease is
checked and held in the same statement.
"""

import os
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django_durable.engine.preparing import note_server, prepared
from django_durable.engine.sql import Connection, array, execute, fetch_all, fetch_one, load
from django_durable.exceptions import ChildDepthError

INSERT_JOB = load("insert_job")
INSERT_JOBS = load("insert_jobs")
DECIDE_JOBS = load("decide_jobs")
COPY_IN_JOBS = load("copy_in_jobs")
INSERT_JOB_WITH_KEY = load("insert_job_with_key")
FIND_KEY = load("find_key")
FREE_KEY = load("free_key")
INSERT_KEY = load("insert_key")
FIND_UNIQUE = load("find_unique")
FREE_UNIQUE = load("free_unique")
HOLD_QUEUED = load("hold_queued")
REPLACE_JOB = load("replace_job")
SET_KEY_VALUE = load("set_key_value")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to insert. ``run_after`` is aware; ``delay`` counts from the database's now.

    So do ``deadline_at`` and ``deadline``; the earlier one holds. ``held_back``: it waits for its
    turn among the children of its parent. ``on_conflict``: what becomes of it if another job has
    its ``unique_key``.
    """

    id: UUID
    task_path: str
    queue_name: str
    priority: int
    arguments: str
    run_after: datetime | None = None
    delay: timedelta | None = None
    origin: str | None = None
    subject_type: str | None = None
    subject_key: str | None = None
    context: str | None = None
    deadline_at: datetime | None = None
    deadline: timedelta | None = None
    awaited_as: str | None = None
    on_parent_end: str | None = None
    limit_name: str | None = None
    limit_key: str | None = None
    depth: int = 0
    held_back: bool = False
    unique_key: str | None = None
    unique_while: str | None = None
    unique_period: timedelta | None = None
    on_conflict: str | None = None

    def parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in NewJob.__slots__}


DEEPEST = 100
"""How many jobs may stand above one, each enqueued by the next."""


def uuid7(*, after: UUID | None = None) -> UUID:
    """A UUID of version 7 (RFC 9562): milliseconds, then a finer fraction, then chance.

    ``after``: greater than this one, even if another machine's clock made it and is ahead.
    """
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    if after is not None and milliseconds <= (earlier := after.int >> 80):
        milliseconds = earlier + 1
    chance = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | chance)


def uuids7(count: int) -> list[UUID]:
    """So many in ascending order, as if made one after the other from now on."""
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    base = milliseconds << 12 | rest * 4096 // 1_000_000
    chances = struct.unpack(f">{count}Q", os.urandom(8 * count))
    return [
        UUID(int=at >> 12 << 80 | 7 << 76 | (at & 0xFFF) << 64 | 2 << 62 | chance >> 2)
        for at, chance in enumerate(chances, base)
    ]


def as_child(parent: Any, new: NewJob) -> NewJob:
    """The row of a job enqueued by ``parent``, a row too: below it, with no later deadline.

    Its id is greater than the parent's, whose row is locked before. Raises: ChildDepthError.
    """
    if parent.depth >= DEEPEST:
        raise ChildDepthError(job_id=parent.id, task_path=parent.task_path, depth=parent.depth)
    deadlines = [time for time in (parent.deadline_at, new.deadline_at) if time is not None]
    return replace(
        new,
        id=new.id if new.id > parent.id else uuid7(after=parent.id),
        depth=parent.depth + 1,
        deadline_at=min(deadlines, default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The job that enqueues. ``lease_token`` is None where a later statement fences the commit."""

    job_id: UUID
    lease_token: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    scope: str
    key: str
    fingerprint: str
    retention: timedelta

    def parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in NewKey.__slots__}


@dataclass(frozen=True, slots=True)
class Inserted:
    """What the database decided about a new job."""

    state: str
    due_at: datetime
    enqueued_at: datetime
    deadline_at: datetime | None
    unique_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """The job that has a unique key. ``is_queued``: never claimed; ``is_expired``: to be freed."""

    job_id: UUID
    is_queued: bool
    is_expired: bool


@dataclass(frozen=True, slots=True)
class TakenKey:
    """A key that exists. ``expired``: it may be freed and used anew."""

    fingerprint: str
    job_id: UUID | None
    value: str | None
    expired: bool


def insert_job(connection: Connection, job: NewJob, *, notify: bool) -> Inserted:
    """Insert one job from outside jobs."""
    row = fetch_one(prepared(connection), INSERT_JOB, {**job.parameters(), "notify": notify})
    assert row is not None  # a plain INSERT returns its row or raises
    note_server(connection, row[4])
    return Inserted(*row[:4])


def insert_jobs(
    connection: Connection,
    jobs: Sequence[NewJob],
    *,
    parent: Parent | None,
    notify_queues: Sequence[str],
) -> dict[UUID, Inserted]:
    """Insert jobs in one statement. Missing: it exists, its key is taken, or the lease is lost.

    Waits for another transaction that is inserting an equal unique key.
    """
    params: dict[str, Any] = {
        column: array(getattr(job, attribute) for job in jobs)
        for column, attribute in _ARRAYS.items()
    }
    params |= _parent_parameters(parent) | {"notify_queues": list(notify_queues)}
    return {row[0]: Inserted(*row[1:6]) for row in fetch_all(connection, INSERT_JOBS, params)}


_ARRAYS = {
    "ids": "id",
    "task_paths": "task_path",
    "queue_names": "queue_name",
    "priorities": "priority",
    "run_afters": "run_after",
    "delays": "delay",
    "arguments": "arguments",
    "origins": "origin",
    "subject_types": "subject_type",
    "subject_keys": "subject_key",
    "contexts": "context",
    "deadlines_at": "deadline_at",
    "deadlines": "deadline",
    "awaited_ases": "awaited_as",
    "on_parent_ends": "on_parent_end",
    "limit_names": "limit_name",
    "limit_keys": "limit_key",
    "depths": "depth",
    "held_backs": "held_back",
    "unique_keys": "unique_key",
    "unique_whiles": "unique_while",
    "unique_periods": "unique_period",
}


def decide_jobs(
    connection: Connection, kinds: Sequence[NewJob], notify_queues: Sequence[str]
) -> list[Inserted]:
    """What the database decides about jobs of these kinds that are copied in by this transaction.

    Wakes their queues at its commit.
    """
    names = ("queue_names", "run_afters", "delays", "deadlines_at", "deadlines")
    params: dict[str, Any] = {
        name: array(getattr(kind, _ARRAYS[name]) for kind in kinds) for name in names
    }
    params["notify_queues"] = list(notify_queues)
    return [Inserted(*row[:4]) for row in fetch_all(connection, DECIDE_JOBS, params)]


def copy_jobs(connection: Any, lines: Iterable[str]) -> None:
    """Take in jobs in one statement, while the lines are still being made."""
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(COPY_IN_JOBS) as copy,
    ):
        for line in lines:
            copy.write(line)


def end_of_lines(kind: NewJob, decided: Inserted) -> str:
    """What stands behind the id and the arguments in the lines of one kind of call."""
    columns = (
        kind.task_path, kind.queue_name, kind.priority, decided.state, decided.due_at,
        kind.run_after, 0, 1, 0, 0, 0, "{}", kind.subject_type, kind.subject_key, kind.limit_name,
        kind.limit_key, kind.context, decided.deadline_at, decided.enqueued_at,
    )  # fmt: skip
    return "\t" + "\t".join(map(_field, columns)) + "\n"


def _field(value: Any) -> str:
    return "\\N" if value is None else escaped(str(value))


def escaped(text: str) -> str:
    """A text as COPY's format has it."""
    return text.translate(_COPY_ESCAPES)


_COPY_ESCAPES = {ord("\\"): r"\\", ord("\t"): r"\t", ord("\n"): r"\n", ord("\r"): r"\r"}


def _parent_parameters(parent: Parent | None) -> dict[str, Any]:
    return {
        "parent_id": parent.job_id if parent else None,
        "lease_token": parent.lease_token if parent else None,
    }


def insert_job_with_key(
    connection: Connection, job: NewJob, key: NewKey, *, parent: Parent | None, notify: bool
) -> Inserted | None:
    """Insert one job if its key is free; None if it is taken, or the parent's lease is lost.

    Waits for another transaction that is inserting the same key.
    """
    params = job.parameters() | key.parameters() | _parent_parameters(parent) | {"notify": notify}
    row = fetch_one(prepared(connection), INSERT_JOB_WITH_KEY, params)
    if row is None:
        return None
    note_server(connection, row[4])
    return Inserted(*row[:4])


def find_key(connection: Connection, scope: str, key: str) -> TakenKey | None:
    row = fetch_one(connection, FIND_KEY, {"scope": scope, "key": key})
    return None if row is None else TakenKey(*row)


def free_key(connection: Connection, scope: str, key: str, job_id: UUID | None) -> bool:
    """Delete an expired key that still names this job; False if another caller was first."""
    params = {"scope": scope, "key": key, "job_id": job_id}
    return execute(connection, FREE_KEY, params) == 1


def insert_key(connection: Connection, key: NewKey) -> int | None:
    """Take a key for ``once``; its id, or None if it is taken. Waits for who is inside."""
    row = fetch_one(connection, INSERT_KEY, key.parameters())
    return None if row is None else row[0]


def set_key_value(connection: Connection, key_id: int, value: str) -> None:
    execute(connection, SET_KEY_VALUE, {"id": key_id, "value": value})


# --- unique jobs


def find_unique(connection: Connection, keys: Sequence[str]) -> dict[str, Holder]:
    """The jobs that hold these unique keys, as far as they are taken."""
    rows = fetch_all(connection, FIND_UNIQUE, {"unique_keys": list(keys)})
    return {key: Holder(*row) for key, *row in rows}


def hold_queued(connection: Connection, job_ids: Sequence[UUID]) -> set[UUID]:
    """Keep unique jobs from being claimed until the transaction ends; those that were not yet."""
    return {row[0] for row in fetch_all(connection, HOLD_QUEUED, {"ids": list(job_ids)})}


def free_unique(connection: Connection, job_id: UUID, key: str) -> None:
    """Free a key whose period is over, unless another caller has."""
    execute(connection, FREE_UNIQUE, {"job_id": job_id, "unique_key": key})


def replace_job(
    connection: Connection, job_id: UUID, new: NewJob, *, parent: Parent | None, notify: bool
) -> bool:
    """Let a job stand for a newer call; False if it was claimed, ended or freed meanwhile."""
    params = new.parameters() | _parent_parameters(parent) | {"job_id": job_id, "notify": notify}
    return fetch_one(connection, REPLACE_JOB, params) is not None
