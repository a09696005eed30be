"""PostgreSQL itself crashes and comes back, under load."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import environ
import pytest
from django.core.management import call_command
from django.db import OperationalError, connections
from pytest_django import DjangoDbBlocker

from django_durable import enqueue
from django_durable.contrib.embedded import EmbeddedServer
from django_durable.models import Job, Worker
from tests.scenarios.harness import Gates, Workers, eventually
from tests.testapp import durable_stories as stories
from tests.testapp.models import Charge


@pytest.fixture
def server(
    private_server: EmbeddedServer, django_db_blocker: DjangoDbBlocker
) -> Iterator[EmbeddedServer]:
    """A server of the test's own, to which Django is connected meanwhile."""
    private_server.create_database("stories")
    own = environ.Env.db_url_config(private_server.url("stories"))
    settings = connections["default"].settings_dict
    with django_db_blocker.unblock():
        connections["default"].close()
        before = dict(settings)
        settings.update(own)
        call_command("migrate", run_syncdb=True, verbosity=0)
        yield private_server
        connections["default"].close()
        settings.update(before)


@pytest.fixture
def own_workers(server: EmbeddedServer, gates: Gates, tmp_path: Path) -> Iterator[Workers]:
    root = str(Path(__file__).parent.parent.parent)
    environment = os.environ | {
        "DATABASE_URL": server.url("stories"),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": root,
        "PYTHONUNBUFFERED": "1",
        "DURABLE_TEST_GATES": str(gates.folder),
    }
    started = Workers(environment, tmp_path)
    yield started
    started.end()
    sys.stdout.write(started.logs)


def fresh(question):  # type: ignore[no-untyped-def]  # asks anything
    """Ask on a fresh connection if the old one died with the server."""
    try:
        return question()
    except OperationalError:
        connections["default"].close()
        return question()


def test_after_crashes_of_the_server_everything_is_done_once_and_nobody_is_declared_lost(
    server: EmbeddedServer, own_workers: Workers
) -> None:
    steps, jobs = 60, 10
    for index in range(jobs):
        enqueue(stories.steps_in_a_row, f"r{index}", steps)
    processes = [own_workers.start("--lease", "10", "--slots", "4") for _ in range(2)]
    here = Worker.objects.filter(has_lock=True)
    eventually(lambda: fresh(here.count) == 2, "both workers are there")
    for crash in range(1, 4):
        target = crash * jobs * steps // 5
        eventually(lambda t=target: fresh(Charge.objects.count) >= t, "work went on")
        server.restart("immediate")

    done = Job.objects.filter(state="SUCCESSFUL")
    eventually(lambda: fresh(done.count) == jobs, "every job succeeded", 60)

    for index in range(jobs):
        assert Charge.objects.filter(order_ref=f"r{index}").count() == steps
    assert all(process.popen.poll() is None for process in processes)
    assert not Worker.objects.filter(lost_at__isnull=False).exists()
    job = enqueue(stories.quick, "after")
    eventually(lambda: Job.objects.get(pk=job.pk).state == "SUCCESSFUL", "LISTEN is back")


def test_a_worker_waits_for_a_database_that_is_not_up_yet(
    server: EmbeddedServer, own_workers: Workers
) -> None:
    job = enqueue(stories.quick, "a")
    connections["default"].close()
    server.stop()
    worker = own_workers.start()
    eventually(lambda: "Waiting for database" in worker.output, "it waits")

    server.restart()

    eventually(lambda: fresh(lambda: Job.objects.get(pk=job.pk).state) == "SUCCESSFUL", "it ran")
    assert worker.popen.poll() is None, "it gave up meanwhile"
