"""Everything works through pgbouncer in transaction mode, with a direct alias and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from django_durable import emit_event, enqueue
from django_durable.models import Attempt, Job, Worker
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.scenarios.pooling import Pgbouncer
from tests.sessions import end_other_sessions
from tests.testapp import durable_stories as stories
from tests.testapp import family_stories, killed_waits
from tests.testapp.models import Charge

pytestmark = pytest.mark.skipif(
    not (shutil.which("pgbouncer") or os.environ.get("CI")), reason="there is no pgbouncer here"
)
POLL = ("--poll-interval", "0.2")
ENQUEUE = """
import django
django.setup()
from django.db import transaction
from django_durable import enqueue
from tests.testapp.durable_stories import quick
with transaction.atomic():
    enqueue(quick.using(idempotency_key="once"), "pooled")
enqueue(quick.using(idempotency_key="once"), "pooled")
"""


@pytest.fixture(params=["pooled", "with a direct alias"])
def behind(
    request: pytest.FixtureRequest, process_environment: dict[str, str]
) -> Iterator[dict[str, str]]:
    """The environment of processes behind a pooler of few server connections."""
    pooler = Pgbouncer(connection.settings_dict, size=6)
    environment = process_environment | {
        "DJANGO_SETTINGS_MODULE": "tests.pooled_settings",
        "DATABASE_URL": pooler.url(),
    }
    if request.param != "pooled":
        environment["DIRECT_URL"] = process_environment["DATABASE_URL"]
    yield environment
    pooler.close()
    end_other_sessions()


@pytest.fixture
def pooled_workers(behind: dict[str, str], gates: Gates, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(behind | {"DURABLE_TEST_GATES": str(gates.folder)}, tmp_path)
    yield started
    started.end()
    sys.stdout.write(started.logs)


def test_jobs_run_wait_and_are_recovered(
    pooled_workers: Workers, behind: dict[str, str], gates: Gates
) -> None:
    has_direct_alias = "DIRECT_URL" in behind
    atomic = enqueue(stories.inside_atomic, "a")
    victim = pooled_workers.start("--slots", "2", "--lease", "2", *POLL).is_registered()
    gates.open("begun-a")
    gates.reached("written-a")
    victim.kill()
    gates.open("written-a")
    gates.open("after-a")
    gates.open("enqueued-p")
    for _ in range(2):
        pooled_workers.start("--slots", "8", *POLL).is_registered()
    rows = [enqueue(stories.steps_in_a_row, f"r{n}", 10) for n in range(8)]
    waits = enqueue(killed_waits.waits_for_key, "w")
    others = [
        enqueue(stories.retries, "t"),
        enqueue(stories.parent, "p"),
        enqueue(family_stories.maps, "m", 5),
        enqueue(stories.quick_async, "q"),
        waits,
    ]
    subprocess.run([sys.executable, "-c", ENQUEUE], env=behind, check=True)
    job_is(waits, "WAITING")
    emit_event("w-rates", "come")

    for job in (atomic, *rows, *others):
        job_is(job, "SUCCESSFUL")
    for number in range(8):
        assert Charge.objects.filter(order_ref=f"r{number}").count() == 10
    assert Charge.objects.filter(order_ref="a:reserved").count() == 1
    assert Attempt.objects.get(job=atomic).outcome == "LOST"
    quick = Job.objects.filter(task_path="stories.quick")
    assert quick.count() == 1 + 5 + 1  # the parent's child, those of the map, the one with a key
    for job in quick:
        job_is(job, "SUCCESSFUL")
    live = Worker.objects.filter(lost_at__isnull=True)
    locks = live.values_list("has_lock", flat=True)
    eventually(lambda: set(locks.all()) == {has_direct_alias}, "direct sessions hold locks")
    eventually(
        lambda: ("A pooler is in the way" in pooled_workers.logs) is not has_direct_alias,
        "it says so",
    )
