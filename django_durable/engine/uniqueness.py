"""One job at a time for a key: what its key is, and what a call gets whose key is taken.

The index says who was first; nobody looks before. A job in the way that was never claimed is held
until the caller's transaction ends, so that it sees what the caller wrote. Between the steps of a
job the answer is a checkpoint, in one commit with what it changed: a replay gets the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine import enqueueing, instances
from django_durable.engine.adopting import answer_of, find_children, find_made, fingerprint_of
from django_durable.engine.atomic import LeaseLost, save_in_transaction
from django_durable.engine.checkpoints import NewCheckpoint, read_checkpoint
from django_durable.engine.claims import hold_lease
from django_durable.engine.enqueueing import Holder, NewJob, Parent
from django_durable.engine.inserting import as_job, insert, same_call
from django_durable.engine.limit_keys import text_of
from django_durable.engine.replay import ENQUEUE, FAILED, SUCCESSFUL, Recorded, keyed
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.run import ActiveStep, Ending, Run, Stop
from django_durable.exceptions import InvalidArgumentsError, InvalidOptionError, NotUniqueError

if TYPE_CHECKING:
    from django_durable.models import Job

MOST_LOOKS = 100
"""Each look that finds neither the key nor a free place means that another caller came between."""


def columns_of(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a row says of a call's uniqueness; nothing if its key is None. Raises: EnqueueError."""
    rule = task.unique
    if task.idempotency_key is not None:
        reason = "an idempotency key is given too, and both say what a second call gets. Drop one."
        raise InvalidOptionError(option="unique", value=rule, reason=reason)
    key = _key_of(task, *task.bind_arguments(args, kwargs))
    if key is None:
        return {}
    return {
        "unique_key": key,
        "unique_while": rule.word,
        "unique_period": rule.period,
        "on_conflict": rule.on_conflict,
    }


