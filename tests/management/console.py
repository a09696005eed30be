"""``manage.py durable`` as it is typed, and rows in the states that it talks about."""

import json
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F

from django_durable import Task, task
from django_durable.engine import claims, liveness, registry
from django_durable.engine.clock import StatementTimestamp
from django_durable.models import Job, Worker

LEASE = timedelta(minutes=5)
LONG = timedelta(hours=5)
"""An age that is told alike for half an hour: "5 h ago". "Now" is over within a second."""


def typed(*arguments: object) -> str:
    """What the command answers."""
    out = StringIO()
    call_command("durable", *map(str, arguments), stdout=out, stderr=StringIO())
    return out.getvalue()


def document(*arguments: object) -> Any:
    """Its JSON document."""
    return json.loads(typed(*arguments, "--json"))


def refused(*arguments: object) -> str:
    """The message with which the command ends."""
    with pytest.raises(CommandError) as caught:
        typed(*arguments)
    assert caught.value.returncode == 1
    return str(caught.value)


def declared_task(path: str = "console.task", **options: Any) -> Task[..., Any]:
    def function(*args: object, **kwargs: object) -> None:
        pass

    made: Task[..., Any] = task(path=path, **options)(function)
    return made


def live_worker(*queues: str, slots: int = 4, **columns: Any) -> int:
    """The id of a worker that registered a moment ago; columns are changed afterwards."""
    registration = liveness.Registration(
        hostname="web1", pid=4711, queues=queues, slots=slots, code_version="c0de", lease=LEASE
    )
    worker_id = liveness.register_worker("default", registration)
    Worker.objects.filter(pk=worker_id).update(**columns)
    return worker_id


def silent_worker(*queues: str) -> int:
    """A worker that was heard of long ago."""
    ago = StatementTimestamp() - LONG
    return live_worker(*queues, heartbeat_at=ago, lease_expires_at=ago + LEASE)


def lost_worker(*queues: str) -> int:
    """A worker that was declared lost long ago, and within a day."""
    return live_worker(*queues, lost_at=StatementTimestamp() - LONG)


def claimed(job: Job, worker_id: int) -> Job:
    """The job as that worker, still alive, claims it."""
    claimant = claims.Claimant(
        worker_id=worker_id,
        alias="default",
        task_paths=[*registry.known_paths(), job.task_path],
        code_version="c0de",
        max_lost=5,
    )
    taken = claims.claim_jobs(claimant, [job.queue_name], limit=1).jobs
    assert [row.pk for row in taken] == [job.pk]
    job.refresh()
    return job


def run_by(job: Job, worker_id: int) -> Job:
    """The job as RUNNING under the name of a worker, whatever its state."""
    Job.objects.filter(pk=job.pk).update(
        state="RUNNING", worker_id=worker_id, lease_token=1, claimed_at=StatementTimestamp()
    )
    job.refresh()
    return job


def moved(job: Job, *names: str, by: timedelta) -> Job:
    """The job with some of its times moved."""
    Job.objects.filter(pk=job.pk).update(**{name: F(name) + by for name in names})
    job.refresh()
    return job


def copies(job: Job, count: int) -> None:
    """Insert copies of a job's row, by one statement."""
    columns = [field.column for field in Job._meta.concrete_fields if field.column != "id"]
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"insert into durable_job (id, {names}) select gen_random_uuid(), {names}"
            " from durable_job, generate_series(1, %s) where id = %s",
            [count, job.pk],
        )


def codes(job: Job | UUID) -> list[str]:
    """The codes of what ``explain`` finds."""
    found = document("explain", getattr(job, "pk", job))["findings"]
    return [finding["code"] for finding in found]


def finding(job: Job, code: str) -> str:
    """What ``explain`` says under a code, and the cure."""
    found = document("explain", job.pk)["findings"]
    (match,) = [f for f in found if f["code"] == code]
    return f"{match['says']} // {match['cure']}"
