"""How a run tells about itself: no more often than people can see, and not while it replays.

A progress is written at once if the last one was long enough ago; else it is kept for the next
call, for the worker's loop, and for the end of the run. It travels over the writer's session, so it
is seen while a transaction of the body's is still open, and it waits for no lock: the row it needs
may be locked by that very transaction. A value is written before the call returns; in a transaction
on the jobs' database, as a part of it.
"""

import logging
from collections.abc import Callable

from django.db import connections

from django_durable.engine.clock import machine_seconds
from django_durable.engine.faults import DATABASE_ERRORS
from django_durable.engine.progress import (
    NewProgress,
    Report,
    Told,
    save_progress,
    save_value,
)
from django_durable.engine.run import (
    Ending,
    Run,
    Stop,
    active_step,
    current_run,
    require_run,
)
from django_durable.engine.sql import Connection
from django_durable.engine.threads import has_user_transaction

logger = logging.getLogger("django_durable")

SHORTEST_INTERVAL = 0.2  # seconds between two writes of one run


def run_to_tell(call: str) -> Run | None:
    """The run that a call tells about; None where it is a plain call, and in a rehearsal.

    Between steps it stops a run that has to stop, as every durable call does. In a step only one
    that is lost: a step that is asked to stop saves its own checkpoint first.

    Raises: StepOutsideJobError; Suspension, also where a rehearsal comes behind what is recorded.
    """
    run = current_run()
    if run is None or active_step() is None:
        run = require_run(call)
    elif run.find_ending() is not None:
        run.check()
    if run is None or not run.rehearses:
        return run
    if not run.scope.is_replaying():
        run.suspend()
    return None


def is_replaying(run: Run) -> bool:
    """Whether the code only repeats what an earlier run has told. The body of a step never does."""
    return active_step() is None and run.scope.is_repeating()


# --- progress


def tell_progress(run: Run, progress: NewProgress) -> None:
    """Write how far the job has come, or keep it. Raises: Suspension if the lease is lost."""
    report = run.report
    with report.lock:
        report.latest, report.is_replayed = progress, is_replaying(run)
        if report.is_replayed or not _is_due(report):
            return
        told = _write(run, run.writer.call)
    if not told.held:
        run.stop(Ending(stop=Stop.LEASE_LOST))


def _is_due(report: Report) -> bool:
    assert report.latest is not None  # asked only about one that is there
    if report.latest.is_complete and not report.is_complete:
        return True
    return machine_seconds() - report.tried_at >= SHORTEST_INTERVAL


def _write(run: Run, call: Callable[[Callable[[Connection], Told]], Told]) -> Told:
    """Write the latest; it stays the latest if the job's row is locked just now."""
    report, job = run.report, run.job
    latest = report.latest
    assert latest is not None  # written only if there is one
    told = call(lambda connection: save_progress(connection, job.id, job.lease_token, latest))
    report.tried_at = machine_seconds()
    if told.saved:
        report.latest, report.is_complete = None, latest.is_complete
    return told


def tell_late(run: Run, connection: Connection) -> None:
    """Write what was kept, if it is time: in the worker's loop, for bodies that say nothing more.

    On the loop's own connection, whose errors the loop survives, and never waiting for the body.
    """
    report = run.report
    if not report.lock.acquire(blocking=False):
        return
    try:
        is_news = report.latest is not None and not report.is_replayed
        if is_news and run.ending is None and _is_due(report):
            _write(run, lambda operation: operation(connection))
    finally:
        report.lock.release()


def tell_last(run: Run, *, succeeded: bool) -> None:
    """Write what was kept before the end of the run is, which closes the fence.

    What a replay repeated is news only if the function came to its end. An error is logged: it must
    not change what becomes of the job.
    """
    report = run.report
    stops = (Stop.LEASE_LOST, Stop.GIVEN_UP)
    if run.ending is not None and run.ending.stop in stops:
        return
    with report.lock:
        if report.latest is None or (report.is_replayed and not succeeded):
            return
        try:
            _write(run, run.writer.call)
        except DATABASE_ERRORS:
            logger.exception("Job %s: its last progress could not be written.", run.job.id)


# --- values


def publish_value(run: Run, key: str, value: str) -> None:
    """Write an encoded value, unless it is written already. Raises: Suspension without the lease.

    A fork has none of its source's, so it writes them all again.
    """
    if is_replaying(run) and run.job.forked_from_id is None:
        return
    job, own = run.job, connections[run.alias]
    if has_user_transaction(own):
        token = None if is_fenced_later(run) else job.lease_token
        held = save_value(own, job.id, token, key, value)
    else:
        held = run.writer.call(
            lambda connection: save_value(connection, job.id, job.lease_token, key, value)
        )
    if not held:
        run.stop(Ending(stop=Stop.LEASE_LOST))


def is_fenced_later(run: Run) -> bool:
    """Whether a transaction of the engine's is open, whose last statement checks the lease."""
    step = active_step()
    return run.in_task_transaction or (step is not None and step.kind == "atomic")
