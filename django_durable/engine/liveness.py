"""Who is alive: registration, heartbeats, the verdict "lost", and giving a lost worker's jobs back.

A worker renews its lease with each heartbeat and holds a session advisory lock, which the kernel
frees when the process dies. Lost is who let the lease expire, or whose lock was seen free in two
looks with no heartbeat between. Whoever declares a worker lost ends its sessions before its jobs
become ready, so that no transaction of the dead holds rows that the successor needs.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.faults import DATABASE_ERRORS
from django_durable.engine.rows import new_worker, workers
from django_durable.engine.sql import Connection, fetch_all, fetch_one, load

HEARTBEAT = load("heartbeat")
FIND_SUSPICIOUS_WORKERS = load("find_suspicious_workers")
DECLARE_LOST = load("declare_lost")
END_SESSIONS = load("end_sessions")
RECOVER_JOBS = load("recover_jobs")
TAKE_LOCK = load("take_lock")
NOTE_BEGUN = load("note_begun")
READ_PLACE = load("read_place")
FIND_PROTECTED_ROLES = load("find_protected_roles")

LOCK_NAMESPACE = 0x64757261
"""First key of every worker's advisory lock; the second is the worker's id."""
_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a worker says of itself when it starts.

    Empty ``queues``: it serves all, or those of its patterns.
    """

    hostname: str
    pid: int
    queues: Sequence[str]
    slots: int
    code_version: str
    lease: timedelta
    queue_patterns: Sequence[str] = ()


def register_worker(alias: str, registration: Registration) -> int:
    """Insert a worker's row under a new random id, alive for one lease; the id."""
    worker_id = random.SystemRandom().randint(1, _LARGEST_ID)
    now = StatementTimestamp()
    row = new_worker(
        id=worker_id,
        hostname=registration.hostname,
        pid=registration.pid,
        queues=list(registration.queues),
        queue_patterns=list(registration.queue_patterns),
        slots=registration.slots,
        code_version=registration.code_version,
        lease=registration.lease,
        started_at=now,
        heartbeat_at=now,
        lease_expires_at=now + registration.lease,
    )
    workers(alias).bulk_create([row])
    return worker_id


def session_name(worker_id: int) -> str:
    """The ``application_name`` of every session of a worker."""
    return f"durable:{worker_id}"


def take_lock(connection: Connection, worker_id: int) -> bool:
    """Take the worker's advisory lock for this session; False while an older session has it."""
    row = fetch_one(connection, TAKE_LOCK, {"namespace": LOCK_NAMESPACE, "worker_id": worker_id})
    return bool(row and row[0])


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a heartbeat. Not alive: this worker was declared lost."""

    alive: bool
    cancelled: list[UUID]


def heartbeat(connection: Connection, *, worker_id: int, has_lock: bool, backlogged: bool) -> Beat:
    """Renew a worker's lease; also brings the jobs whose cancelling was asked for."""
    params = {"worker_id": worker_id, "has_lock": has_lock, "backlogged": backlogged}
    row = fetch_one(connection, HEARTBEAT, params)
    assert row is not None  # a select of two expressions returns one row
    return Beat(*row)


def set_backlogged(alias: str, worker_id: int, *, backlogged: bool) -> None:
    """Say whether enqueueing needs to wake this worker."""
    workers(alias).filter(pk=worker_id).update(backlogged=backlogged)


def mark_stopping(alias: str, worker_id: int) -> None:
    """Say that the worker was told to stop: jobs it loses from now on are not its fault."""
    workers(alias).filter(pk=worker_id).update(stopping_at=StatementTimestamp())


def mark_stopped(alias: str, worker_id: int) -> None:
    """Say that the worker ended in good order."""
    live = workers(alias).filter(pk=worker_id, lost_at__isnull=True)
    live.update(stopped_at=StatementTimestamp(), has_lock=False)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A worker that looked dead in one look."""

    worker_id: int
    heartbeat_at: datetime
    expired: bool


def find_suspicious_workers(connection: Connection, *, own_id: int) -> list[Suspicion]:
    """Workers whose lease expired or whose lock is free; nobody while the server is young."""
    params = {"own_id": own_id, "namespace": LOCK_NAMESPACE}
    return [Suspicion(*row) for row in fetch_all(connection, FIND_SUSPICIOUS_WORKERS, params)]


@dataclass(frozen=True, slots=True)
class Declared:
    """A worker declared lost. ``problem``: why its sessions could not be ended, if so."""

    hostname: str
    pid: int
    problem: BaseException | None


def declare_lost(alias: str, suspicion: Suspicion) -> Declared | None:
    """Declare a worker lost and end its sessions, in one transaction.

    None: it gave a sign of life since, or a claim of its own is under way. Nobody else can give its
    jobs back before its sessions are ended, since nobody sees the verdict before.
    """
    params = {"worker_id": suspicion.worker_id, "heartbeat_at": suspicion.heartbeat_at}
    problem = None
    with transaction.atomic(using=alias):
        row = fetch_one(connections[alias], DECLARE_LOST, params)
        if row is None:
            return None
        try:
            with transaction.atomic(using=alias):
                end_sessions(connections[alias], suspicion.worker_id)
        except DATABASE_ERRORS as error:
            problem = error
    return Declared(row[0], row[1], problem)


def end_sessions(connection: Connection, worker_id: int) -> int:
    """End the sessions of a lost worker; how many there were. Needs the same database role."""
    return len(fetch_all(connection, END_SESSIONS, {"session_name": session_name(worker_id)}))


def note_begun(connection: Connection, claims: Sequence[tuple[UUID, int]]) -> set[UUID]:
    """Note of jobs claimed ahead, by id and lease token, that they have begun: losing counts.

    Returns: the ids of those noted; others, whose rows somebody holds, are to be noted again.
    """
    params = {
        "job_ids": [job_id for job_id, _ in claims],
        "lease_tokens": [token for _, token in claims],
    }
    return {job_id for (job_id,) in fetch_all(connection, NOTE_BEGUN, params)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session has come to: equal for two sessions at the same jobs."""

    database: str
    server_started_at: datetime
    job_table: int | None


def read_place(connection: Connection) -> tuple[Place, str]:
    """Where a session has come to, and under which role."""
    row = fetch_one(connection, READ_PLACE, {})
    assert row is not None  # a select without a table returns one row
    *place, role = row
    return Place(*place), role


def find_protected_roles(connection: Connection, roles: Sequence[str]) -> list[str]:
    """Those of some roles whose sessions this connection's role may not end."""
    rows = fetch_all(connection, FIND_PROTECTED_ROLES, {"roles": list(roles)})
    return [name for (name,) in rows]


@dataclass(frozen=True, slots=True)
class Recovered:
    """A job given back, to be claimed again."""

    job_id: UUID
    task_path: str
    worker_id: int
    lost_count: int


def recover_jobs(connection: Connection, *, limit: int) -> list[Recovered]:
    """Give back up to ``limit`` running jobs whose worker is lost, ended or gone."""
    params = {"limit": limit, **get_settings().notify_parameters}
    return [Recovered(*row[:4]) for row in fetch_all(connection, RECOVER_JOBS, params)]
