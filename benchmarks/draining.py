"""How fast one worker process empties a queue of jobs that do nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.apps import apps
from django.db import connection

from benchmarks.lab import Lab, eventually
from benchmarks.measuring import Benchmark, Measure, Row, Sample, Times
from benchmarks.peers.driving import first_begin, forget
from benchmarks.tasks import do_nothing
from django_durable import enqueue_many

JOBS = 20_000
JOBS_OF = {
    "pgqueuer": 20_000,
    "celery": 3000,
    "procrastinate": 2000,
    "absurd": 2000,
    "dbos": 800,
    "django-tasks-db": 400,
}
"""About a second or two for each."""


def fill(jobs: int) -> None:
    enqueue_many([do_nothing.bind()] * jobs)
    with connection.cursor() as cursor:
        cursor.execute("analyze durable_job")


def wait_until_empty() -> float:
    """When nothing was left to do."""
    rows = apps.get_model("durable", "Job").objects
    eventually(lambda: not rows.live().exists(), "all jobs are finished", look=0.01)
    return time.monotonic()


def jobs_per_second(lab: Lab, jobs: int = JOBS) -> float:
    """From the first body of a new worker until nothing is left."""
    lab.clear()
    fill(jobs)
    forget()
    with lab.worker():
        return jobs / (wait_until_empty() - first_begin())


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    contestants = {name: lab.rate_of(name, "drain", jobs=jobs) for name, jobs in JOBS_OF.items()}

    def measure() -> Sample:
        return lab.compare({"ours": partial(jobs_per_second, lab), **contestants})

    yield measure


DRAIN = Benchmark(
    name="drain",
    prepare=prepare,
    warm_up=False,
    rows=[
        Row(
            title="drain no-op jobs, one worker process",
            unit="/s",
            rivals=list(JOBS_OF),
            targets=[Times(1, "pgqueuer"), Times(10, "celery")],
        )
    ],
)
