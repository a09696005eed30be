"""How attempts end, and the verbs that end or reopen jobs from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine.sql import Connection, array, fetch_all, fetch_one, load
from django_durable.engine.states import JobState

FINISH_JOBS = load("finish_jobs")
CANCEL_JOBS = load("cancel_jobs")
READ_SUCCESS = load("read_success")
LOCK_JOBS = load("lock_jobs")
RETRY_JOBS = load("retry_jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended, to be written under its lease.

    SCHEDULED is a retry after ``delay``; WAITING a block, for ``reason``; READY a job handed back.
    ``return_value`` and ``error`` are encoded texts.
    """

    job_id: UUID
    lease_token: int
    state: JobState
    return_value: str | None = None
    error: str | None = None
    delay: timedelta | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The state the job went to: CANCELLED whatever was wanted, if cancelling was asked for."""

    state: JobState
    due_at: datetime


def finish_jobs(connection: Connection, outcomes: Sequence[Outcome]) -> list[Written | None]:
    """Write outcomes in one statement; None where the lease was lost (or it was written before)."""
    params: dict[str, Any] = {
        column: array(getattr(outcome, attribute) for outcome in outcomes)
        for column, attribute in _ARRAYS.items()
    }
    params["states"] = array(outcome.state.value for outcome in outcomes)
    answers: list[Written | None] = [None] * len(outcomes)
    for index, state, due_at in fetch_all(connection, FINISH_JOBS, params):
        answers[index - 1] = Written(JobState(state), due_at)
    return answers


_ARRAYS = {
    "job_ids": "job_id",
    "lease_tokens": "lease_token",
    "return_values": "return_value",
    "errors": "error",
    "delays": "delay",
    "reasons": "reason",
}


def has_succeeded(connection: Connection, job_id: UUID, lease_token: int) -> bool:
    """Whether the claim with this token ended its job SUCCESSFUL."""
    params = {"job_id": job_id, "lease_token": lease_token}
    return fetch_one(connection, READ_SUCCESS, params) is not None


@dataclass(frozen=True, slots=True)
class Changed:
    """What a verb found and did: the state before, and whether the verb applied."""

    job_id: UUID
    task_path: str
    before: JobState
    changed: bool


def cancel_jobs(alias: str, job_ids: Sequence[UUID]) -> list[Changed]:
    """Cancel jobs in one transaction; one that runs is asked to stop.

    Jobs missing from the answer do not exist. Locks the jobs by id first, decides afterwards.
    """
    return _change(alias, job_ids, CANCEL_JOBS, {})


def retry_jobs(
    alias: str,
    job_ids: Sequence[UUID],
    *,
    rerun_interrupted: bool = False,
    allowed_steps: Sequence[str] = (),
) -> list[Changed]:
    """Make failed, cancelled and blocked jobs ready again, each from the step that ended it."""
    params = {
        "rerun_interrupted": rerun_interrupted,
        "allowed_steps": list(allowed_steps),
        **get_settings().notify_parameters,
    }
    return _change(alias, job_ids, RETRY_JOBS, params)


def _change(
    alias: str, job_ids: Sequence[UUID], statement: str, params: dict[str, Any]
) -> list[Changed]:
    ids = {"ids": sorted(job_ids)}
    with transaction.atomic(using=alias):
        found = fetch_all(connections[alias], LOCK_JOBS, ids)
        changed = {row[0] for row in fetch_all(connections[alias], statement, params | ids)}
    return [
        Changed(job_id, path, JobState(before), job_id in changed) for job_id, path, before in found
    ]
