"""Pruning beside running workers: killed in the middle, begun again, and no live job touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import connection

from django_durable import enqueue
from django_durable.engine.sql import execute, fetch_all
from django_durable.models import Checkpoint, IdempotencyKey, Job
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.testapp import durable_stories as stories
from tests.testapp.models import Charge

OLD = 5000
STEPS = 40
Prune = Callable[..., "subprocess.Popen[bytes]"]

COPY_JOBS = """
    insert into durable_job ({columns})
    select {values} from durable_job as job, generate_series(1, %(count)s) where job.id = %(id)s
"""
GIVE_CHECKPOINTS = """
    insert into durable_checkpoint (
        job_id, identity, seq, kind, state, function, value, attempt, lease_token, started_at,
        saved_at
    )
    select id, 'first', 1, 'plain', 'SUCCESSFUL', 'old', '1', 1, 1, finished_at, finished_at
    from durable_job where finished_at is not null
"""


@pytest.fixture
def prune(process_environment: dict[str, str]) -> Iterator[Prune]:
    """Starts ``durable prune`` as a process, whose session goes by the name ``pruning``."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "django", "durable", "prune", *options]
        environment = process_environment | {"PGAPPNAME": "pruning"}
        popen = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        started.append(popen)
        return popen

    yield start
    for popen in started:
        popen.kill()
        popen.wait()


def many_old_jobs(count: int) -> None:
    """Jobs of an own queue that finished a month ago, each with a checkpoint."""
    job = enqueue(stories.quick.using(queue_name="old"), "model")
    old = {
        "id": "gen_random_uuid()",
        "state": "'SUCCESSFUL'",
        "finished_at": "statement_timestamp() - interval '30 days'",
    }
    columns = [field.column for field in Job._meta.concrete_fields]
    values = ", ".join(old.get(column, f"job.{column}") for column in columns)
    statement = COPY_JOBS.format(columns=", ".join(columns), values=values)
    execute(connection, statement, {"id": job.pk, "count": count})
    Job.objects.filter(pk=job.pk).delete()
    execute(connection, GIVE_CHECKPOINTS, {})


def old_jobs() -> int:
    return Job.objects.filter(queue_name="old").count()


def sessions() -> int:
    """How many sessions prune; the server may end a statement of one that was killed."""
    query = "select count(*) from pg_stat_activity where application_name = 'pruning'"
    ((count,),) = fetch_all(connection, query, {})
    return int(count)


def halved() -> int:
    """How many old jobs lack their checkpoint, or checkpoints their job."""
    jobs = set(Job.objects.filter(queue_name="old").values_list("pk", flat=True))
    checkpoints = Checkpoint.objects.filter(function="old").values_list("job_id", flat=True)
    return len(jobs ^ set(checkpoints))


def test_it_runs_beside_workers_is_killed_in_the_middle_and_touches_no_live_job(
    workers: Workers, gates: Gates, prune: Prune
) -> None:
    many_old_jobs(OLD)
    keyed = stories.quick.using(
        idempotency_key="k", idempotency_retention=timedelta(days=60), queue_name="spared"
    )
    spared = enqueue(keyed, "spared")
    jobs = [enqueue(stories.steps_in_a_row, f"r{n}", STEPS) for n in range(8)]
    gated = enqueue(stories.gated, "g")
    asleep = enqueue(stories.quick.using(delay=timedelta(days=1)), "asleep")
    for _ in range(2):
        workers.start("--slots", "4")
    gates.reached("body-g")
    job_is(spared, "SUCCESSFUL")
    execute(
        connection,
        "update durable_job set finished_at = finished_at - interval '30 days' where id = %(id)s",
        {"id": spared.pk},
    )

    killed, other = prune("--chunk", "2"), prune("--chunk", "2")
    eventually(lambda: old_jobs() < OLD, "some are gone")
    killed.kill()
    other.kill()
    assert (killed.wait(), other.wait()) == (-9, -9)
    eventually(lambda: sessions() == 0, "their sessions have ended")
    assert old_jobs() > 0
    assert halved() == 0
    beside = [prune("--chunk", "200"), prune("--chunk", "200")]
    assert [each.wait(120) for each in beside] == [0, 0]

    assert old_jobs() == halved() == 0
    job_is(spared, "SUCCESSFUL")
    assert IdempotencyKey.objects.count() == 1
    gates.open("body-g")
    for number, job in enumerate(jobs):
        job_is(job, "SUCCESSFUL")
        assert Charge.objects.filter(order_ref=f"r{number}").count() == STEPS
    job_is(gated, "SUCCESSFUL")
    job_is(asleep, "SCHEDULED")
