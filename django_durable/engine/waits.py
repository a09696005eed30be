"""Giving up the slot while waiting, and becoming ready again when the time has come."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django_durable.conf import get_settings
from django_durable.engine.sql import Connection, execute, fetch_one, load

SUSPEND_FOR_RETRY = load("suspend_for_retry")
PROMOTE_DUE = load("promote_due")
WAKE_BLOCKED = load("wake_blocked")


@dataclass(frozen=True, slots=True)
class Suspended:
    """The state the job went to: SCHEDULED, READY if due at once, or CANCELLED."""

    state: str
    due_at: datetime


def suspend_for_retry(
    connection: Connection, checkpoint: Any, *, delay: timedelta, reason: str
) -> Suspended | None:
    """Record a step's failed try (a ``NewCheckpoint``) and suspend its job for ``delay``.

    None: the lease is lost, or an earlier call whose answer was lost did it.
    """
    params = {name: getattr(checkpoint, name) for name in _COLUMNS}
    row = fetch_one(connection, SUSPEND_FOR_RETRY, {**params, "delay": delay, "reason": reason})
    return None if row is None else Suspended(*row)


_COLUMNS = (
    "job_id", "lease_token", "identity", "seq", "kind", "function", "fingerprint", "attempt",
    "error", "elapsed",
)  # fmt: skip


def promote_due(connection: Connection, *, limit: int) -> int:
    """Make up to ``limit`` due jobs ready and wake their queues; how many."""
    row = fetch_one(connection, PROMOTE_DUE, {"limit": limit, **get_settings().notify_parameters})
    assert row is not None  # an aggregate without grouping returns one row
    return int(row[0])


def wake_blocked(connection: Connection, *, code_version: str) -> int:
    """Make jobs ready that another version of the code could not replay; how many."""
    return execute(connection, WAKE_BLOCKED, {"code_version": code_version})
