"""From checked calls to rows: outside jobs, and exactly-once inside them.

Inside a job the row carries the parent and the identity of the call, unique together, so that a
replay meets the first row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connections

from django_durable.conf import get_settings
from django_durable.engine import enqueueing
from django_durable.engine.adopting import find_children, find_made
from django_durable.engine.enqueueing import Inserted, NewJob, Parent, as_child
from django_durable.engine.replay import ReplayMismatch
from django_durable.engine.rows import stored_job
from django_durable.engine.run import ActiveStep, Ending, Run, Stop

if TYPE_CHECKING:
    from django_durable.models import Job


def insert(alias: str, jobs: Sequence[NewJob], parent: Parent | None) -> dict[UUID, Inserted]:
    """Insert rows in one statement. Missing: it exists, its unique key is taken, lease lost."""
    settings = get_settings()
    queues = {new.queue_name for new in jobs}
    return enqueueing.insert_jobs(
        connections[alias],
        jobs,
        parent=parent,
        notify_queues=[name for name in sorted(queues) if settings.notifies(name)],
    )


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
        limit_name=new.limit_name,
        limit_key=new.limit_key,
        unique_key=new.unique_key,
        unique_while=new.unique_while,
        unique_until=inserted.unique_until,
        cancels_children=False,
        claimed_ahead=False,
        continued_count=0,
    )


# --- inside a job


def with_origin(run: Run, step: ActiveStep | None, new: NewJob) -> tuple[Parent, NewJob]:
    """Name the call, and hand down what it inherits. Raises: ChildDepthError.

    In a transaction of the engine's the commit is fenced, not the statement.
    """
    call = f"enqueue:{new.task_path}"
    origin = step.origin_of(call) if step else run.scope.identify(call)
    fenced_later = run.in_task_transaction or (step is not None and step.kind == "atomic")
    token = None if fenced_later else run.job.lease_token
    parent = Parent(job_id=run.job.id, lease_token=token)
    return parent, replace(as_child(run.job, new), origin=origin)


def insert_calls(
    run: Run, step: ActiveStep | None, parent: Parent, jobs: list[NewJob]
) -> list[Job]:
    """Insert calls made at one place inside a job, or find those that an earlier run inserted."""
    known = find_made(run, step, jobs)
    fresh = [new for new in jobs if new.origin not in known]
    inserted = run.repeat(lambda: insert(run.alias, fresh, parent)) if fresh else {}
    missing = [new for new in fresh if new.id not in inserted]
    known |= run.repeat(lambda: find_children(run, missing)) if missing else {}
    if len(known) + len(inserted) < len(jobs):
        run.stop(Ending(stop=Stop.LEASE_LOST))
    return [
        as_job(run.alias, new, inserted[new.id], parent)
        if new.id in inserted
        else same_call(run, step, new, known[new.origin])
        for new in jobs
    ]


def insert_child(run: Run, new: NewJob) -> Job:
    """Insert a child under its origin; the row that an earlier run inserted, if there is one."""
    return insert_calls(run, None, _parent_of(run), [as_child(run.job, new)])[0]


def insert_children(run: Run, rows: Sequence[NewJob]) -> None:
    """Insert children under their origins. Those that exist stay; a lost lease inserts none."""
    insert(run.alias, [as_child(run.job, new) for new in rows], _parent_of(run))


def _parent_of(run: Run) -> Parent:
    return Parent(job_id=run.job.id, lease_token=run.job.lease_token)


def same_call(run: Run, step: ActiveStep | None, new: NewJob, known: Job) -> Job:
    """The row that an earlier run of this call got; between steps it must be the same call."""
    if step is None and not known.is_duplicate and not _is_same(new, known):
        run.block(
            ReplayMismatch(
                expected=f"{new.origin} with the arguments {known.arguments} (recorded)",
                found=f"{new.arguments} (this run)",
            )
        )
    return known


def _is_same(new: NewJob, known: Job) -> bool:
    """A unique one may stand for a newer call of somebody else by now, with other arguments."""
    is_replaced = new.unique_key is not None and known.unique_key in (None, new.unique_key)
    is_same = known.arguments == new.arguments or is_replaced
    return is_same and known.task_path == new.task_path
