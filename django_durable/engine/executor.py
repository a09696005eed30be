"""One claimed job, from its body's begin to its recorded outcome.

    judge   poison, cancelled before it began, or too late? does it only undo its steps by now?
    load    decode the arguments, fetch their model instances
    call    run the function; durable calls find the run in the context
    decide  what became of it: an outcome, a retry, a suspension
    undo    before it ends badly: what its steps did, as far as they say how
    record  write that under the lease; then tell logs and signals

Whatever the function does, this thread survives it. If the lease is lost, nothing is written and
nothing is said.
"""

import contextvars
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from asgiref.sync import async_to_sync
from django.core.cache import caches
from django.db import transaction

from django_durable.conf import get_settings
from django_durable.engine import compensating, instances, waiting
from django_durable.engine.announcing import announce, conclude, is_silent
from django_durable.engine.atomic import (
    LeaseLost,
    Rollback,
    begin,
    deliver_all,
    repeat_transaction,
    say_committed,
)
from django_durable.engine.branches import has_suspension
from django_durable.engine.context import restored
from django_durable.engine.faults import DATABASE_ERRORS
from django_durable.engine.outcomes import (
    Outcome,
    Written,
    continue_job,
    finish_jobs,
    has_succeeded,
)
from django_durable.engine.reporting import tell_last
from django_durable.engine.run import (
    Ending,
    Run,
    Stop,
    reset_run,
    set_run,
)
from django_durable.engine.threads import release_connections
from django_durable.exceptions import (
    EnqueueError,
    JobError,
    MissingInstanceError,
    PoisonJobError,
    ReturnValueError,
    StepInterrupted,
    SuspensionSwallowedError,
)
from django_durable.models import JobState
from django_durable.retry import RetryPolicy

T = TypeVar("T")
Conclusion = tuple[Written | None, Outcome | Ending]
"""What was written (None: the lease is lost), and what it was written for."""
logger = logging.getLogger("django_durable")


class Committed(Exception):  # noqa: N818 (an atomic task wrote its outcome itself)
    def __init__(self, written: Written) -> None:
        self.written = written


class CancelledInside(Rollback):
    """Cancelling an atomic task undoes its writes."""


def execute(run: Run, finish_later: Callable[[Run, Outcome], bool] = lambda *_: False) -> bool:
    """Run one claimed job and record what came of it. Never raises but at interpreter exit.

    ``finish_later`` may take the outcome of a plain success, to write it with others. Returns:
    whether all is written, and the job nobody's business here any more.
    """
    try:
        decided, error = run_to_end(run)
    except Committed as committed:
        conclude(run, committed.written, None)
        return True
    if isinstance(decided, Outcome) and can_wait(run, decided) and finish_later(run, decided):
        return False
    record(run, decided, error)
    return True


def can_wait(run: Run, outcome: Outcome) -> bool:
    """Whether an outcome may be written with others': nobody waits for it, or is told of it."""
    return (
        outcome.is_plain_success
        and run.report.latest is None
        and is_silent(run.job.task_path)
        and not compensating.find_pending(run)
    )


def run_to_end(run: Run) -> tuple[Outcome | Ending, BaseException | None]:
    """Judge, and call the function unless the verdict is an end; what became of it."""
    if run.ending is not None:  # lost while it waited for a slot
        return run.ending, None
    if run.job.ends_as is not None:
        end = outcome_of(run, JobState(run.job.ends_as), error=run.job.error)
        return compensating.resume(run, end)
    error = judge(run)
    if error is not None or run.cancel_requested:
        return decide(run, error)
    announce(run)
    return in_context(run, lambda: call(run))


def judge(run: Run) -> BaseException | None:
    """The verdicts that wait for a holder: poison, too late; ``cancel_requested`` tells of that."""
    job = run.job
    run.cancel_requested = run.cancel_requested or job.cancel_requested_at is not None
    if job.lost_count >= get_settings().MAX_LOST:
        return PoisonJobError(job_id=job.id, task_path=job.task_path, lost_count=job.lost_count)
    if run.is_overdue and not run.cancel_requested:
        return run.deadline_error
    return None


def in_context(run: Run, function: Callable[[], T]) -> T:
    """Call in a context of the job's own, and leave the thread as a request would.

    No connection is left with it, and no cache client.
    """

    def called() -> T:
        token = set_run(run)
        try:
            return function()
        finally:
            reset_run(token)

    context = contextvars.copy_context()
    known = len(context)
    try:
        return context.run(called)
    finally:
        release_connections()
        if len(context) != known:  # Django keeps cache clients by context: there may be some
            context.run(close_caches)


