"""Giving up the slot while waiting, and becoming ready again: when a time has come, or an event.

Whoever brings an event, and whoever is suspended for one, first locks the event's row; what they
then look for they look for in a later statement. So no wake-up is lost, and a wake-up is only a
hint: the job looks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django_durable.conf import get_settings
from django_durable.engine.sql import Connection, array, execute, fetch_all, fetch_one, load
from django_durable.engine.states import WaitKind

SUSPEND_JOB = load("suspend_job")
LOCK_EVENTS = load("lock_events")
LOCK_MAILBOXES = load("lock_mailboxes")
LOOK_AT_WAITS = load("look_at_waits")
EMIT_EVENTS = load("emit_events")
INSERT_MESSAGES = load("insert_messages")
LOCK_WAITING = load("lock_waiting")
WAKE_JOBS = load("wake_jobs")
TAKE_MESSAGE = load("take_message")
PUT_MESSAGES_BACK = load("put_messages_back")
READ_EVENT = load("read_event")
END_TIMERS = load("end_timers")
PROMOTE_DUE = load("promote_due")
WAKE_BLOCKED = load("wake_blocked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One thing a job is suspended for: a time, something that comes, or a step's next try.

    ``checkpoint`` (a ``NewCheckpoint``) is STARTED for a wait, RETRYING for a step. It ends at
    ``until`` or after ``timeout``, or never; what ends it before is one of ``event_key``,
    ``message_name`` and ``awaited_as`` (the job's own children).
    """

    checkpoint: Any
    kind: WaitKind
    reason: str
    until: datetime | None = None
    timeout: timedelta | None = None
    event_key: str | None = None
    message_name: str | None = None
    awaited_as: str | None = None

    @property
    def key(self) -> str | None:
        """What wakes the job, as its checkpoint's ``wait_key``."""
        if self.event_key is not None:
            return event_key(self.event_key)
        if self.message_name is not None:
            return message_key(self.checkpoint.job_id, self.message_name)
        if self.awaited_as is not None:
            return children_key(self.checkpoint.job_id, self.awaited_as)
        return None


def event_key(key: str) -> str:
    return f"event/{key}"


def message_key(job_id: UUID, name: str) -> str:
    return f"message/{job_id}/{name}"


def children_key(parent_id: UUID, awaited_as: str) -> str:
    return f"children/{parent_id}/{awaited_as}"


# --- suspending


@dataclass(frozen=True, slots=True)
class Suspended:
    """The state the job went to: WAITING, SCHEDULED for a step's retry, READY if due at once.

    ``cancelled``: it runs on, to be ended, since cancelling was asked for.
    """

    cancelled: bool
    state: str
    due_at: datetime


def lock_waits(connection: Connection, waits: Sequence[Wait]) -> None:
    """Lock the events and mailboxes of some waits, to commit; first in a transaction."""
    if keys := [wait.event_key for wait in waits if wait.event_key is not None]:
        lock_events(connection, keys)
    if boxes := [w for w in waits if w.message_name is not None]:
        names = [wait.message_name for wait in boxes]
        ids = [wait.checkpoint.job_id for wait in boxes]
        fetch_all(connection, LOCK_MAILBOXES, {"job_ids": ids, "names": names})


def lock_events(connection: Connection, keys: Sequence[str]) -> None:
    """Lock the rows of broadcast events, made if need be, to commit; first in a transaction."""
    fetch_all(connection, LOCK_EVENTS, {"keys": sorted(set(keys))})


def suspend_job(
    connection: Connection, waits: Sequence[Wait], *, again: timedelta | None = None
) -> Suspended | None:
    """Record what a job waits for and suspend it, in one statement under its lease.

    ``again``: be ready after so long at the latest. None: the lease is lost, or an earlier call
    whose answer was lost did it. Raises: database errors.
    """
    checkpoints = [wait.checkpoint for wait in waits]
    params: dict[str, Any] = {
        column: array(getattr(row, attribute) for row in checkpoints)
        for column, attribute in _ARRAYS.items()
    }
    params |= {
        "wait_keys": array(wait.key for wait in waits),
        "untils": array(wait.until for wait in waits),
        "timeouts": array(wait.timeout for wait in waits),
        "job_id": checkpoints[0].job_id,
        "lease_token": checkpoints[0].lease_token,
        "again": again,
        **describe_waits(waits),
    }
    row = fetch_one(connection, SUSPEND_JOB, params)
    return None if row is None else Suspended(*row)


_ARRAYS = {
    "identities": "identity",
    "seqs": "seq",
    "kinds": "kind",
    "states": "state",
    "functions": "function",
    "fingerprints": "fingerprint",
    "attempts": "attempt",
    "values": "value",
    "errors": "error",
    "elapseds": "elapsed",
}


def describe_waits(waits: Sequence[Wait]) -> dict[str, Any]:
    """What people read of a job that waits: the kind, the name, and the words."""
    kinds = {wait.kind for wait in waits}
    keys = [wait.event_key or wait.message_name or wait.awaited_as for wait in waits]
    return {
        "kind": kinds.pop() if len(kinds) == 1 else WaitKind.SEVERAL,
        "wait_key": keys[0] if len(waits) == 1 else None,
        "reason": "; ".join(dict.fromkeys(wait.reason for wait in waits))[:LONGEST_REASON],
    }


LONGEST_REASON = 500


