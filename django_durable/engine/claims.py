"""Taking jobs: who runs what, proved by a number that grows with each claim.

A claim is one short READ COMMITTED transaction, committed before any user code runs. It holds its
worker's row, so that the worker is not declared lost meanwhile, and skips rows that others hold.
Only tasks known to this process are claimed. A job that lost its worker twice is a suspect and is
claimed alone, so that only the guilty one comes to the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Q

from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.rows import load_jobs
from django_durable.engine.sql import Connection, fetch_all, fetch_one, id_array, load
from django_durable.engine.states import JobState

if TYPE_CHECKING:
    from django_durable.models import Job

HOLD_WORKER = load("hold_worker")
HOLD_WORKER_ALONE = load("hold_worker_alone")
RELEASE_UNKNOWN_JOBS = load("release_unknown_jobs")
CHECK_LEASE = load("check_lease")
HOLD_LEASE = load("hold_lease")
MARK_RUNNING = load("mark_running")
FIND_READY_QUEUES = load("find_ready_queues")
SUSPECT_FROM = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who claims, and what it can run. ``max_lost`` is the number of losses that makes poison."""

    worker_id: int
    alias: str
    task_paths: Sequence[str]
    code_version: str
    max_lost: int


class WorkerLost(Exception):  # noqa: N818 (an answer: this worker was declared lost)
    """The claimant was declared lost: nothing was claimed; drop all jobs and register anew."""


def claim_jobs(
    claimant: Claimant, queues: Iterable[str], *, limit: int, ahead: int = 0
) -> list[Job]:
    """Claim up to ``limit`` ready jobs, asking the queues in their order.

    And up to ``ahead`` more, for which no slot is free yet: they are not known to have begun.

    Returns: the claimed rows as they now stand, at best ``limit``; ``[]`` is normal. Raises:
    WorkerLost; database errors, after which ``release_unknown_jobs`` tells what was committed.
    """
    return _claim(claimant, queues, ~_suspect(claimant), limit, ahead)


def claim_suspect(claimant: Claimant, queues: Iterable[str]) -> list[Job]:
    """Claim one job that lost its worker before, for a worker that holds nothing else."""
    return _claim(claimant, queues, _suspect(claimant), 1)


def has_suspect(claimant: Claimant, queues: Iterable[str]) -> bool:
    """Whether a suspect waits that this worker could run."""
    suspects = job_rows(claimant.alias).filter(
        _suspect(claimant),
        state=JobState.READY,
        queue_name__in=list(queues),
        task_path__in=claimant.task_paths,
    )
    return suspects.exists()


def _suspect(claimant: Claimant) -> Q:
    """Lost its worker before, but is to run: not poison, or poison that undoes its steps."""
    undoes = Q(ends_as__isnull=False, lost_count__lt=undoing_limit(claimant.max_lost))
    return Q(lost_count__gte=SUSPECT_FROM) & (Q(lost_count__lt=claimant.max_lost) | undoes)


def is_suspect(lost_count: int, ends_as: str | None, max_lost: int) -> bool:
    """The same of a job that was read."""
    most = max_lost if ends_as is None else undoing_limit(max_lost)
    return SUSPECT_FROM <= lost_count < most


def undoing_limit(max_lost: int) -> int:
    """How many workers a job loses before its steps are not undone any more."""
    return 2 * max_lost


def find_ready_queues(connection: Connection) -> list[str]:
    """The names of all queues that have ready jobs."""
    return [row[0] for row in fetch_all(connection, FIND_READY_QUEUES, {})]


def _claim(
    claimant: Claimant, queues: Iterable[str], fit: Q, limit: int, ahead: int = 0
) -> list[Job]:
    claimed: list[Job] = []
    limit += ahead
    with transaction.atomic(using=claimant.alias):
        connection = connections[claimant.alias]
        if fetch_one(connection, HOLD_WORKER, {"worker_id": claimant.worker_id}) is None:
            raise WorkerLost
        for queue_name in queues:
            if len(claimed) >= limit:
                break
            claimed += _lock_ready(claimant, queue_name, fit, limit - len(claimed))
        claimed = _divide(claimed, limit - ahead)
        if claimed:
            _mark_running(claimant, claimed)
    return claimed


def _divide(jobs: list[Job], limit: int) -> list[Job]:
    """Mark those claimed ahead; without those lost before they were known to have begun."""
    at_once = jobs[:limit]
    later = [job for job in jobs[limit:] if not job.claimed_ahead]
    for job in at_once:
        job.claimed_ahead = False
    for job in later:
        job.claimed_ahead = True
    return at_once + later


def _lock_ready(claimant: Claimant, queue_name: str, fit: Q, limit: int) -> list[Job]:
    statement, params = _compile_claim(
        claimant.alias, tuple(claimant.task_paths), queue_name, fit, limit
    )
    return load_jobs(claimant.alias, statement, params)


@lru_cache(maxsize=256)
def _compile_claim(
    alias: str, task_paths: tuple[str, ...], queue_name: str, fit: Q, limit: int
) -> tuple[str, tuple[Any, ...]]:
    """The claim's SELECT, as Django writes it; kept, since writing it takes longer than running."""
    ready = (
        job_rows(alias)
        .filter(fit, state=JobState.READY, queue_name=queue_name)
        .filter(task_path__in=task_paths, limit_name__isnull=True)
        .order_by("-priority", "due_at", "id")
        .select_for_update(skip_locked=True, no_key=True)
    )
    statement, params = ready[:limit].query.get_compiler(alias).as_sql()
    return statement, tuple(params)


def _mark_running(claimant: Claimant, jobs: list[Job]) -> None:
    params = {
        "ids": id_array(job.pk for job in jobs),
        "ahead_ids": id_array(job.pk for job in jobs if job.claimed_ahead),
        "worker_id": claimant.worker_id,
        "code_version": claimant.code_version,
    }
    ((claimed_at,),) = fetch_all(connections[claimant.alias], MARK_RUNNING, params)
    for job in jobs:
        job.lease_token += 1  # its row is locked
        job.claimed_at = claimed_at
        job.started_at = job.started_at or claimed_at
        job.state = JobState.RUNNING
        job.worker_id = claimant.worker_id
        job.code_version = claimant.code_version


def release_unknown_jobs(
    connection: Connection, *, worker_id: int, known: Iterable[tuple[UUID, int]]
) -> list[UUID]:
    """Give back jobs that run under this worker's name without its knowing; in a transaction.

    Needed after a claim whose COMMIT went unanswered. ``known`` are the (job, token) pairs it runs.
    Locks the worker's row first, which waits for a claim that is still in flight.
    """
    fetch_all(connection, HOLD_WORKER_ALONE, {"worker_id": worker_id})
    pairs = list(known)
    params = {
        "worker_id": worker_id,
        "job_ids": [job_id for job_id, _ in pairs],
        "lease_tokens": [token for _, token in pairs],
    }
    return [row[0] for row in fetch_all(connection, RELEASE_UNKNOWN_JOBS, params)]


def hold_lease(connection: Connection, job_id: UUID, lease_token: int) -> bool:
    """Whether a claim is still good, and then it stays so to the end of the transaction."""
    params = {"job_id": job_id, "lease_token": lease_token}
    return fetch_one(connection, HOLD_LEASE, params) is not None


def check_lease(connection: Connection, job_id: UUID, lease_token: int) -> bool:
    """Whether a claim is still good, as the database says."""
    params = {"job_id": job_id, "lease_token": lease_token}
    return fetch_one(connection, CHECK_LEASE, params) is not None
