"""What operations read of the rows: bounded counts, the database's clock, who is alive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import Count, Q

from django_durable.conf import get_settings
from django_durable.engine import claims, overview
from django_durable.engine.counting import MOST as MOST
from django_durable.engine.counting import ZERO as ZERO
from django_durable.engine.counting import Bounded as Bounded
from django_durable.engine.instances import TaskError
from django_durable.engine.liveness import find_suspicious_workers
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.rows import workers as worker_rows
from django_durable.engine.serving import Serving
from django_durable.management.operations.output import age

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_durable.models import Job, JobQuerySet

LOST_LATELY = timedelta(days=1)
LIVE, STOPPING, SILENT, LOST, ENDED = "live", "stopping", "silent", "lost", "ended"
"""Where a worker stands. Silent: it looks dead, and nobody has declared it lost yet."""


def count_rows(rows: QuerySet[Any]) -> Bounded:
    """How many rows a queryset has, reading ``MOST`` of them at most."""
    count = rows.order_by()[:MOST].count()
    return Bounded(count, count < MOST)


def jobs_alias() -> str:
    return get_settings().DATABASE


def all_jobs() -> JobQuerySet:
    return job_rows(jobs_alias())


def database_now() -> datetime:
    return overview.database_now(jobs_alias())


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker's row in words, and how many jobs it runs."""

    id: int
    hostname: str
    pid: int
    state: str
    heartbeat_at: datetime
    lease_expires_at: datetime
    lost_at: datetime | None
    started_at: datetime
    slots: int
    running: int
    queues: Sequence[str]
    queue_patterns: Sequence[str]
    code_version: str
    lock_is_free: bool
    """Whether the lock is free that it says it holds: the kernel frees it when the process dies."""

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid} (worker {self.id})"

    @property
    def is_alive(self) -> bool:
        return self.state in (LIVE, STOPPING)

    def silence(self, now: datetime) -> str:
        """Why it looks dead."""
        if self.lease_expires_at < now:
            return f"last heard {age(self.heartbeat_at, now)}, lease over"
        return "its lock is free, so its process has probably died"

    @property
    def serving(self) -> Serving:
        return Serving(tuple(self.queues), tuple(self.queue_patterns))

    def claims_from(self, queue_name: str) -> bool:
        """Whether it takes new jobs of this queue."""
        return self.state == LIVE and self.serving.serves(queue_name)


def read_workers(now: datetime, *, with_id: int | None = None) -> list[WorkerStatus]:
    """The workers that have not ended, those lost within a day, the one asked for; newest first."""
    lately = Q(lost_at__gt=now - LOST_LATELY)
    current = Q(lost_at__isnull=True, stopped_at__isnull=True)
    counts, unlocked = running_by_worker(), _workers_without_lock()
    rows = worker_rows(jobs_alias()).filter(lately | current | Q(pk=with_id))
    return [
        WorkerStatus(
            **{name: getattr(row, name) for name in _SHARED},
            state=_state_of(row, now, unlocked),
            running=counts.get(row.pk, 0),
            lock_is_free=row.pk in unlocked,
        )
        for row in rows.order_by("-started_at")
    ]


def running_by_worker() -> dict[int, int]:
    """How many jobs run under each worker's name."""
    held = all_jobs().filter(worker_id__isnull=False).order_by()  # as the index says it
    return dict(held.values_list("worker_id").annotate(Count("pk")))


def _workers_without_lock() -> set[int]:
    found = find_suspicious_workers(connections[jobs_alias()], own_id=0)
    return {suspicion.worker_id for suspicion in found if not suspicion.expired}


_SHARED = (
    "id", "hostname", "pid", "heartbeat_at", "lease_expires_at", "lost_at", "started_at", "slots",
    "queues", "queue_patterns", "code_version",
)  # fmt: skip


def _state_of(row: Any, now: datetime, unlocked: set[int]) -> str:
    if row.lost_at is not None:
        return LOST
    if row.stopped_at is not None:
        return ENDED
    if row.lease_expires_at < now or row.pk in unlocked:
        return SILENT
    return LIVE if row.stopping_at is None else STOPPING


def error_of(text: str | None) -> TaskError | None:
    """A stored error; a text that nothing here has written becomes the message."""
    if text is None:
        return None
    stored = json.loads(text)
    return TaskError.from_text(text) if isinstance(stored, dict) else TaskError("?", "", text)


def error_line(text: str | None) -> str:
    """An error as ``type: message``, or nothing."""
    error = error_of(text)
    return f"{error.exception_class_path}: {error.message}" if error else ""


def is_suspect(job: Job) -> bool:
    """Whether the job is claimed alone, since it lost its worker before."""
    return claims.is_suspect(job.lost_count, job.ends_as, get_settings().MAX_LOST)
