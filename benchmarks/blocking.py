"""How many connections a worker keeps whose slots have all read a row and then block outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.apps import apps
from django.db import connection

from benchmarks.lab import Lab, results_of
from benchmarks.lookout import Lookout
from benchmarks.measuring import AtMost, Benchmark, Measure, Row, Sample
from benchmarks.tasks import read_then_call_out
from django_durable import enqueue_many

SLOTS = 50
SECONDS_LATER = 5


def count_sessions(worker_id: int) -> int:
    """The sessions that go by a worker's name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from pg_stat_activity where application_name = %s",
            [f"durable:{worker_id}"],
        )
        return int(cursor.fetchone()[0])


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    customers = apps.get_model("benchmarks", "Customer").objects
    customers.create(name="Ada")
    with lab.worker("--slots", str(SLOTS)) as worker:

        def measure() -> Sample:
            with Lookout() as lookout:
                jobs = enqueue_many([read_then_call_out.bind(lookout.port)] * SLOTS)
                for _ in range(SLOTS):
                    lookout.next_arrival()
                time.sleep(SECONDS_LATER)
                sessions = count_sessions(worker.pk)
            results_of(jobs)
            return {"ours": sessions}

        yield measure
    customers.all().delete()


CONNECTIONS = Benchmark(
    name="connections",
    prepare=prepare,
    warm_up=False,
    rows=[
        Row(
            title=f"{SLOTS} slots blocked after an ORM read, connections {SECONDS_LATER} s later",
            unit="",
            targets=[AtMost(3, "connections")],
        )
    ],
)