def _key_of(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    function = task.unique.key
    if function is None:
        return f"{task.path} sha256:{instances.digest_call(task.signature, args, kwargs)[:32]}"
    try:
        answer = function(*args, **kwargs)
        return None if answer is None else keyed(task.path, text_of(answer))
    except Exception as error:  # user code may raise anything
        why = f"{type(error).__name__}: {error}"
        reason = f"the key by which it is unique could not be told, {why}"
        raise InvalidArgumentsError(path=task.path, reason=reason) from error


# --- one call


def submit(alias: str, new: NewJob) -> Job:
    """Enqueue a unique call from outside jobs. Raises: NotUniqueError."""
    return _accept(new, _place(alias, new, None, lambda: None))


def _place(
    alias: str, new: NewJob, parent: Parent | None, find_own: Callable[[], Job | None]
) -> Job:
    """The row inserted; or what an earlier run inserted; or, as a duplicate, the job in the way."""
    for _ in range(MOST_LOOKS):
        if inserted := insert(alias, [new], parent):
            return as_job(alias, new, inserted[new.id], parent)
        if (job := find_own() or _find_in_the_way(alias, new, parent)) is not None:
            return job
    raise NotUniqueError(
        job_id="(another again and again)", task_path=new.task_path, state="?", key=new.unique_key
    )


def _find_in_the_way(alias: str, new: NewJob, parent: Parent | None) -> Job | None:
    """The job that has the key, replaced if it is to be; None: the key is free by now."""
    key = new.unique_key or ""
    holder = enqueueing.find_unique(connections[alias], [key]).get(key)
    if holder is None or not _stays(alias, new, parent, holder):
        return None
    job = job_rows(alias).filter(pk=holder.job_id).first()
    if job is not None:
        job.is_duplicate = True
    return job


def _stays(alias: str, new: NewJob, parent: Parent | None, holder: Holder) -> bool:
    """Whether the job in the way is still there, now that it is freed, held or replaced."""
    connection = connections[alias]
    if holder.is_expired:
        enqueueing.free_unique(connection, holder.job_id, new.unique_key or "")
        return False
    if not holder.is_queued or new.on_conflict == "reject":
        return True
    if new.on_conflict == "replace":
        notify = get_settings().notifies(new.queue_name)
        return enqueueing.replace_job(connection, holder.job_id, new, parent=parent, notify=notify)
    if not connection.in_atomic_block:
        return True
    return bool(enqueueing.hold_queued(connection, [holder.job_id]))


def _accept(new: NewJob, job: Job) -> Job:
    """The job a call gets. Raises: NotUniqueError if it asked for that."""
    if job.is_duplicate and new.on_conflict == "reject":
        raise _refusal(new, job)
    return job


def _refusal(new: NewJob, job: Job) -> NotUniqueError:
    return NotUniqueError(
        job_id=str(job.pk), task_path=new.task_path, state=job.state, key=new.unique_key
    )


# --- many calls outside jobs


def submit_part(alias: str, rows: Sequence[NewJob]) -> list[Job | NotUniqueError]:
    """Enqueue unique calls, sorted by their keys, in the transaction that is open.

    A few statements for all that are new or stay as they are; one by one what is to change others.
    """
    inserted = insert(alias, rows, None)
    known = _find_unchanged(alias, [new for new in rows if new.id not in inserted])
    return [
        as_job(alias, new, inserted[new.id])
        if new.id in inserted
        else known.get(new.id) or _submit_or_refuse(alias, new)
        for new in rows
    ]


def _find_unchanged(alias: str, rows: Sequence[NewJob]) -> dict[UUID, Job]:
    """The jobs in the way that are to be returned as they are, by the row that is not inserted."""
    returning = [new for new in rows if new.on_conflict == "return"]
    keys = [new.unique_key or "" for new in returning]
    found = enqueueing.find_unique(connections[alias], keys) if keys else {}
    holders = {holder.job_id: key for key, holder in found.items() if not holder.is_expired}
    queued = [holder.job_id for holder in found.values() if holder.is_queued]
    held = enqueueing.hold_queued(connections[alias], queued) if queued else set()
    stay = {job_id for job_id in holders if job_id in held or job_id not in queued}
    jobs = {}
    for job in job_rows(alias).filter(pk__in=stay) if stay else ():
        job.is_duplicate = True
        jobs[holders[job.pk]] = job
    return {new.id: jobs[key] for new in returning if (key := new.unique_key or "") in jobs}


def _submit_or_refuse(alias: str, new: NewJob) -> Job | NotUniqueError:
    try:
        return submit(alias, new)
    except NotUniqueError as error:
        return error


# --- inside a job


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call inside a job gets, with the checkpoint that says so if it needs one."""

    job: Job | None = None
    is_known: bool = False
    """Whether an earlier run got it."""
    record: Recorded | None = None
    cancelled: bool = False


def submit_inside(run: Run, step: ActiveStep | None, parent: Parent, new: NewJob) -> Job:
    """Enqueue a unique call inside a job, exactly-once. Raises: NotUniqueError, Suspension."""
    tries = count()
    try:
        answer = run.repeat(
            lambda: _ask_in_one_commit(run, step, parent, new, again=next(tries) > 0)
        )
    except LeaseLost:
        run.stop(Ending(stop=Stop.LEASE_LOST))
    return settle(run, new, answer)


def _ask_in_one_commit(
    run: Run, step: ActiveStep | None, parent: Parent, new: NewJob, *, again: bool
) -> Answer:
    with transaction.atomic(using=run.alias):
        return ask(run, step, parent, new, again=again)


def ask(run: Run, step: ActiveStep | None, parent: Parent, new: NewJob, *, again: bool) -> Answer:
    """Insert a call in the transaction that is open, or say what is in the way.

    ``again``: a commit of this may have been made whose answer was lost. A step that runs again
    asks again. Raises: LeaseLost; NotUniqueError if an earlier run was told so; Suspension.
    """
    if known := find_made(run, step, [new]):
        return Answer(job=same_call(run, step, new, known[new.origin]), is_known=True)
    connection = connections[run.alias]
    if again and (record := read_checkpoint(connection, run.job.id, new.origin or "")) is not None:
        return Answer(record=record)

    def find_own() -> Job | None:
        known = find_children(run, [new])
        if known:
            return same_call(run, step, new, known[new.origin])
        token = parent.lease_token
        if token is not None and not hold_lease(connection, parent.job_id, token):
            raise LeaseLost
        return None

    job = _place(run.alias, new, parent, find_own)
    if not job.is_duplicate or step is not None or run.in_task_transaction:
        return Answer(job=job)
    checkpoint = _checkpoint_of(run, new, job)
    cancelled = save_in_transaction(connection, checkpoint)
    return Answer(job=job, record=checkpoint.as_recorded(), cancelled=cancelled)


def _checkpoint_of(run: Run, new: NewJob, job: Job) -> NewCheckpoint:
    """A refusal is a failure, so that an attempt that it ended asks again when it is retried."""
    error = None
    if new.on_conflict == "reject":
        refusal = _refusal(new, job)
        error = instances.encode_error(refusal, fields=dict(vars(refusal)))
    return NewCheckpoint(
        job_id=run.job.id,
        lease_token=run.job.lease_token,
        identity=new.origin or "",
        seq=run.place(None),
        kind=ENQUEUE,
        state=SUCCESSFUL if error is None else FAILED,
        function=".enqueue()",
        fingerprint=fingerprint_of(new),
        attempt=1,
        elapsed=timedelta(0),
        value=json.dumps(str(job.pk)) if error is None else None,
        error=error,
    )


def settle(run: Run, new: NewJob, answer: Answer) -> Job:
    """What a call gets, once it is committed. Raises: NotUniqueError, Suspension."""
    if answer.record is not None:
        run.settle(answer.record, cancelled=answer.cancelled)
        if answer.job is None or answer.record.state == FAILED:
            return answer_of(run, new, answer.record)
    assert answer.job is not None  # there is one or the other
    return answer.job if answer.is_known else _accept(new, answer.job)
