"""How attempts end, and the verbs that end or reopen jobs from outside.

What ends a child that is waited for settles its parent in the same commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connections, transaction

from django_durable.conf import get_settings
from django_durable.engine.families import find_unjoined_children, lock_jobs, settle_parents
from django_durable.engine.instances import encode_error
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.sql import (
    Connection,
    array,
    execute,
    fetch_all,
    fetch_one,
    id_array,
    load,
    one_commit,
)
from django_durable.engine.states import FINISHED, JobState
from django_durable.exceptions import DeadlineExceededError

FINISH_JOBS = load("finish_jobs")
FINISH_SUCCESSES = load("finish_successes")
CANCEL_JOBS = load("cancel_jobs")
CONTINUE_JOB = load("continue_job")
READ_SUCCESS = load("read_success")
BEGIN_COMPENSATING = load("begin_compensating")
RETRY_JOBS = load("retry_jobs")
TAKE_UNIQUE = load("take_unique")
FIND_OVERDUE = load("find_overdue")
FAIL_OVERDUE = load("fail_overdue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended, to be written under its lease.

    SCHEDULED is a retry after ``delay``; WAITING a block, for ``reason``; READY a job handed back.
    ``return_value`` and ``error`` are encoded. ``parent_id`` and ``awaited_as`` are the job's.
    ``undoes``: it has steps to undo, should it be CANCELLED instead; then it is not written.
    """

    job_id: UUID
    lease_token: int
    state: JobState
    return_value: str | None = None
    error: str | None = None
    delay: timedelta | None = None
    reason: str | None = None
    parent_id: UUID | None = None
    awaited_as: str | None = None
    undoes: bool = False

    @property
    def is_plain_success(self) -> bool:
        """Whether it is good news that concerns no other job."""
        return self.state is JobState.SUCCESSFUL and self.awaited_as is None and not self.undoes

    @property
    def may_end_a_wait(self) -> bool:
        """Whether a parent may wait for it; any outcome is CANCELLED if that was asked for."""
        return self.awaited_as is not None and self.state is not JobState.READY


@dataclass(frozen=True, slots=True)
class Written:
    """The state the job went to: CANCELLED whatever was wanted, if cancelling was asked for.

    ``due_at`` is None if it has not changed.
    """

    state: JobState
    due_at: datetime | None


def finish_jobs(connection: Connection, outcomes: Sequence[Outcome]) -> list[Written | None]:
    """Write outcomes in one commit; None where the lease was lost (or it was written before), and
    where a job that ``undoes`` is to be cancelled.

    Plain successes go first, in a lean statement that leaves alone what is not that simple. The
    rest is one statement, unless a parent waits for one of the jobs. Then all are locked first,
    parents too, and what the ends mean to the parents is drawn last.
    """
    answers = _write_successes(connection, outcomes)
    rest = [index for index, answer in enumerate(answers) if answer is None]
    if rest:
        written = _write_all(connection, [outcomes[index] for index in rest])
        for index, answer in zip(rest, written, strict=True):
            answers[index] = answer
    return answers


def _write_successes(connection: Connection, outcomes: Sequence[Outcome]) -> list[Written | None]:
    """Write the plain successes, by id as all locks are taken; None where there is more to it."""
    answers: list[Written | None] = [None] * len(outcomes)
    plain = _plain_ones_by_id(outcomes)
    if not plain:
        return answers
    params = {
        "job_ids": id_array(outcomes[index].job_id for index in plain),
        "lease_tokens": array(outcomes[index].lease_token for index in plain),
        "return_values": array(outcomes[index].return_value for index in plain),
    }
    for (number,) in fetch_all(connection, FINISH_SUCCESSES, params):
        answers[plain[number - 1]] = SUCCESS
    return answers


def _plain_ones_by_id(outcomes: Sequence[Outcome]) -> list[int]:
    plain = [index for index, outcome in enumerate(outcomes) if outcome.is_plain_success]
    return sorted(plain, key=lambda index: outcomes[index].job_id)


