"""From a task and its arguments to a row: what is refused, and how a repeated call is recognised.

Outside jobs a call is an INSERT in the caller's transaction. Inside a job it is exactly-once: the
row carries the parent and the identity of the call, and a replay gets the first row back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine import context, enqueueing, instances, registry
from django_durable.engine.adopting import find_children, find_made, rehearse
from django_durable.engine.enqueueing import (
    Inserted,
    NewJob,
    NewKey,
    Parent,
    as_child,
    uuid7,
)
from django_durable.engine.replay import ReplayMismatch
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.rows import stored_job
from django_durable.engine.run import (
    ActiveStep,
    Ending,
    Run,
    Stop,
    active_step,
    current_run,
    has_user_transaction,
    require_run,
)
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
    return _submit_one(alias, run, request, new)


def submit_apart(request: Request) -> Job:
    """Enqueue one call that is no job's child, wherever this runs. Raises: EnqueueError."""
    new = replace(build(request), on_parent_end=None)
    return _submit_outside(database_of(request.task, None), request, new)


def _submit_outside(alias: str, request: Request, new: NewJob) -> Job:
    if (key := key_of(request, new)) is None:
        notify = get_settings().notifies(new.queue_name)
        return as_job(alias, new, enqueueing.insert_job(connections[alias], new, notify=notify))
    job = _submit_keyed(alias, request, new, key)
    if job is None:
        raise IdempotencyConflictError(key=key.key, scope=key.scope, owner=", again and again")
    return job


def build(request: Request) -> NewJob:
    """The row of a call, checked. Raises: EnqueueError."""
    return _build(request, context.capture())


def build_many(requests: Sequence[Request]) -> list[NewJob]:
    """The rows of many calls. Raises: BulkItemError naming the first that is refused."""
    captured = context.capture()
    rows = []
    for index, request in enumerate(requests):
        with numbered(index, request):
            rows.append(_build(request, captured))
    return rows


def _build(request: Request, captured: str | None) -> NewJob:
    task = request.task
    if not hasattr(task, "bind_arguments"):
        reason = "it is not a task; decorate the function with @task."
        raise InvalidOptionError(option="task", value=task, reason=reason)
    registry.check_conflict(task.path)
    check_queue(task.queue_name)
    subject_type, subject_key = _subject_of(task.subject)
    return NewJob(
        id=uuid7(),
        task_path=task.path,
        queue_name=task.queue_name,
        priority=task.priority,
        arguments=encode_call(task, request.args, request.kwargs),
        run_after=task.run_after,
        delay=task.delay,
        deadline_at=task.deadline if isinstance(task.deadline, datetime) else None,
        deadline=task.deadline if isinstance(task.deadline, timedelta) else None,
        on_parent_end=task.on_parent_end if current_run() is not None else None,
        subject_type=subject_type,
        subject_key=subject_key,
        context=captured,
    )


