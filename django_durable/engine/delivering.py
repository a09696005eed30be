"""Bringing events: in the caller's transaction, or under the lease of the job that sends them.

Inside an atomic step they are kept back and written after its body, in its commit: so event rows
are locked after the user's own, and the jobs that wait after those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine import waits
from django_durable.engine.atomic import keep
from django_durable.engine.rows import jobs, messages
from django_durable.engine.run import (
    Ending,
    Run,
    Stop,
    active_step,
    current_run,
    require_run,
)
from django_durable.engine.waits import NewEvent, NewMessage, Sender, SenderLost


def deliver(call: str, items: Sequence[NewEvent | NewMessage]) -> None:
    """Emit and send, and wake who waits for it.

    Raises: StepOutsideJobError, Suspension; database errors.
    """
    run = require_run(call)
    if run is None:
        _deliver_outside(items)
        return
    step = active_step()
    if step is None and _is_done(run):
        return
    outbox = _outbox_of(run)
    if outbox is not None and connections[run.alias].in_atomic_block:
        keep(run.alias, outbox, items)
    elif run.in_task_transaction:  # called on its commit: the job has ended
        _deliver_outside(items)
    else:
        run.repeat(lambda: _deliver_now(run, items))


def _deliver_outside(items: Sequence[NewEvent | NewMessage]) -> None:
    with transaction.atomic(using=get_settings().DATABASE):
        waits.deliver(connections[get_settings().DATABASE], items, None)


def _outbox_of(run: Run) -> list[Any] | None:
    """Where an atomic step, or an atomic task, keeps what is written in its commit."""
    step = active_step()
    if run.in_task_transaction:
        return run.outbox
    return step.outbox if step is not None and step.kind == "atomic" else None


def _is_done(run: Run) -> bool:
    """Whether a fork's source did this already, or a rehearsal must not.

    Raises: Suspension where a rehearsal comes behind what is recorded.
    """
    if run.rehearses and not run.scope.is_replaying():
        run.suspend()
    return run.rehearses or run.scope.repeats_source()


def _deliver_now(run: Run, items: Sequence[NewEvent | NewMessage]) -> None:
    try:
        with transaction.atomic(using=run.alias):
            sender = Sender(run.job.id, run.job.lease_token)
            waits.deliver(connections[run.alias], items, sender)
    except SenderLost:
        run.stop(Ending(stop=Stop.LEASE_LOST))


def name_call(call: str) -> str | None:
    """A key for a send made inside a job, the same in every replay; None outside jobs."""
    run = require_run(call)
    if run is None:
        return None
    step = active_step()
    origin = step.origin_of(call) if step else run.scope.identify(call)
    return f"{run.job.id}/{origin}"


def was_sent(job_id: UUID, key: str) -> bool:
    """Whether an event was sent to a job under this key: by a repeated call, or an earlier run.

    So it is, too, if the job is gone and the sending job replays what it did before.
    """
    run = current_run()
    alias = run.alias if run else get_settings().DATABASE
    if messages(alias).filter(job_id=job_id, idempotency_key=key).exists():
        return True
    is_replayed = run is not None and run.scope.is_replaying()
    return is_replayed and not jobs(alias).filter(pk=job_id).exists()
