"""From a task and its arguments to a row: what is refused, and how a repeated call is recognised.

Outside jobs a call is an INSERT in the caller's transaction. Inside a job it is exactly-once: a
replay gets the first row back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections

from django_durable.conf import get_settings
from django_durable.engine import context, enqueueing, instances, registry, uniqueness
from django_durable.engine.adopting import find_children, find_made, rehearse
from django_durable.engine.enqueueing import NewJob, NewKey, Parent, uuid7
from django_durable.engine.inserting import as_job, insert_calls, same_call, with_origin
from django_durable.engine.limit_keys import limit_of
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.run import (
    ActiveStep,
    Ending,
    Run,
    Stop,
    active_step,
    current_run,
    require_run,
)
from django_durable.engine.threads import has_user_transaction
from django_durable.exceptions import (
    BulkItemError,
    EnqueueError,
    IdempotencyConflictError,
    InvalidOptionError,
    JobNotFoundError,
    WrongDatabaseError,
)

if TYPE_CHECKING:
    from django_durable.models import Job


@dataclass(frozen=True, slots=True)
class Request:
    """One call to enqueue: a task with its options, and the arguments."""

    task: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def submit(request: Request) -> Job:
    """Enqueue one call. Raises: EnqueueError, having written nothing."""
    run = require_run("enqueue()")
    new = build(request)
    alias = database_of(request.task, run)
    if run is None:
        return submit_outside(alias, request, new)
    step = active_step()
    return submit_inside(run, step, request, *with_origin(run, step, new))


def submit_apart(request: Request) -> Job:
    """Enqueue one call that is no job's child, wherever this runs. Raises: EnqueueError."""
    new = replace(build(request), on_parent_end=None)
    return submit_outside(database_of(request.task, None), request, new)


def submit_outside(alias: str, request: Request, new: NewJob) -> Job:
    """Enqueue one call outside jobs. Raises: EnqueueError."""
    if new.unique_key is not None:
        return uniqueness.submit(alias, new)
    if (key := key_of(request, new)) is None:
        notify = get_settings().notifies(new.queue_name)
        return as_job(alias, new, enqueueing.insert_job(connections[alias], new, notify=notify))
    job = submit_keyed(alias, new, key)
    if job is None:
        raise IdempotencyConflictError(key=key.key, scope=key.scope, owner=", again and again")
    return job


def build(request: Request) -> NewJob:
    """The row of a call, checked. Raises: EnqueueError."""
    return build_row(request, context.capture())


def build_many(requests: Sequence[Request]) -> list[NewJob]:
    """The rows of many calls. Raises: BulkItemError naming the first that is refused."""
    captured = context.capture()
    rows = []
    for index, request in enumerate(requests):
        with numbered(index, request):
            rows.append(build_row(request, captured))
    return rows


def build_row(request: Request, captured: str | None) -> NewJob:
    """The row of a call, with what was captured for it. Raises: EnqueueError."""
    task = request.task
    columns = columns_of(request, captured)
    if task.unique is not None:
        columns |= uniqueness.columns_of(task, request.args, request.kwargs)
    arguments = encode_call(task, request.args, request.kwargs)
    return NewJob(id=uuid7(), arguments=arguments, **columns)


def columns_of(request: Request, captured: str | None) -> dict[str, Any]:
    """What a task's options, and its limit for this call, say of a row. Raises: EnqueueError."""
    task = request.task
    if not hasattr(task, "bind_arguments"):
        reason = "it is not a task; decorate the function with @task."
        raise InvalidOptionError(option="task", value=task, reason=reason)
    registry.check_conflict(task.path)
    check_queue(task.queue_name)
    subject_type, subject_key = _subject_of(task.subject)
    limit_name, limit_key = limit_of(task, request.args, request.kwargs)
    return {
        "task_path": task.path,
        "queue_name": task.queue_name,
        "priority": task.priority,
        "run_after": task.run_after,
        "delay": task.delay,
        "deadline_at": task.deadline if isinstance(task.deadline, datetime) else None,
        "deadline": task.deadline if isinstance(task.deadline, timedelta) else None,
        "on_parent_end": task.on_parent_end if current_run() is not None else None,
        "subject_type": subject_type,
        "subject_key": subject_key,
        "limit_name": limit_name,
        "limit_key": limit_key,
        "context": captured,
    }