SUCCESS = Written(JobState.SUCCESSFUL, None)


def _write_all(connection: Connection, outcomes: Sequence[Outcome]) -> list[Written | None]:
    if not any(outcome.may_end_a_wait for outcome in outcomes):
        return _write_outcomes(connection, outcomes)
    with one_commit(connection):
        lock_jobs(connection, [outcome.job_id for outcome in outcomes])
        answers = _write_outcomes(connection, outcomes)
        ended = [
            (outcome.parent_id, outcome.awaited_as)
            for outcome, written in zip(outcomes, answers, strict=True)
            if written is not None and written.state in FINISHED
        ]
        settle_parents(connection, ended)
    return answers


def _write_outcomes(connection: Connection, outcomes: Sequence[Outcome]) -> list[Written | None]:
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
    "undoes": "undoes",
}


def begin_compensating(
    connection: Connection, job_id: UUID, lease_token: int, *, state: JobState, error: str | None
) -> JobState | None:
    """Decide how a job ends, before its steps are undone; how it ends. None: the lease is lost.

    CANCELLED, if that was asked for before; what an earlier call decided stands.
    """
    params = {"job_id": job_id, "lease_token": lease_token, "state": state.value, "error": error}
    row = fetch_one(connection, BEGIN_COMPENSATING, params)
    return None if row is None else JobState(row[0])


def has_succeeded(connection: Connection, job_id: UUID, lease_token: int) -> bool:
    """Whether the claim with this token ended its job SUCCESSFUL."""
    params = {"job_id": job_id, "lease_token": lease_token}
    return fetch_one(connection, READ_SUCCESS, params) is not None


# --- verbs


@dataclass(frozen=True, slots=True)
class Continued:
    """A job's next life, ready at ``due_at``; ``cancelled``: it runs on, to be ended instead."""

    cancelled: bool
    due_at: datetime


def continue_job(
    connection: Connection, job_id: UUID, lease_token: int, arguments: str
) -> Continued | None:
    """Start a job over with other arguments, its history deleted, in one statement.

    None: the lease is lost, or an earlier call whose answer was lost did it.
    """
    params = {"job_id": job_id, "lease_token": lease_token, "arguments": arguments}
    row = fetch_one(connection, CONTINUE_JOB, params | get_settings().notify_parameters)
    return None if row is None else Continued(*row[:2])


@dataclass(frozen=True, slots=True)
class Changed:
    """What a verb found and did: the state before, and whether the verb applied."""

    job_id: UUID
    task_path: str
    before: JobState
    changed: bool


def cancel_jobs(alias: str, job_ids: Sequence[UUID]) -> list[Changed]:
    """Cancel jobs in one transaction; one that runs, or has steps to undo, is asked to stop.

    Jobs missing from the answer do not exist. Locks the jobs and the parents that wait for them by
    id first, decides afterwards, settles the parents. Children follow: ``follow_parent``.
    """
    return _cancel(alias, job_ids, follows=False)


def follow_parent(alias: str, job_id: UUID) -> list[Changed]:
    """Cancel a child that its parent's end is to end, if that still is so.

    A chore, so the answer is empty if somebody else holds the job, or its parent.
    """
    return _cancel(alias, [job_id], follows=True)


def _cancel(alias: str, job_ids: Sequence[UUID], *, follows: bool) -> list[Changed]:
    connection = connections[alias]
    with transaction.atomic(using=alias):
        found = lock_jobs(connection, job_ids, waits=not follows)
        params = {"ids": [row[0] for row in found], "follows": follows}
        rows = fetch_all(connection, CANCEL_JOBS, params | get_settings().notify_parameters)
        settle_parents(connection, [(row[2], row[3]) for row in rows if row[1] in FINISHED])
    return _changed(found, rows)


