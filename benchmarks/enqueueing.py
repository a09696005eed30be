"""How fast one caller enqueues, one job and one commit at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from benchmarks import raw
from benchmarks.lab import Lab
from benchmarks.measuring import Benchmark, Measure, Row, Sample, Times
from benchmarks.peers import TITLES
from benchmarks.tasks import tell_time
from django_durable import enqueue

JOBS = 1000
JOBS_OF_PEERS = 500
PEERS = list(TITLES)


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    numbers = count()

    def enqueue_with_key(_: int) -> None:
        enqueue(tell_time.using(idempotency_key=f"request-{next(numbers)}"))

    peers = {name: lab.rate_of(name, "enqueue", jobs=JOBS_OF_PEERS) for name in PEERS}
    with lab.connect() as connection:

        def measure() -> Sample:
            return lab.compare(
                {
                    "plain": lambda: JOBS / raw.seconds_for(JOBS, lambda _: enqueue(tell_time)),
                    "keyed": lambda: JOBS / raw.seconds_for(JOBS, enqueue_with_key),
                    "raw": lambda: (
                        JOBS / raw.seconds_for(JOBS, lambda _: raw.insert_job(connection))
                    ),
                    **peers,
                }
            )

        yield measure


ENQUEUE = Benchmark(
    name="enqueue",
    prepare=prepare,
    rows=[
        Row(
            title="enqueue, one at a time",
            unit="/s",
            ours="plain",
            rivals=["raw", *PEERS],
            targets=[Times(0.6), Times(1, "celery"), Times(1, "django-tasks-db")],
        ),
        Row(
            title="enqueue with an idempotency key",
            unit="/s",
            ours="keyed",
            rivals=["raw"],
            targets=[Times(0.5)],
        ),
    ],
)
