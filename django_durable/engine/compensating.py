"""Undoing a job's steps before it ends FAILED or CANCELLED, the last one first.

    begin   write under the lease how the job ends; from then on it ends so, whatever is asked
    undo    run each compensation as a step of its own; its success marks the step COMPENSATED
    end     the executor writes the end, which by then is only a matter of form

Each part is committed before the next one begins. A claim that finds the end decided goes on here:
the task's function is not called again. A compensation that finally fails is recorded, and the
others still run.
"""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any

from asgiref.sync import async_to_sync

from django_durable.conf import get_settings
from django_durable.engine import compensations, instances, stepping
from django_durable.engine.announcing import log_fields
from django_durable.engine.claims import undoing_limit
from django_durable.engine.codec import UndecodableError
from django_durable.engine.context import restored
from django_durable.engine.faults import DATABASE_ERRORS
from django_durable.engine.outcomes import Outcome, begin_compensating
from django_durable.engine.replay import (
    COMPENSATION,
    FAILED,
    STARTED,
    SUCCESSFUL,
    Recorded,
    ReplayMismatch,
    Scope,
    undoing,
    undone_by,
)
from django_durable.engine.run import Ending, Run, Stop, enter_scope, leave_scope
from django_durable.engine.states import FOREVER, JobState
from django_durable.exceptions import (
    JobError,
    MissingInstanceError,
    NotUndoneError,
    Suspension,
)

logger = logging.getLogger("django_durable")

LOST = (Stop.LEASE_LOST, Stop.GIVEN_UP)


def find_pending(run: Run) -> list[Recorded]:
    """The steps to be undone, the one first that was done last.

    Those that are done, can be undone, and have no final compensation of this attempt. One that was
    to be undone at most once, and died in it, is not: nobody knows whether it is undone.
    """
    if run.is_plain:
        return []
    records, attempt = run.history.records, run.job.attempt
    done = [r for r in records.values() if r.state == SUCCESSFUL and r.compensation is not None]
    if not done:
        return []
    unknown = {undone_by(r.identity) for r in records.values() if _is_interrupted(run, r)}
    left = [
        record
        for record in done
        if record.identity not in unknown
        and not _is_final(records.get(undoing(record.identity, attempt)))
    ]
    return sorted(left, key=lambda record: _time_of(run, record))[::-1]


def _time_of(run: Run, record: Recorded) -> tuple[int, datetime]:
    """What orders the steps of several runs; those of this one are in their order already.

    Not their places, which are those of the first time: a mended task may have others before them.
    """
    is_own = record.lease_token == run.job.lease_token
    return record.lease_token, FOREVER if is_own else record.saved_at or FOREVER


def _is_final(record: Recorded | None) -> bool:
    return record is not None and record.is_final


def _is_interrupted(run: Run, record: Recorded) -> bool:
    """Whether it is a compensation that died in an earlier attempt, and must not run again."""
    if not record.identity.startswith(COMPENSATION) or record.kind != "at_most_once":
        return False
    is_earlier = not record.identity.startswith(undoing("", run.job.attempt))
    return (record.state == STARTED and is_earlier) or (
        record.state == FAILED and bool(json.loads(record.error or "{}").get("interrupted"))
    )


def undo(run: Run, end: Outcome) -> Outcome | Ending:
    """Undo what can be undone; what is to be written then: the end, or why this run stops before.

    Raises: database errors that are no matter of the connection.
    """
    if is_hopeless(run):
        return end
    decided = begin(run, end)
    if isinstance(decided, Ending):
        return decided
    if must_be_alone(run):
        return replace(end, state=JobState.READY, error=None)
    run.job.ends_as = decided.state
    scope = Scope(undoing("", run.job.attempt))
    token = enter_scope(scope)
    try:
        undo_all(run)
    except Suspension:
        ending = run.ending or scope.ending
        assert ending is not None  # only what notes one raises a Suspension
        return ending
    finally:
        leave_scope(token)
    return decided