def retry_jobs(
    alias: str,
    job_ids: Sequence[UUID],
    *,
    rerun_interrupted: bool = False,
    allowed_steps: Sequence[str] = (),
) -> list[Changed]:
    """Make failed, cancelled and blocked jobs ready again, each from the step that ended it.

    With them their failed and cancelled children whose end they have not recorded, and theirs, in
    the same transaction: locked level by level, since a child's id is greater than its parent's.
    """
    options = {
        "rerun_interrupted": rerun_interrupted,
        "allowed_steps": list(allowed_steps),
        **get_settings().notify_parameters,
    }
    connection = connections[alias]
    with transaction.atomic(using=alias):
        found, rows = _retry_level(alias, job_ids, options)
        level = rows
        children: list[Any] = []
        while unjoined := find_unjoined_children(connection, [row[0] for row in level if row[1]]):
            _, level = _retry_level(alias, unjoined, options)
            children += level
        settle_parents(connection, [(row[2], row[3]) for row in [*rows, *children]])
    return _changed(found, rows)


def _retry_level(
    alias: str, job_ids: Sequence[UUID], options: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    """Lock some jobs, then retry them: what was found, and what was retried."""
    connection = connections[alias]
    found = lock_jobs(connection, job_ids)
    ids = [row[0] for row in found]
    keys = _find_unique_keys(alias, ids)
    rows = fetch_all(connection, RETRY_JOBS, options | {"ids": ids})
    ended = {row[0] for row in rows if row[1]}
    for job_id, key in keys:
        if job_id in ended:
            _take_key_again(alias, job_id, key)
    return found, rows


def _find_unique_keys(alias: str, job_ids: Sequence[UUID]) -> list[tuple[UUID, str]]:
    """The keys that ended jobs had while they were unique; sorted, as all take them."""
    ended = job_rows(alias).finished().filter(pk__in=job_ids, unique_key__isnull=False)
    keys = ended.filter(unique_until__isnull=True).order_by("unique_key", "pk")
    return [(row.pk, row.unique_key or "") for row in keys.only("pk", "unique_key")]


def _take_key_again(alias: str, job_id: UUID, key: str) -> None:
    """A retried job is unique again, unless another one is by now."""
    try:
        with transaction.atomic(using=alias):
            execute(connections[alias], TAKE_UNIQUE, {"job_id": job_id, "unique_key": key})
    except IntegrityError:  # taken by a transaction that was open when this one looked
        return


def _changed(found: Sequence[Any], rows: Sequence[Any]) -> list[Changed]:
    applied = {row[0] for row in rows}
    return [Changed(id_, path, JobState(before), id_ in applied) for id_, path, before in found]


# --- deadlines


@dataclass(frozen=True, slots=True)
class Overdue:
    """A job that its deadline ended (FAILED), or that is to undo its steps and end (READY)."""

    job_id: UUID
    task_path: str
    state: JobState
    error: DeadlineExceededError


def fail_overdue(alias: str, *, limit: int) -> list[Overdue]:
    """Fail up to ``limit`` jobs that nobody runs and whose deadline has passed.

    Skips what others hold. A running one is stopped by whoever runs it.
    """
    connection = connections[alias]
    late = {row[0]: row for row in fetch_all(connection, FIND_OVERDUE, {"limit": limit})}
    if not late:
        return []
    errors = {
        job_id: DeadlineExceededError(job_id=job_id, task_path=path, deadline_at=deadline_at)
        for job_id, path, deadline_at in late.values()
    }
    with transaction.atomic(using=alias):
        locked = [row[0] for row in lock_jobs(connection, list(late), waits=False)]
        params = {
            "job_ids": locked,
            "errors": [encode_error(errors[job_id]) for job_id in locked],
            **get_settings().notify_parameters,
        }
        rows = fetch_all(connection, FAIL_OVERDUE, params)
        settle_parents(connection, [(row[2], row[3]) for row in rows if row[1] in FINISHED])
    return [Overdue(row[0], late[row[0]][1], JobState(row[1]), errors[row[0]]) for row in rows]
