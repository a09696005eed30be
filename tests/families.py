"""Parents and children made row by row, so that tests can look at single statements."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.db import connection

from django_durable.engine import claims, enqueueing, waits
from django_durable.engine.enqueueing import as_child, uuid7
from django_durable.engine.states import JobState, WaitKind
from django_durable.models import Checkpoint, Job
from tests.protocol.world import (
    NO_ARGUMENTS,
    PATH,
    QUEUE,
    claimant,
    finish,
    new_checkpoint,
    new_job,
    new_worker,
    save,
)

CHILD, MAP = "start:child", "map:child"


def parent_job() -> Job:
    """A job that runs, and may start children."""
    job = new_job()
    (claimed,) = claim_only(job)
    return claimed


def claim_only(*jobs: Job) -> list[Job]:
    """These jobs, claimed by a new worker, in the order of their ids; others are left alone."""
    ids = {job.pk for job in jobs}
    others = Job.objects.ready().exclude(pk__in=ids)
    hidden = list(others.values_list("pk", flat=True))
    Job.objects.filter(pk__in=hidden).update(queue_name="hidden")
    try:
        claimed = claims.claim_jobs(claimant(new_worker()), [QUEUE], limit=len(ids)).jobs
    finally:
        Job.objects.filter(pk__in=hidden).update(queue_name=QUEUE)
    assert {job.pk for job in claimed} == ids
    return sorted(claimed, key=lambda job: job.pk)


def children_of(
    parent: Job, *origins: str, awaited_as: str | None = None, **more: Any
) -> list[Job]:
    """New children that a running parent waits for, by their origins or by one name."""
    rows = [
        as_child(
            parent,
            enqueueing.NewJob(
                id=uuid7(),
                task_path=PATH,
                queue_name=QUEUE,
                priority=0,
                arguments=NO_ARGUMENTS,
                origin=origin,
                awaited_as=awaited_as or origin,
                **more,
            ),
        )
        for origin in origins
    ]
    holder = enqueueing.Parent(job_id=parent.pk, lease_token=parent.lease_token)
    enqueueing.insert_jobs(connection, rows, parent=holder, notify_queues=[])
    return jobs_in_order([row.id for row in rows])


def mapped_children(parent: Job, count: int, **rule: int | None) -> list[Job]:
    """A map of a running parent: its rule, then its children, those beyond the limit held back."""
    limits = {"max_concurrency": None, "min_successes": None, "max_failures": None} | rule
    value = json.dumps({"total": count} | limits)
    save(parent, MAP, kind="map", state="STARTED", value=value)
    places = limits["max_concurrency"] or count
    made = []
    for index in range(count):
        origin = f"{MAP}/{index}"
        made += children_of(parent, origin, awaited_as=MAP, held_back=index >= places)
    return made


def waiting(parent: Job, *awaited: str) -> Job:
    """A running parent after it was suspended for children, as ``result()`` and a map do."""
    suspended = waits.suspend_job(connection, [wait_for(parent, name) for name in awaited])
    assert suspended is not None
    return fresh(parent)


def wait_for(parent: Job, awaited_as: str) -> waits.Wait:
    kind = "map" if awaited_as.startswith("map:") else "child"
    return waits.Wait(
        checkpoint=new_checkpoint(parent, awaited_as, kind=kind, state="STARTED", value=None),
        kind=WaitKind.CHILDREN,
        reason="waits for children",
        awaited_as=awaited_as,
    )


def end(job: Job, state: JobState = JobState.SUCCESSFUL) -> Job:
    """A ready job after it was claimed and has ended so."""
    (claimed,) = claim_only(job)
    assert finish(claimed, state, error='{"type": "E"}') is not None
    return fresh(job)


def fresh(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def jobs_in_order(ids: list[UUID]) -> list[Job]:
    rows = Job.objects.in_bulk(ids)
    return [rows[key] for key in ids]


def states_of(*jobs: Job) -> list[str]:
    return [fresh(job).state for job in jobs]


def compensated_step(job: Job, identity: str = "charge") -> None:
    """A running job has a step behind it that can be undone."""
    save(job, identity)
    rows = Checkpoint.objects.filter(job_id=job.pk, identity=identity)
    rows.update(compensation='{"function": "refund"}')
