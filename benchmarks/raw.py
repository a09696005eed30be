"""The raw limits: the engine's rows, inserted by nothing but the driver.

Each statement is prepared, names every column the engine fills, and is committed alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from uuid import UUID

import psycopg
from psycopg.types.json import Json

Connection = psycopg.Connection[tuple[object, ...]]

INSERT_JOB = """
insert into durable_job (
    id, task_path, queue_name, priority, state, due_at, run_after, arguments,
    lease_token, attempt, attempt_base, lost_count, blocked_count, allowed_steps,
    subject_type, subject_key, enqueued_at
) values (
    %s, %s, %s, %s, %s, statement_timestamp(), %s, %s,
    %s, %s, %s, %s, %s, %s,
    %s, %s, statement_timestamp()
)
"""

INSERT_JOBS = """
insert into durable_job (
    id, task_path, queue_name, priority, state, due_at, arguments,
    lease_token, attempt, attempt_base, lost_count, blocked_count, allowed_steps, enqueued_at
)
select
    id, task_path, queue_name, priority, 'READY', statement_timestamp(), arguments::json,
    0, 1, 0, 0, 0, '{}', statement_timestamp()
from unnest(%s::uuid[], %s::text[], %s::text[], %s::smallint[], %s::text[])
    as job (id, task_path, queue_name, priority, arguments)
"""

INSERT_CHECKPOINT = """
insert into durable_checkpoint (
    job_id, identity, seq, kind, state, function, fingerprint, attempt, value, error,
    lease_token, started_at, saved_at
) values (
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, statement_timestamp(), statement_timestamp()
)
"""

NOTIFY = "select pg_notify('benchmark', '')"


def connect(url: str, *, autocommit: bool = True) -> Connection:
    """A session of the driver's own that prepares every statement at its first use."""
    return psycopg.connect(url, autocommit=autocommit, prepare_threshold=0)


def seconds_for(count: int, once: Callable[[int], object]) -> float:
    """How long it takes to do something this often, one after the other."""
    begun = time.monotonic()
    for number in range(count):
        once(number)
    return time.monotonic() - begun


def insert_job(connection: Connection) -> None:
    connection.execute(
        INSERT_JOB,
        (
            _time_ordered_id(), "benchmarks.tasks.tell_time", "raw", 0, "READY", None,
            Json({"args": [], "kwargs": {}}), 0, 1, 0, 0, 0, [], None, None,
        ),
    )  # fmt: skip


def insert_jobs(connection: Connection, count: int) -> None:
    """All in one statement, from arrays with an element for each job."""
    connection.execute(
        INSERT_JOBS,
        (
            [_time_ordered_id() for _ in range(count)],
            ["benchmarks.tasks.tell_time"] * count,
            ["raw"] * count,
            [0] * count,
            ['{"args": [], "kwargs": {}}'] * count,
        ),
    )


def insert_checkpoint(connection: Connection, job_id: UUID, number: int) -> None:
    connection.execute(
        INSERT_CHECKPOINT,
        (
            job_id, f"note#{number}", number, "plain", "SUCCESSFUL", "benchmarks.tasks.note",
            str(number), 1, Json(number), None, 1,
        ),
    )  # fmt: skip


def insert_checkpoint_and_commit(connection: Connection, job_id: UUID, number: int) -> None:
    """The same in a transaction that is begun and committed by hand."""
    insert_checkpoint(connection, job_id, number)
    connection.commit()


def _time_ordered_id() -> UUID:
    """Like the engine's ids it grows with time, so that the index grows at its right end."""
    return UUID(bytes=time.time_ns().to_bytes(8) + os.urandom(8))