def encode_call(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The arguments of a call as text, checked. Raises: EnqueueError."""
    signature = task.signature
    if kwargs or not signature.least <= len(args) <= signature.most:
        task.bind_arguments(args, kwargs)
    return instances.encode_arguments(signature, args, kwargs, get_settings().MAX_PAYLOAD_BYTES)


def _subject_of(subject: Any) -> tuple[str | None, str | None]:
    if subject is None:
        return None, None
    try:
        found = instances.model_key(subject)
    except ValueError as error:
        raise InvalidOptionError(option="subject", value=subject, reason=str(error)) from None
    if found is None:
        reason = "it must be a model instance."
        raise InvalidOptionError(option="subject", value=subject, reason=reason)
    return found[0], str(found[1])


def check_queue(queue_name: str) -> None:
    known = get_settings().QUEUES
    if known is not None and queue_name not in known:
        reason = f"DURABLE['QUEUES'] names {', '.join(known)}."
        raise InvalidOptionError(option="queue_name", value=queue_name, reason=reason)


def database_of(task: Any, run: Run | None) -> str:
    """The alias to write to. Raises: WrongDatabaseError if only another one has a transaction."""
    alias = run.alias if run is not None else get_settings().DATABASE
    if task.outside_transaction or connections[alias].in_atomic_block:
        return alias
    for other in connections.all(initialized_only=True):
        if other.alias != alias and has_user_transaction(other):
            raise WrongDatabaseError(open_alias=other.alias, alias=alias)
    return alias


def key_of(request: Request, new: NewJob) -> NewKey | None:
    """The idempotency key of a call, or None."""
    task = request.task
    if task.idempotency_key is None:
        return None
    args, kwargs = task.bind_arguments(request.args, request.kwargs)
    return NewKey(
        scope=task.path,
        key=task.idempotency_key,
        fingerprint=instances.digest_call(task.signature, args, kwargs),
        retention=task.idempotency_retention,
    )


def submit_keyed(alias: str, new: NewJob, key: NewKey, parent: Parent | None = None) -> Job | None:
    """Insert under a key, or return the job that has it; None: the parent's lease is lost.

    An expired key in the way is freed first, by whoever of several comes first.
    """
    connection = connections[alias]
    notify = get_settings().notifies(new.queue_name)
    for _ in range(MOST_LOOKS):
        inserted = enqueueing.insert_job_with_key(
            connection, new, key, parent=parent, notify=notify
        )
        if inserted is not None:
            return as_job(alias, new, inserted, parent)
        taken = enqueueing.find_key(connection, key.scope, key.key)
        if taken is not None and not taken.expired:
            return _holder(alias, new, key, taken)
        if taken is not None:
            enqueueing.free_key(connection, key.scope, key.key, taken.job_id)
    return None


MOST_LOOKS = 5
"""Each look that finds neither the key nor a free place means that another caller came between."""


def _holder(alias: str, new: NewJob, key: NewKey, taken: enqueueing.TakenKey) -> Job:
    if taken.fingerprint != key.fingerprint:
        raise IdempotencyConflictError(
            key=key.key, scope=key.scope, owner=f", by job {taken.job_id}"
        )
    job = job_rows(alias).filter(pk=taken.job_id).first() if taken.job_id else None
    if job is None:
        raise JobNotFoundError(job_id=taken.job_id)
    job.is_duplicate = job.pk != new.id
    return job


# --- inside a job


def submit_inside(
    run: Run, step: ActiveStep | None, request: Request, parent: Parent, new: NewJob
) -> Job:
    """Enqueue one call inside a job. Raises: EnqueueError, Suspension."""
    if new.unique_key is not None:
        return uniqueness.submit_inside(run, step, parent, new)
    key = key_of(request, new)
    if key is None:
        return insert_calls(run, step, parent, [new])[0]
    known = find_made(run, step, [new], has_key=True)
    known = known or run.repeat(lambda: find_children(run, [new]))
    if known:
        return same_call(run, step, new, known[new.origin])
    if run.rehearses:
        taken = enqueueing.find_key(connections[run.alias], key.scope, key.key)
        return _holder(run.alias, new, key, taken) if taken else rehearse(run, new)
    job = run.repeat(lambda: submit_keyed(run.alias, new, key, parent))
    if job is None:
        run.stop(Ending(stop=Stop.LEASE_LOST))
    return job


@contextmanager
def numbered(index: int, request: Request) -> Iterator[None]:
    """Name the place of the one among many that is refused. Raises: BulkItemError."""
    try:
        yield
    except EnqueueError as error:
        shown = getattr(request.task, "path", repr(request.task))
        raise BulkItemError(index=index, task_path=shown, cause=error) from error
