"""Verbs on jobs: enqueue, find, cancel, retry; and ``once`` for work outside jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine import (
    bulk,
    enqueueing,
    families,
    finding,
    instances,
    intake,
    outcomes,
    waits,
)
from django_durable.engine.options import check_key, check_retention
from django_durable.engine.run import current_run
from django_durable.exceptions import (
    BulkItemError,
    IdempotencyConflictError,
    InvalidOptionError,
    JobNotFoundError,
    JobStateError,
)
from django_durable.tasks import DEFAULT_KEY_RETENTION, BoundCall, Task

if TYPE_CHECKING:
    from django_durable.models import Job, JobQuerySet

P = ParamSpec("P")
R = TypeVar("R")


def enqueue(task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Job:
    """Make a call of a task a job: one INSERT, in the caller's transaction.

    Nothing is visible before the commit, nothing is left after a rollback. Inside a job it is
    exactly-once: a replay gets the first row back. Options: ``enqueue(task.using(...), ...)``.

    Raises: EnqueueError, having written nothing.
    """
    return intake.submit(intake.Request(task, args, kwargs))


async def aenqueue(task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Job:
    return await sync_to_async(enqueue, thread_sensitive=True)(task, *args, **kwargs)


def enqueue_many(calls: Iterable[BoundCall]) -> list[Job]:
    """Enqueue many calls in a bounded number of statements: all, or none.

    >>> enqueue_many(send_invoice.bind(customer) for customer in customers)

    Raises: BulkItemError naming the first item that is refused; nothing is written then.
    """
    known = list(calls)
    for index, call in enumerate(known):
        if not isinstance(call, BoundCall):
            reason = "it is not a call; make it one with task.bind(...)."
            cause = InvalidOptionError(option="call", value=call, reason=reason)
            raise BulkItemError(index=index, task_path=repr(call), cause=cause)
    return bulk.submit_many(known)


async def aenqueue_many(calls: Iterable[BoundCall]) -> list[Job]:
    return await sync_to_async(enqueue_many, thread_sensitive=True)(calls)


def current_job() -> Job | None:
    """The job whose code this is, as its row was when claimed; None outside jobs."""
    run = current_run()
    return run.public_job if run is not None else None


def get_job(job_id: UUID | str) -> Job:
    """A job by its id. Raises: JobNotFoundError."""
    return finding.find_job(job_id)


async def aget_job(job_id: UUID | str) -> Job:
    return await sync_to_async(get_job, thread_sensitive=True)(job_id)


def cancel_job(job: Job | UUID | str) -> Job:
    """Cancel a job, and return its row afterwards.

    One that does not run ends at once, or becomes READY to undo its steps and end. A running one is
    asked to stop (``cancel_requested_at``): it ends CANCELLED at its next durable point, and also
    if it finishes or fails before. Live jobs that it enqueued are cancelled next, one by one.

    Raises: JobNotFoundError; JobStateError if it is finished already.
    """
    (changed,) = _one(job, outcomes.cancel_jobs(_alias(), [finding.id_of(job)]))
    if not changed.changed:
        _refuse(changed, "cancelled", "It is finished.")
    return get_job(changed.job_id)


async def acancel_job(job: Job | UUID | str) -> Job:
    return await sync_to_async(cancel_job, thread_sensitive=True)(job)


def retry_job(
    job: Job | UUID | str,
    *,
    rerun_interrupted: bool = False,
    allow_new_steps: Sequence[str] = (),
) -> Job:
    """Make a failed, cancelled or blocked job ready again, and return its row afterwards.

    It goes on from the step that ended it; ``max_attempts`` counts anew. ``rerun_interrupted`` also
    runs an at-most-once step again whose process died in it. ``allow_new_steps`` names steps of a
    blocked job that may run although they have no checkpoint.

    Children that it started and that failed or were cancelled are retried too, and theirs, in the
    same transaction, unless the job has recorded how they ended and went on. A child retried alone
    never reopens its parent. A deadline that has passed no longer holds.

    Raises: JobNotFoundError; JobStateError in any other state.
    """
    found = outcomes.retry_jobs(
        _alias(),
        [finding.id_of(job)],
        rerun_interrupted=rerun_interrupted,
        allowed_steps=allow_new_steps,
    )
    (changed,) = _one(job, found)
    if not changed.changed:
        _refuse(changed, "retried", "Only failed, cancelled and blocked jobs are.")
    return get_job(changed.job_id)


async def aretry_job(job: Job | UUID | str, **options: Any) -> Job:
    return await sync_to_async(retry_job, thread_sensitive=True)(job, **options)


def wake_job(job: Job | UUID | str) -> Job:
    """Let a sleeping or scheduled job go on at once, and return its row afterwards.

    Its sleep is over then, on every replay. A job that waits for something else is not woken so.

    Raises: JobNotFoundError; JobStateError if it neither sleeps nor is scheduled.
    """
    job_id = finding.id_of(job)
    with transaction.atomic(using=_alias()):
        families.lock_jobs(connections[_alias()], [job_id])
        woken = waits.end_timers(connections[_alias()], job_id)
    found = get_job(job_id)
    if not woken:
        raise JobStateError(
            job_id=found.pk,
            task_path=found.task_path,
            verb="woken",
            state=found.state,
            cure="Only sleeping and scheduled jobs are; an event is sent by send_event().",
        )
    return found


async def awake_job(job: Job | UUID | str) -> Job:
    return await sync_to_async(wake_job, thread_sensitive=True)(job)


@dataclass(frozen=True, slots=True)
class BulkResult:
    """How many jobs a bulk verb changed, and how many it left as they were."""

    changed: int
    unchanged: int


BULK_CHUNK = 500


def cancel_jobs(jobs: JobQuerySet) -> BulkResult:
    """Cancel every job of a queryset that is not finished, in chunks, one commit each."""
    return _in_chunks(jobs, outcomes.cancel_jobs)


def retry_jobs(jobs: JobQuerySet) -> BulkResult:
    """Retry every failed, cancelled or blocked job of a queryset, in chunks, one commit each."""
    return _in_chunks(jobs, outcomes.retry_jobs)


def _in_chunks(jobs: JobQuerySet, verb: Callable[..., list[outcomes.Changed]]) -> BulkResult:
    changed = seen = 0
    last: UUID | None = None
    ids = jobs.order_by("pk").values_list("pk", flat=True)
    while chunk := list((ids.filter(pk__gt=last) if last else ids)[:BULK_CHUNK]):
        found = verb(_alias(), chunk)
        changed += sum(row.changed for row in found)
        seen += len(chunk)
        last = chunk[-1]
    return BulkResult(changed, seen - changed)


def once(
    key: str,
    function: Callable[..., R],
    /,
    *args: Any,
    scope: str = "",
    retention: timedelta = DEFAULT_KEY_RETENTION,
    **kwargs: Any,
) -> R:
    """Run a function once for a key, outside jobs (a webhook view), and return its recorded result.

    Body and key are one transaction on the jobs' database: a second call returns the recorded
    result, a concurrent one waits for the first, and an exception leaves no key. The key names the
    request, not the function: give different kinds of requests different scopes.

    >>> once(event["id"], record_payment, event["order"], scope="stripe")

    Raises: IdempotencyConflictError if the key was used with other arguments; InvalidOptionError;
    NotSerializableError.
    """
    _check_once(key, scope, retention)
    new = enqueueing.NewKey(
        scope=f"once/{scope}",
        key=key,
        fingerprint=_fingerprint(function, args, kwargs),
        retention=retention,
    )
    hint = instances.hints_of(function).get("return", Any)
    with transaction.atomic(using=get_settings().DATABASE):
        stored = _run_once(new, lambda: function(*args, **kwargs), hint)
    result: R = instances.decode(stored, hint=hint)
    return result


def _fingerprint(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> str:
    try:
        bound = instances.python_signature(function).bind(*args, **kwargs)
    except ValueError:  # some builtins do not tell their parameters
        return instances.digest_call(instances.Signature((), {}, Any), args, kwargs)
    return instances.digest_call(instances.signature_of(function), bound.args, bound.kwargs)


def _check_once(key: str, scope: str, retention: timedelta) -> None:
    if problem := check_key(key):
        raise InvalidOptionError(option="key", value=key, reason=problem)
    if scope != "" and (problem := check_key(scope)):
        raise InvalidOptionError(option="scope", value=scope, reason=problem)
    if problem := check_retention(retention):
        raise InvalidOptionError(option="retention", value=retention, reason=problem)


def _run_once(new: enqueueing.NewKey, body: Callable[[], Any], hint: Any) -> str:
    connection = connections[_alias()]
    for _ in range(intake.MOST_LOOKS):
        key_id = enqueueing.insert_key(connection, new)
        if key_id is not None:
            limit = get_settings().MAX_PAYLOAD_BYTES
            text = instances.encode(body(), hint=hint, path="the result", limit=limit)
            enqueueing.set_key_value(connection, key_id, text)
            return text
        taken = enqueueing.find_key(connection, new.scope, new.key)
        if taken is not None and not taken.expired:
            if taken.fingerprint != new.fingerprint or taken.value is None:
                raise IdempotencyConflictError(key=new.key, scope=new.scope, owner="")
            return taken.value
        if taken is not None:
            enqueueing.free_key(connection, new.scope, new.key, taken.job_id)
    raise IdempotencyConflictError(key=new.key, scope=new.scope, owner=", again and again")


def _alias() -> str:
    return get_settings().DATABASE


def _one(job: Job | UUID | str, found: list[outcomes.Changed]) -> list[outcomes.Changed]:
    if not found:
        raise JobNotFoundError(job_id=finding.id_of(job))
    return found


def _refuse(changed: outcomes.Changed, verb: str, cure: str) -> NoReturn:
    raise JobStateError(
        job_id=changed.job_id,
        task_path=changed.task_path,
        verb=verb,
        state=changed.before.value,
        cure=cure,
    )
