"""The rows the stories are about, and the writes that a worker or an operator makes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, connections

from django_durable.engine import (
    checkpoints,
    claims,
    enqueueing,
    liveness,
    outcomes,
    progress,
    registry,
    waits,
)
from django_durable.engine.checkpoints import NewCheckpoint, Saved, load_checkpoints
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.enqueueing import uuid7
from django_durable.engine.executor import execute
from django_durable.engine.outcomes import Changed, Outcome, Written
from django_durable.engine.run import Ending, Run, Stop, Writer, current_run
from django_durable.engine.states import JobState, WaitKind
from django_durable.models import Checkpoint, Job, Worker
from tests.protocol.stage import ALIAS

PATH = "protocol.task"
QUEUE = "default"
LEASE = timedelta(seconds=15)
AT_ONCE = timedelta(0)
HOUR = timedelta(hours=1)
NO_ARGUMENTS = '{"args":[],"kwargs":{}}'

# --- rows


def new_worker(lease: timedelta = LEASE) -> int:
    return liveness.register_worker(
        ALIAS,
        liveness.Registration(
            hostname="here", pid=1, queues=[QUEUE], slots=1, code_version="one", lease=lease
        ),
    )


def new_row(path: str = PATH, **more: Any) -> enqueueing.NewJob:
    return enqueueing.NewJob(
        id=uuid7(),
        task_path=path,
        queue_name=QUEUE,
        priority=0,
        arguments=NO_ARGUMENTS,
        **more,
    )


def new_job(path: str = PATH, **columns: Any) -> Job:
    row = new_row(path)
    enqueueing.insert_job(connection, row, notify=False)
    if columns:
        Job.objects.filter(pk=row.id).update(**columns)
    return Job.objects.get(pk=row.id)


def claimant(worker_id: int) -> claims.Claimant:
    return claims.Claimant(
        worker_id=worker_id,
        alias=ALIAS,
        task_paths=[PATH, *registry.known_paths()],
        code_version="one",
        max_lost=5,
    )


def claim(worker_id: int, limit: int = 1) -> list[Job]:
    return claims.claim_jobs(claimant(worker_id), [QUEUE], limit=limit).jobs


def claimed_job(worker_id: int, path: str = PATH) -> Job:
    new_job(path)
    (job,) = claim(worker_id)
    return job


def claimed_jobs(worker_id: int, count: int) -> list[Job]:
    """So many jobs claimed at once, in the order of their ids."""
    for _ in range(count):
        new_job()
    return sorted(claim(worker_id, count), key=lambda job: job.pk)


def state_of(job: Job) -> str:
    return Job.objects.values_list("state", flat=True).get(pk=job.pk)


def checkpoints_of(job: Job) -> dict[str, str]:
    rows = Checkpoint.objects.filter(job_id=job.pk)
    return dict(rows.values_list("identity", "state"))


# --- what happens to workers


def lose(worker_id: int) -> None:
    """Somebody declares the worker lost."""
    Worker.objects.filter(pk=worker_id).update(lost_at=StatementTimestamp())


def sweep() -> list[UUID]:
    return [row.job_id for row in liveness.recover_jobs(connection, limit=100)]


def taken_over(job: Job) -> Job:
    """The job after its worker was declared lost and another one claimed it."""
    assert job.worker_id is not None
    lose(job.worker_id)
    assert job.pk in sweep()
    claimed = {one.pk: one for one in claim(new_worker())}
    return claimed[job.pk]


# --- the writes of a worker to a job it runs


def new_checkpoint(job: Job, identity: str = "a", **more: Any) -> NewCheckpoint:
    columns: dict[str, Any] = {
        "seq": 1,
        "kind": "plain",
        "state": "SUCCESSFUL",
        "function": "protocol.step",
        "fingerprint": "",
        "attempt": 1,
        "elapsed": AT_ONCE,
        "value": '"one"',
    }
    return NewCheckpoint(
        job_id=job.pk, lease_token=job.lease_token, identity=identity, **columns | more
    )


def save(job: Job, identity: str = "a", **more: Any) -> Saved:
    return checkpoints.save_checkpoints(connection, [new_checkpoint(job, identity, **more)])[0]


def save_all(jobs: Sequence[Job]) -> list[Saved]:
    return checkpoints.save_checkpoints(connection, [new_checkpoint(job) for job in jobs])


def outcome(job: Job, state: JobState = JobState.SUCCESSFUL, **more: Any) -> Outcome:
    family = {"parent_id": job.parent_id, "awaited_as": job.awaited_as}
    return Outcome(job_id=job.pk, lease_token=job.lease_token, state=state, **family, **more)


def finish(job: Job, state: JobState = JobState.SUCCESSFUL, **more: Any) -> Written | None:
    return outcomes.finish_jobs(connection, [outcome(job, state, **more)])[0]


def finish_all(jobs: Sequence[Job], state: JobState = JobState.SUCCESSFUL) -> list[Written | None]:
    return outcomes.finish_jobs(connection, [outcome(job, state) for job in jobs])


def suspend(job: Job, delay: timedelta = HOUR) -> waits.Suspended | None:
    failed = new_checkpoint(job, state="RETRYING", value=None, error='{"type": "E"}')
    wait = waits.Wait(checkpoint=failed, kind=WaitKind.TIMER, reason="step a failed", timeout=delay)
    suspended = waits.suspend_job(connection, [wait])
    if suspended is not None and suspended.cancelled:
        finish(job, JobState.CANCELLED)
    return suspended


def start_over(job: Job) -> outcomes.Continued | None:
    continued = outcomes.continue_job(connection, job.pk, job.lease_token, NO_ARGUMENTS)
    if continued is not None and continued.cancelled:
        finish(job, JobState.CANCELLED)
    return continued


def decide(job: Job, state: JobState = JobState.FAILED) -> JobState | None:
    """How the job ends is written, before its steps are undone."""
    return outcomes.begin_compensating(
        connection, job.pk, job.lease_token, state=state, error='{"type": "E"}'
    )


def undo(job: Job, identity: str = "a") -> Saved:
    return save(job, f"compensation@1/{identity}", undoes=identity)


def enqueue_child(job: Job, origin: str = "enqueue:child") -> bool:
    parent = enqueueing.Parent(job_id=job.pk, lease_token=job.lease_token)
    return bool(
        enqueueing.insert_jobs(
            connection, [new_row(origin=origin)], parent=parent, notify_queues=[]
        )
    )


def enqueue_keyed_child(job: Job) -> bool:
    parent = enqueueing.Parent(job_id=job.pk, lease_token=job.lease_token)
    key = enqueueing.NewKey(scope=PATH, key="order-1", fingerprint="x", retention=HOUR)
    row = new_row(origin="enqueue:child")
    return (
        enqueueing.insert_job_with_key(connection, row, key, parent=parent, notify=False)
        is not None
    )


def tell(job: Job, done: int = 1) -> progress.Told:
    new = progress.NewProgress(done=done, total=None, note="")
    return progress.save_progress(connection, job.pk, job.lease_token, new)


def publish(job: Job, value: str = "1") -> bool:
    return progress.save_value(connection, job.pk, job.lease_token, "phase", value)


def holds(job: Job) -> bool:
    return claims.check_lease(connection, job.pk, job.lease_token)


# --- the verbs of an operator


def cancel(*jobs: Job) -> list[Changed]:
    return outcomes.cancel_jobs(connection.alias, [job.pk for job in jobs])


def retry(*jobs: Job) -> list[Changed]:
    return outcomes.retry_jobs(connection.alias, [job.pk for job in jobs])


# --- whole runs


def perform(job: Job, writer: Writer) -> None:
    """Run a claimed job as a slot does, in the calling thread."""
    records = load_checkpoints(ALIAS, [job.pk]).get(job.pk, [])
    task = registry.get_task(job.task_path)
    execute(Run(job=job, task=task, alias=ALIAS, records=records, writer=writer))
    connections.close_all()


def die() -> None:
    """In user code: the process ends here, as far as anybody can see."""
    run = current_run()
    assert run is not None
    run.stop(Ending(stop=Stop.LEASE_LOST))