def undo_all(run: Run) -> None:
    """Undo the steps in the context in which they were done. Raises: Suspension, to stop here."""
    with ExitStack() as stack:
        try:
            stack.enter_context(restored(run.job))
        except Exception as error:  # user code: a provider of context
            logger.exception("The context of job %s cannot be restored.", run.job.id)
            reason = f"its context cannot be restored to undo its steps: {error}"
            run.stop(Ending(stop=Stop.BLOCKED, reason=reason))
        for record in find_pending(run):
            undo_step(run, record)


def begin(run: Run, end: Outcome) -> Outcome | Ending:
    """Write how the job is to end; the end as it is to be written at last.

    Why the task's function stopped matters no more, unless others have the job by now.
    """
    if run.ending is not None and run.ending.stop in LOST:
        return run.ending
    run.ending = None
    run.in_task_transaction = False
    if run.job.ends_as is not None:
        return end
    state = run.writer.call(
        lambda connection: begin_compensating(
            connection, end.job_id, end.lease_token, state=end.state, error=end.error
        )
    )
    if state is None:
        return Ending(stop=Stop.LEASE_LOST)
    fields = log_fields(run.job)
    logger.info("Job %s undoes its steps, to be %s.", run.job.id, state.lower(), extra=fields)
    return replace(end, state=state)


def must_be_alone(run: Run) -> bool:
    """Whether it was claimed among others, to be failed as poison: its steps are undone alone."""
    return run.job.ends_as is None and run.job.lost_count >= get_settings().MAX_LOST


def is_hopeless(run: Run) -> bool:
    """Whether undoing lost worker after worker, so that nothing more is undone."""
    limit = undoing_limit(get_settings().MAX_LOST)
    return run.job.ends_as is not None and run.job.lost_count >= limit


def resume(run: Run, end: Outcome) -> tuple[Outcome, BaseException | None]:
    """The end that an earlier run decided, with the error to tell."""
    job = run.job
    first = instances.TaskError.from_text(job.error) if job.error else None
    said = f"{first.exception_class_path}: {first.message}" if first else "cancelled"
    pending = find_pending(run)
    if pending and is_hopeless(run):
        error = NotUndoneError(
            job_id=job.id,
            task_path=job.task_path,
            lost_count=job.lost_count,
            steps=", ".join(record.identity for record in pending),
            first=f"It was {said}",
        )
        return replace(end, error=instances.encode_error(error)), error
    if job.ends_as == JobState.FAILED:
        return end, JobError(reason=f"Its steps are undone since it failed with {said}")
    return end, None


# --- one step


def undo_step(run: Run, record: Recorded) -> None:
    """Run the compensation of a step. Raises: Suspension."""
    text = record.compensation or ""
    found = compensations.find(text)
    if found is None:
        path = json.loads(text)["path"]
        expected = f"{path}, to undo step {record.identity} (recorded)"
        run.block(ReplayMismatch(expected=expected, found="no compensation of that path"))
    identity = undoing(record.identity, run.job.attempt)
    earlier = run.history.records.get(identity)
    call = stepping.begin(run, found.step.rule, identity, earlier, undoes=record.identity)
    error: BaseException | None
    try:
        arguments = run.repeat(lambda: found.decode_call(text, record.value))
    except MissingInstanceError as missing:
        saved, error = stepping.fail(call, missing), missing
    except (UndecodableError, TypeError) as misfit:
        expected = f"{found.path} to take what step {record.identity} was called with (recorded)"
        run.block(ReplayMismatch(expected=expected, found=f"that it does not: {misfit}"))
    else:
        saved, error = run_body(found.step, call, arguments)
    if saved.state == FAILED:
        logger.error(
            "Job %s: step %s could not be undone.", run.job.id, record.identity,
            exc_info=error, extra={**log_fields(run.job), "step": record.identity},
        )  # fmt: skip


def run_body(
    step: Any, call: stepping.Call, arguments: instances.Arguments
) -> tuple[Recorded, BaseException | None]:
    """What came of it, saved by the rules of the step that it is; also the error, if any."""
    body = async_to_sync(step.arun_body) if step.is_async else step.run_body
    try:
        outcome: tuple[Recorded, BaseException | None]
        outcome = body(call, tuple(arguments.args), arguments.kwargs)
    except DATABASE_ERRORS as refused:  # its checkpoint, and it will be refused again
        return stepping.fail(call, refused), refused
    return outcome