def has_come(connection: Connection, waits: Sequence[Wait]) -> bool:
    """Whether something waited for is there by now. After the locks, in a statement of its own."""
    params = {
        "job_id": waits[0].checkpoint.job_id,
        "event_keys": [wait.event_key for wait in waits if wait.event_key is not None],
        "message_names": [wait.message_name for wait in waits if wait.message_name is not None],
        "children": [wait.awaited_as for wait in waits if wait.awaited_as is not None],
    }
    row = fetch_one(connection, LOOK_AT_WAITS, params)
    return row is not None and bool(row[0])


def wake_jobs(connection: Connection, job_ids: Sequence[UUID]) -> int:
    """Make waiting jobs ready that this transaction has locked; how many."""
    row = fetch_one(
        connection, WAKE_JOBS, {"ids": list(job_ids), **get_settings().notify_parameters}
    )
    assert row is not None  # an aggregate without grouping returns one row
    return int(row[0])


# --- what comes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """A broadcast event to emit."""

    key: str
    payload: str

    @property
    def wakes(self) -> str:
        return event_key(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """An event to send to one job."""

    job_id: UUID
    name: str
    payload: str
    idempotency_key: str | None = None

    @property
    def wakes(self) -> str:
        return message_key(self.job_id, self.name)


@dataclass(frozen=True, slots=True)
class Sender:
    """The job that emits or sends, and its lease."""

    job_id: UUID
    lease_token: int


class SenderLost(Exception):  # noqa: N818 (an answer: the sending job's lease is lost)
    """The sending job is no longer this one's to write for; the transaction must be rolled back."""


def deliver(
    connection: Connection, items: Sequence[NewEvent | NewMessage], sender: Sender | None
) -> int:
    """Write events and messages and wake who waits for them; how many were new.

    Inside a transaction of the caller's. Locks: event rows by key, mailboxes by job and name, then
    the sender's row and the waiting jobs by id. Raises: SenderLost.
    """
    new = _emit(connection, [item for item in items if isinstance(item, NewEvent)])
    new += _send(connection, [item for item in items if isinstance(item, NewMessage)])
    params = {
        "wait_keys": sorted({item.wakes for item in items}),
        "own_id": sender.job_id if sender else None,
    }
    locked = fetch_all(connection, LOCK_WAITING, params)
    if sender is not None and (sender.job_id, sender.lease_token, "RUNNING") not in {
        tuple(row[:3]) for row in locked
    }:
        raise SenderLost
    waiting = [row[0] for row in locked if row[2] == "WAITING"]
    if waiting:
        wake_jobs(connection, waiting)
    return new


def _emit(connection: Connection, events: Sequence[NewEvent]) -> int:
    if not events:
        return 0
    first = {event.key: event.payload for event in reversed(events)}
    params = {"keys": array(first), "payloads": array(first.values())}
    return len(fetch_all(connection, EMIT_EVENTS, params))


def _send(connection: Connection, messages: Sequence[NewMessage]) -> int:
    if not messages:
        return 0
    boxes = {
        "job_ids": [message.job_id for message in messages],
        "names": [message.name for message in messages],
    }
    fetch_all(connection, LOCK_MAILBOXES, boxes)
    params = {
        "job_ids": array(message.job_id for message in messages),
        "names": array(message.name for message in messages),
        "payloads": array(message.payload for message in messages),
        "idempotency_keys": array(message.idempotency_key for message in messages),
    }
    return len(fetch_all(connection, INSERT_MESSAGES, params))


# --- taking it


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer of a look into a mailbox; ``value`` is that of the checkpoint, None if empty."""

    held: bool
    cancelled: bool
    value: str | None


def take_message(connection: Connection, checkpoint: Any, name: str) -> Taken:
    """Take the oldest message as a checkpoint (a ``NewCheckpoint``), if there is one."""
    params = {
        "job_id": checkpoint.job_id,
        "lease_token": checkpoint.lease_token,
        "name": name,
        "identity": checkpoint.identity,
        "seq": checkpoint.seq,
        "function": checkpoint.function,
    }
    return Taken(*fetch_all(connection, TAKE_MESSAGE, params)[0])


def put_messages_back(
    connection: Connection, job_id: UUID, lease_token: int, identities: Sequence[str]
) -> None:
    """Forget that these waits have taken their messages; nothing without the lease. Idempotent."""
    params = {"job_id": job_id, "lease_token": lease_token, "identities": list(identities)}
    execute(connection, PUT_MESSAGES_BACK, params)


def read_event(connection: Connection, key: str) -> str | None:
    """The value of a wait for a broadcast event, as its checkpoint keeps it; None: not emitted."""
    row = fetch_one(connection, READ_EVENT, {"key": key})
    return None if row is None else str(row[0])


# --- time


def promote_due(connection: Connection, *, limit: int) -> int:
    """Make up to ``limit`` due jobs ready and wake their queues; how many."""
    row = fetch_one(connection, PROMOTE_DUE, {"limit": limit, **get_settings().notify_parameters})
    assert row is not None  # an aggregate without grouping returns one row
    return int(row[0])


def end_timers(connection: Connection, job_id: UUID) -> bool:
    """Let a sleeping or scheduled job go on at once; False if it is neither.

    In a transaction of the caller's that has locked the job.
    """
    params = {"job_id": job_id, **get_settings().notify_parameters}
    return fetch_one(connection, END_TIMERS, params) is not None


def wake_blocked(connection: Connection, *, code_version: str) -> int:
    """Make jobs ready that another version of the code could not replay; how many."""
    return execute(connection, WAKE_BLOCKED, {"code_version": code_version})
