"""What tests are about: jobs in a state, tasks after a deploy, rows rewritten by hand."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db import connections, transaction
from django.dispatch import Signal

from django_durable import RetryPolicy, Task, task
from django_durable.engine import registry
from django_durable.models import Attempt, Checkpoint, IdempotencyKey, Job
from django_durable.testing import crash_after, run_jobs

AT_ONCE = timedelta(0)
HOUR = timedelta(hours=1)


def policy(max_attempts: int, **options: Any) -> RetryPolicy:
    """A retry policy whose waits are an hour long, exactly."""
    return RetryPolicy(
        max_attempts=max_attempts,
        **{"initial_delay": HOUR, "factor": 1, "jitter": False, **options},
    )


def redeployed(path: str, function: Callable[..., Any], **options: Any) -> Task[..., Any]:
    """The task of a path as the next version of the code declares it."""
    registry.forget(path)
    declared: Task[..., Any] = task(path=path, **options)(function)
    return declared


def resumed_job(job: Job, *, ahead: timedelta = AT_ONCE) -> Job:
    """The job after everything due has run."""
    run_jobs(ahead=ahead)
    job.refresh()
    return job


def ended_job(called: Task[..., Any], *args: Any, **kwargs: Any) -> Job:
    """A new job of a task, after everything due has run."""
    return resumed_job(called.enqueue(*args, **kwargs))


def crashed_job(called: Task[..., Any], *args: Any, after: str, **kwargs: Any) -> Job:
    """A new job of a task whose process died right after a checkpoint."""
    job = called.enqueue(*args, **kwargs)
    with crash_after(after):
        run_jobs()
    job.refresh()
    return job


def rewritten_job(job: Job, **columns: Any) -> Job:
    """The job with columns changed by hand, as in psql."""
    Job.objects.filter(pk=job.pk).update(**columns)
    job.refresh()
    return job


def checkpoints_of(job: Job) -> dict[str, Checkpoint]:
    return {row.identity: row for row in Checkpoint.objects.filter(job_id=job.pk).order_by("seq")}


def outcomes_of(job: Job) -> list[str]:
    """The outcomes of the job's noted attempts, oldest first."""
    rows = Attempt.objects.filter(job_id=job.pk).order_by("id")
    return list(rows.values_list("outcome", flat=True))


def error_of(job: Job) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(job.error or "{}")
    return error


def expired_key(key: str) -> None:
    """Let a key's time be over."""
    row = IdempotencyKey.objects.get(key=key)
    IdempotencyKey.objects.filter(pk=row.pk).update(expires_at=row.created_at - HOUR)


@contextmanager
def receiver_of(signal: Signal, receiver: Callable[..., Any]) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction of the user's that ends badly."""
    try:
        with transaction.atomic():
            yield
            raise LookupError("roll back")
    except LookupError:
        return


def replaced(called: Task[..., Any], **options: Any) -> Task[..., Any]:
    """A task with options that nobody has checked."""
    return replace(called, **options)


@contextmanager
def statements(alias: str = "default") -> Iterator[list[str]]:
    """The statements sent on a connection meanwhile, engine and tests' own alike."""
    sent: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        sent.append(" ".join(sql.split()))
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(note):
        yield sent
