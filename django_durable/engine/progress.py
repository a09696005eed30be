"""What a job tells about itself while it runs: how far it has come, and named values.

Apart from the job's row, which is hot. Each function is one statement under the lease.
"""

import threading
from dataclasses import dataclass, field
from uuid import UUID

from django_durable.engine.sql import Connection, execute, fetch_one, load

SAVE_PROGRESS = load("save_progress")
SAVE_VALUE = load("save_value")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProgress:
    """How far a job has come, in its own counting. ``total`` is None while it is not known."""

    done: int
    total: int | None
    note: str

    @property
    def is_complete(self) -> bool:
        return self.total is not None and self.done >= self.total


@dataclass(slots=True, eq=False)
class Report:
    """The progress that a run has told and that is not written yet; locked while it is."""

    latest: NewProgress | None = None
    is_replayed: bool = False
    is_complete: bool = False
    """Whether what was written last was all."""
    tried_at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a progress. Held but not saved: the job's row is locked, try again later."""

    saved: bool
    held: bool


def save_progress(
    connection: Connection, job_id: UUID, lease_token: int, progress: NewProgress
) -> Told:
    """Write how far a job has come. Waits for no lock."""
    params = {
        "job_id": job_id,
        "lease_token": lease_token,
        "done": progress.done,
        "total": progress.total,
        "note": progress.note,
    }
    row = fetch_one(connection, SAVE_PROGRESS, params)
    assert row is not None  # it selects from nothing, so there is one row
    return Told(*row)


def save_value(
    connection: Connection, job_id: UUID, lease_token: int | None, key: str, value: str
) -> bool:
    """Publish a value, encoded; False if the lease is lost. ``lease_token`` None: fenced later."""
    params = {"job_id": job_id, "lease_token": lease_token, "key": key, "value": value}
    return execute(connection, SAVE_VALUE, params) == 1
