"""The saved outcomes of steps: save them under the lease, read them all when a job is claimed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django_durable.engine.replay import Recorded
from django_durable.engine.rows import checkpoints as checkpoint_rows
from django_durable.engine.sql import Connection, array, execute, fetch_all, fetch_one, load

SAVE_CHECKPOINT = load("save_checkpoint")
SAVE_CHECKPOINTS = load("save_checkpoints")
SAVE_COMPENSATION = load("save_compensation")
READ_CHECKPOINT = load("read_checkpoint")


@dataclass(slots=True, kw_only=True)
class NewCheckpoint:
    """A checkpoint to save under a lease. ``elapsed`` since the step's try began.

    ``compensation`` is the call that undoes this step, encoded; ``undoes`` the identity of the step
    that is undone by this success.
    """

    job_id: UUID
    lease_token: int
    identity: str
    seq: int
    kind: str
    state: str
    function: str
    fingerprint: str | None
    attempt: int
    elapsed: timedelta
    value: str | None = None
    error: str | None = None
    compensation: str | None = None
    undoes: str | None = None

    def as_recorded(self) -> Recorded:
        return Recorded(
            identity=self.identity,
            seq=self.seq,
            kind=self.kind,
            state=self.state,
            lease_token=self.lease_token,
            fingerprint=self.fingerprint,
            attempt=self.attempt,
            value=self.value,
            error=self.error,
            compensation=self.compensation,
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a save. Not held: the lease is lost. Not saved: a final row stands there."""

    held: bool
    saved: bool
    cancelled: bool


_NOT_HELD = Saved(held=False, saved=False, cancelled=False)
_SAVED = Saved(held=True, saved=True, cancelled=False)


def save_checkpoints(connection: Connection, checkpoints: Sequence[NewCheckpoint]) -> list[Saved]:
    """Save checkpoints in one statement; the answers in the same order.

    A lone one takes a cheaper statement, and this one only if there is more to say than that it is
    saved. One that says that a step is undone takes its own. Locks: the jobs' rows for share until
    commit. Idempotent: repeated after a lost answer it finds its own row, not saved but held.
    """
    if len(checkpoints) == 1:
        if checkpoints[0].undoes is not None:
            return [_save_compensation(connection, checkpoints[0])]
        if execute(connection, SAVE_CHECKPOINT, _columns(checkpoints[0])):
            return [_SAVED]
    elif any(checkpoint.undoes is not None for checkpoint in checkpoints):
        return [save_checkpoints(connection, [checkpoint])[0] for checkpoint in checkpoints]
    params: dict[str, Any] = {
        column: array(getattr(row, attribute) for row in checkpoints)
        for column, attribute in _ARRAYS.items()
    }
    answers: list[Saved] = [_NOT_HELD] * len(checkpoints)
    for index, *answer in fetch_all(connection, SAVE_CHECKPOINTS, params):
        answers[index - 1] = Saved(*answer)
    return answers


def _save_compensation(connection: Connection, checkpoint: NewCheckpoint) -> Saved:
    """Save it and mark the step that it undoes, in one statement."""
    row = fetch_one(connection, SAVE_COMPENSATION, _columns(checkpoint))
    assert row is not None  # a select without from returns one row
    return Saved(*row)


def _columns(checkpoint: NewCheckpoint) -> dict[str, Any]:
    return {name: getattr(checkpoint, name) for name in NewCheckpoint.__slots__}


_ARRAYS = {
    "job_ids": "job_id",
    "lease_tokens": "lease_token",
    "identities": "identity",
    "seqs": "seq",
    "kinds": "kind",
    "states": "state",
    "functions": "function",
    "fingerprints": "fingerprint",
    "attempts": "attempt",
    "values": "value",
    "errors": "error",
    "compensations": "compensation",
    "elapseds": "elapsed",
}


def read_checkpoint(connection: Connection, job_id: UUID, identity: str) -> Recorded | None:
    """The checkpoint under an identity, or None."""
    row = fetch_one(connection, READ_CHECKPOINT, {"job_id": job_id, "identity": identity})
    return None if row is None else Recorded(**dict(zip(_READ, row, strict=True)))


_READ = (
    "identity", "seq", "kind", "state", "lease_token", "fingerprint", "attempt", "value", "error",
    "started_at", "saved_at", "next_attempt_at", "wait_key", "compensation",
)  # fmt: skip


def load_checkpoints(alias: str, job_ids: Sequence[UUID]) -> dict[UUID, list[Recorded]]:
    """All checkpoints of some jobs, in one query. Call it after the jobs are locked, never before.

    No jobs, no query.
    """
    if not job_ids:
        return {}
    rows = checkpoint_rows(alias).filter(job_id__in=job_ids).order_by("seq")
    found: dict[UUID, list[Recorded]] = {}
    for row in rows:
        record = Recorded(**{name: getattr(row, name) for name in _READ})
        found.setdefault(row.job_id, []).append(record)
    return found