def close_caches() -> None:
    """Close the cache clients of this context; what they raise does not change what became."""
    try:
        caches.close_all()
    except Exception:  # a backend's own: its server may be away
        logger.exception("A cache client did not close.")


def call(run: Run) -> tuple[Outcome | Ending, BaseException | None]:
    """Load, call and decide."""
    try:
        with restored(run.job):
            arguments = instances.decode_arguments(run.job.arguments, run.job.task_path, run.job.id)
            if run.job.context is not None or MODEL_TAG in run.job.arguments:
                release_connections()
            run.check_may_start()
            returned = call_function(run, arguments)
            if not isinstance(returned, Committed):
                return decide_success(run, returned), None
        raise returned
    except Committed:
        raise
    except BaseException as error:  # user code may raise anything; the slot lives on
        return decide(run, error)


MODEL_TAG = '"$model"'
"""Stands where there are instances to be fetched, for which a connection is opened."""


def call_function(run: Run, arguments: instances.Arguments) -> Any:
    task = run.task
    args = (
        [task.make_context(run.public_job), *arguments.args]
        if task.takes_context
        else arguments.args
    )
    if task.atomic:
        return call_in_transaction(run, args, arguments.kwargs)
    function = async_to_sync(task.func) if task.is_async else task.func
    return function(*args, **arguments.kwargs)


def call_in_transaction(run: Run, args: list[Any], kwargs: dict[str, Any]) -> Committed:
    """An atomic task: the body and the job's outcome in one commit."""
    run.in_task_transaction = True
    try:
        written = repeat_transaction(
            run,
            lambda: try_in_transaction(run, args, kwargs),
            lambda error: find_success(run, error),
        )
    except LeaseLost:
        run.stop(Ending(stop=Stop.LEASE_LOST))
    except CancelledInside:
        run.stop(Ending(stop=Stop.CANCELLED))
    return Committed(written)


def try_in_transaction(run: Run, args: list[Any], kwargs: dict[str, Any]) -> Written:
    with transaction.atomic(using=run.alias):
        connection = begin(run)
        run.outbox.clear()
        outcome = decide_success(run, run.task.func(*args, **kwargs))
        tell_last(run, succeeded=True)
        deliver_all(connection, run, run.outbox)
        (written,) = finish_jobs(connection, [outcome])
        if written is None:
            raise LeaseLost
        if written.state is JobState.CANCELLED:
            raise CancelledInside
    return written


def find_success(run: Run, error: BaseException) -> Written | None:
    """The outcome, if the transaction committed before the error was raised."""
    job_id, token = run.job.id, run.job.lease_token
    if not run.writer.call(lambda connection: has_succeeded(connection, job_id, token)):
        return None
    say_committed(f"Job {job_id}", run, error)
    return Written(JobState.SUCCESSFUL, run.job.due_at)


def decide_success(run: Run, value: Any) -> Outcome:
    """The outcome of a function that returned. Raises: what makes it a failure after all."""
    if run.find_ending() is not None:
        raise SuspensionSwallowedError(task_path=run.job.task_path)
    if value is None:
        return outcome_of(run, JobState.SUCCESSFUL, return_value="null")
    hint = instances.hints_of(run.task.func).get("return", Any)
    limit = get_settings().MAX_PAYLOAD_BYTES
    try:
        text = instances.encode(value, hint=hint, path="the return value", limit=limit)
    except EnqueueError as error:
        raise ReturnValueError(task_path=run.job.task_path, cause=error) from error
    return outcome_of(run, JobState.SUCCESSFUL, return_value=text)


def outcome_of(run: Run, state: JobState, **more: Any) -> Outcome:
    job = run.job
    return Outcome(
        job_id=job.id,
        lease_token=job.lease_token,
        state=state,
        parent_id=job.parent_id,
        awaited_as=job.awaited_as,
        **more,
    )


def decide(run: Run, error: BaseException | None) -> tuple[Outcome | Ending, BaseException | None]:
    """What an error, or a request to stop, makes of the run; with the error to tell."""
    ending = run.find_ending()
    if ending is not None:
        if ending.error is not None:
            return decide_failure(run, ending.error), ending.error
        if ending.stop in FINAL_STOPS or has_suspension(error):
            return ending, None
        swallowed = SuspensionSwallowedError(task_path=run.job.task_path)
        swallowed.__cause__ = error if not isinstance(error, SuspensionSwallowedError) else None
        error = swallowed
    if error is None:
        return Ending(stop=Stop.CANCELLED), None
    return decide_failure(run, error), error


