"""What a call between steps finds of an earlier run of it: its own job, or that of a fork's source.

A fork goes once more through what its source did before the step it was forked at. There each call
to enqueue must find the source's job and make no second one; only a child whose end is not kept is
started anew, since nobody else's can be waited for. A rehearsal makes no jobs at all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from django_durable.engine.enqueueing import NewJob
from django_durable.engine.replay import ENQUEUE, FAILED, Recorded, ReplayMismatch
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.rows import stored_job
from django_durable.engine.run import ActiveStep, Run
from django_durable.engine.states import JobState
from django_durable.engine.stepping import shorten
from django_durable.exceptions import NotUniqueError

if TYPE_CHECKING:
    from django_durable.models import Job

Known = dict[str | None, "Job"]
"""Jobs by the origin of the call that made them."""


def find_children(run: Run, jobs: Sequence[NewJob]) -> Known:
    """The jobs that an earlier run of this very job made by these calls."""
    rows = job_rows(run.alias).filter(parent_id=run.job.id, origin__in=[new.origin for new in jobs])
    return {row.origin: row for row in rows}


def find_made(
    run: Run, step: ActiveStep | None, jobs: Sequence[NewJob], *, has_key: bool = False
) -> Known:
    """The jobs that these calls must not make again, as far as that is known before trying.

    ``has_key``: the call has an idempotency key, which tells where nothing else is known. Raises:
    Suspension where a fork repeats a call of which its source kept nothing, since nobody can tell a
    new call from one whose job is pruned; and where a rehearsal ends. NotUniqueError if an earlier
    run was told so.
    """
    if step is not None:
        return {}
    known = {new.origin: job for new in jobs if (job := _find_answer(run, new)) is not None}
    known |= _find_in_source(run, [new for new in jobs if new.origin not in known])
    rest = [new for new in jobs if new.origin not in known]
    if not rest or not (run.rehearses or run.scope.repeats_source()):
        return known
    known |= run.repeat(lambda: find_children(run, rest))
    for new in rest:
        if new.origin not in known:
            _check_new(run, new, has_key=has_key)
            if run.rehearses and not has_key:
                known[new.origin] = rehearse(run, new)
    return known


def fingerprint_of(new: NewJob) -> str:
    """What a replay of a call is compared by."""
    return shorten(f"{new.task_path} {new.arguments}")


def _find_answer(run: Run, new: NewJob) -> Job | None:
    """What the call was told in an earlier run, if another job was in its way."""
    identity = new.origin or ""
    known = run.history.records.get(identity)
    if known is None or known.kind != ENQUEUE:
        return None
    try:
        record = run.history.find(
            run.scope, identity, kind=ENQUEUE, fingerprint=fingerprint_of(new)
        )
    except ReplayMismatch as mismatch:
        run.block(mismatch)
    return answer_of(run, new, record) if record is not None else None


def answer_of(run: Run, new: NewJob, record: Recorded) -> Job:
    """The job that was in the way; of a pruned one, what the call says. Raises: NotUniqueError."""
    if record.state == FAILED:
        raise NotUniqueError(**json.loads(record.error or "{}")["fields"])
    job_id = UUID(json.loads(record.value or "null"))
    job = run.repeat(job_rows(run.alias).filter(pk=job_id).first) or _imagined(run, new, job_id)
    job.is_duplicate = True
    return job


def _find_in_source(run: Run, jobs: Sequence[NewJob]) -> Known:
    """Those that a fork's source had enqueued by then; of a pruned one, what the call says."""
    made = run.history.enqueued_by_source
    ids = {new.origin: made.get(new.origin or "") for new in jobs if new.awaited_as is None}
    wanted = [UUID(job_id) for job_id in ids.values() if job_id is not None]
    if not wanted:
        return {}
    rows = run.repeat(lambda: job_rows(run.alias).in_bulk(wanted))
    return {
        new.origin: rows.get(UUID(job_id)) or _imagined(run, new, UUID(job_id))
        for new in jobs
        if (job_id := ids.get(new.origin)) is not None
    }


def _check_new(run: Run, new: NewJob, *, has_key: bool) -> None:
    """Block a fork that repeats its source and meets a call of which nothing is kept."""
    call = f"enqueue:{new.task_path}"
    is_known = new.awaited_as is not None or has_key or run.history.allows(call)
    if is_known or not run.scope.repeats_source():
        return
    run.block(
        ReplayMismatch(
            expected=f"the job that {run.job.forked_from_id} enqueued as {new.origin}",
            found=f"none: the call is new, or the job is pruned. To enqueue one: allow {call}",
        )
    )


def rehearse(run: Run, new: NewJob) -> Job:
    """A job that would be made here. Raises: Suspension if no recorded call is ahead any more."""
    if not run.scope.is_replaying():
        run.suspend()
    return _imagined(run, new, new.id)


def _imagined(run: Run, new: NewJob, job_id: UUID) -> Job:
    return stored_job(
        run.alias,
        id=job_id,
        task_path=new.task_path,
        queue_name=new.queue_name,
        priority=new.priority,
        arguments=new.arguments,
        origin=new.origin,
        state=JobState.READY,
    )