def encode_call(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The arguments of a call as text, checked. Raises: EnqueueError."""
    task.bind_arguments(args, kwargs)
    limit = get_settings().MAX_PAYLOAD_BYTES
    return instances.encode_arguments(task.signature, args, kwargs, limit)


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


def _submit_keyed(
    alias: str, request: Request, new: NewJob, key: NewKey, parent: Parent | None = None
) -> Job | None:
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


def as_job(alias: str, new: NewJob, inserted: Inserted, parent: Parent | None = None) -> Job:
    """The row as it was inserted, without asking the database again."""
    return stored_job(
        alias,
        id=new.id,
        task_path=new.task_path,
        queue_name=new.queue_name,
        priority=new.priority,
        arguments=new.arguments,
        run_after=new.run_after,
        subject_type=new.subject_type,
        subject_key=new.subject_key,
        state=inserted.state,
        due_at=inserted.due_at,
        enqueued_at=inserted.enqueued_at,
        deadline_at=inserted.deadline_at,
        parent_id=parent.job_id if parent else None,
        origin=new.origin,
        awaited_as=new.awaited_as,
        on_parent_end=new.on_parent_end,
        depth=new.depth,
        context=new.context,
        cancels_children=False,
        claimed_ahead=False,
        continued_count=0,
    )


# --- inside a job


def _submit_inside(run: Run, request: Request, new: NewJob) -> Job:
    step = active_step()
    parent, new = _with_origin(run, step, new)
    key = key_of(request, new)
    if key is None:
        return _insert_children(run, step, parent, [new])[0]
    known = find_made(run, step, [new], has_key=True)
    known = known or run.repeat(lambda: find_children(run, [new]))
    if known:
        return _same_call(run, step, new, known[new.origin])
    if run.rehearses:
        taken = enqueueing.find_key(connections[run.alias], key.scope, key.key)
        return _holder(run.alias, new, key, taken) if taken else rehearse(run, new)
    job = run.repeat(lambda: _submit_keyed(run.alias, request, new, key, parent))
    if job is None:
        run.stop(Ending(stop=Stop.LEASE_LOST))
    return job


def submit_children(run: Run, requests: Sequence[NewJob]) -> list[Job]:
    """Enqueue many calls made at one place inside a job. Raises: ChildDepthError."""
    step = active_step()
    parents, jobs = zip(*(_with_origin(run, step, new) for new in requests), strict=True)
    return _insert_children(run, step, parents[0], list(jobs))


def insert_child(run: Run, new: NewJob) -> Job:
    """Insert a child under its origin; the row that an earlier run inserted, if there is one."""
    return _insert_children(run, None, _parent_of(run), [as_child(run.job, new)])[0]


def insert_children(run: Run, rows: Sequence[NewJob]) -> None:
    """Insert children under their origins. Those that exist stay; a lost lease inserts none."""
    _insert(run.alias, [as_child(run.job, new) for new in rows], _parent_of(run))


def _parent_of(run: Run) -> Parent:
    return Parent(job_id=run.job.id, lease_token=run.job.lease_token)


def _with_origin(run: Run, step: ActiveStep | None, new: NewJob) -> tuple[Parent, NewJob]:
    """Name the call, and hand down what it inherits. Raises: ChildDepthError.

    In a transaction of the engine's the commit is fenced, not the statement.
    """
    call = f"enqueue:{new.task_path}"
    origin = step.origin_of(call) if step else run.scope.identify(call)
    fenced_later = run.in_task_transaction or (step is not None and step.kind == "atomic")
    token = None if fenced_later else run.job.lease_token
    parent = Parent(job_id=run.job.id, lease_token=token)
    return parent, replace(as_child(run.job, new), origin=origin)


def _insert_children(
    run: Run, step: ActiveStep | None, parent: Parent, jobs: list[NewJob]
) -> list[Job]:
    known = find_made(run, step, jobs)
    fresh = [new for new in jobs if new.origin not in known]
    inserted = run.repeat(lambda: _insert(run.alias, fresh, parent)) if fresh else {}
    missing = [new for new in fresh if new.id not in inserted]
    known |= run.repeat(lambda: find_children(run, missing)) if missing else {}
    if len(known) + len(inserted) < len(jobs):
        run.stop(Ending(stop=Stop.LEASE_LOST))
    return [
        as_job(run.alias, new, inserted[new.id], parent)
        if new.id in inserted
        else _same_call(run, step, new, known[new.origin])
        for new in jobs
    ]


def _insert(alias: str, jobs: Sequence[NewJob], parent: Parent | None) -> dict[UUID, Inserted]:
    settings = get_settings()
    queues = {new.queue_name for new in jobs}
    return enqueueing.insert_jobs(
        connections[alias],
        jobs,
        parent=parent,
        notify_queues=[name for name in sorted(queues) if settings.notifies(name)],
    )


def _same_call(run: Run, step: ActiveStep | None, new: NewJob, known: Job) -> Job:
    """The row that an earlier run of this call inserted; between steps it must be the same call."""
    same = known.arguments == new.arguments and known.task_path == new.task_path
    if step is None and not same:
        run.block(
            ReplayMismatch(
                expected=f"{new.origin} with the arguments {known.arguments} (recorded)",
                found=f"{new.arguments} (this run)",
            )
        )
    return known


# --- many at once

CHUNK = 1000
"""Jobs in one INSERT."""


def submit_many(requests: Sequence[Request]) -> list[Job]:
    """Enqueue many calls, all or none, and wake each queue once.

    Keyless ones go in one statement for each thousand; those with keys one by one, in the order of
    their keys, so that two such transactions never wait for each other in a circle.
    """
    if not requests:
        return []
    run = require_run("enqueue_many()")
    rows = build_many(requests)
    alias = database_of(requests[0].task, run)
    keyed = [i for i, request in enumerate(requests) if request.task.idempotency_key is not None]
    plain = [i for i in range(len(requests)) if i not in set(keyed)]
    jobs: dict[int, Job] = {}
    with transaction.atomic(using=alias):
        for start in range(0, len(plain), CHUNK):
            part = plain[start : start + CHUNK]
            jobs |= zip(part, _submit_part(alias, run, [rows[i] for i in part]), strict=True)
        for i in sorted(keyed, key=lambda i: (rows[i].task_path, requests[i].task.idempotency_key)):
            with numbered(i, requests[i]):
                jobs[i] = _submit_one(alias, run, requests[i], rows[i])
    return [jobs[i] for i in range(len(requests))]


def _submit_part(alias: str, run: Run | None, rows: list[NewJob]) -> list[Job]:
    if run is not None:
        return submit_children(run, rows)
    inserted = _insert(alias, rows, None)
    return [as_job(alias, new, inserted[new.id]) for new in rows]


def _submit_one(alias: str, run: Run | None, request: Request, new: NewJob) -> Job:
    return _submit_inside(run, request, new) if run else _submit_outside(alias, request, new)


@contextmanager
def numbered(index: int, request: Request) -> Iterator[None]:
    """Name the place of the one among many that is refused. Raises: BulkItemError."""
    try:
        yield
    except EnqueueError as error:
        shown = getattr(request.task, "path", repr(request.task))
        raise BulkItemError(index=index, task_path=shown, cause=error) from error