FINAL_STOPS = frozenset({Stop.LEASE_LOST, Stop.CANCELLED, Stop.GIVEN_UP})
"""Stops that hold whatever the function did about the Suspension."""


def decide_failure(run: Run, error: BaseException) -> Outcome:
    text = instances.encode_error(error)
    if isinstance(error, MissingInstanceError) and run.task.on_missing == "skip":
        return outcome_of(run, JobState.CANCELLED, error=text)
    delay = next_delay(run, error)
    if delay is None:
        return outcome_of(run, JobState.FAILED, error=text)
    message = instances.error_message(error)
    reason = f"attempt {run.job.attempt} failed: {instances.error_path(error)}: {message}"
    return outcome_of(run, JobState.SCHEDULED, error=text, delay=delay, reason=reason[:500])


def next_delay(run: Run, error: BaseException) -> timedelta | None:
    """The wait before another attempt, or None: this was the last."""
    if isinstance(error, JobError | StepInterrupted):
        return None
    policy: RetryPolicy = run.task.retry or get_settings().RETRY
    now = run.now()
    elapsed = now - (run.job.started_at or now)
    tries = run.job.attempt - run.job.attempt_base
    try:
        return policy.next_delay(error, tries=tries, elapsed=elapsed, now=now)
    except Exception:  # user code: a retry_on or give_up_on predicate
        logger.exception("The retry policy of %s failed; giving up.", run.job.task_path)
        return None


def record(run: Run, decided: Outcome | Ending, error: BaseException | None) -> None:
    """Write what was decided; a row the database refuses fails the job, with the reason."""
    tell_last(run, succeeded=isinstance(decided, Outcome) and decided.state is JobState.SUCCESSFUL)
    try:
        written, decided = write(run, decided)
    except DATABASE_ERRORS as refused:
        error = refused
        failed = outcome_of(run, JobState.FAILED, error=instances.encode_error(refused))
        written, decided = write(run, failed)
    if written is not None:
        conclude(run, written, error, decided)


def write(run: Run, decided: Outcome | Ending) -> Conclusion:
    """Write it; a bad end when the steps are undone that can be."""
    if isinstance(decided, Ending):
        return write_ending(run, decided)
    if not compensating.find_pending(run):
        return run.writer.finish(decided), decided
    if decided.state not in (JobState.FAILED, JobState.CANCELLED):
        written = run.writer.finish(replace(decided, undoes=True))
        if written is not None:
            return written, decided
        decided = outcome_of(run, JobState.CANCELLED)  # asked for meanwhile, or the lease is lost
    end = decided
    undone = in_context(run, lambda: compensating.undo(run, end))
    tell_last(run, succeeded=False)
    if isinstance(undone, Ending):
        return write_ending(run, undone)
    return run.writer.finish(undone), undone


def write_ending(run: Run, ending: Ending) -> Conclusion:
    if ending.stop is Stop.CANCELLED:
        return write(run, outcome_of(run, JobState.CANCELLED))
    if ending.stop is Stop.BLOCKED:
        return write(run, outcome_of(run, JobState.WAITING, reason=ending.reason))
    if ending.stop is Stop.WAIT:
        return suspend(run, ending)
    if ending.stop is Stop.CONTINUED:
        return start_over(run, ending)
    return None, ending


def suspend(run: Run, ending: Ending) -> Conclusion:
    """Write the suspension; a request to cancel that came before ends the job instead.

    A branch whose thread was given up may have nothing to wait for: the job is replayed then.
    """
    if not ending.waits:
        return run.writer.finish(outcome_of(run, JobState.READY)), ending
    suspended = waiting.suspend(run, ending)
    if suspended is None:
        return None, ending
    if suspended.cancelled:
        return write(run, outcome_of(run, JobState.CANCELLED))
    return Written(JobState(suspended.state), suspended.due_at), ending


def start_over(run: Run, ending: Ending) -> Conclusion:
    """Begin the job's next life; a request to cancel that came before ends it instead."""
    job, arguments = run.job, ending.arguments
    assert arguments is not None  # continue_as() gives them
    continued = run.writer.call(
        lambda connection: continue_job(connection, job.id, job.lease_token, arguments)
    )
    if continued is None:
        return None, ending
    if continued.cancelled:
        return write(run, outcome_of(run, JobState.CANCELLED))
    return Written(JobState.READY, continued.due_at), ending
