"""How fast one caller enqueues: one job and one commit at a time, and many in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from benchmarks import raw
from benchmarks.lab import Lab
from benchmarks.measuring import RAW, Benchmark, Measure, Row, Sample, Times, thousands
from benchmarks.peers import TITLES
from benchmarks.tasks import do_nothing, tell_time
from django_durable import enqueue, enqueue_many

JOBS = 1000
JOBS_OF_PEERS = 500
PEERS = list(TITLES)
BULK_JOBS = 20_000
BULK_PEERS = ["pgqueuer", "procrastinate"]


def rate(count: int, once: Callable[[int], object]) -> Callable[[], float]:
    """A contestant: how often in a second it does something."""
    return lambda: count / raw.seconds_for(count, once)


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    numbers = count()

    def enqueue_with_key(_: int) -> None:
        enqueue(tell_time.using(idempotency_key=f"request-{next(numbers)}"))

    peers = {name: lab.rate_of(name, "enqueue", jobs=JOBS_OF_PEERS) for name in PEERS}
    with lab.connect() as connection:
        ours = {
            "plain": rate(JOBS, lambda _: enqueue(tell_time)),
            "keyed": rate(JOBS, enqueue_with_key),
            RAW: rate(JOBS, lambda _: raw.insert_job(connection)),
        }

        def measure() -> Sample:
            return lab.compare(ours | peers)

        lab.compare(ours)  # to warm up
        yield measure


@contextmanager
def prepare_bulk(lab: Lab) -> Iterator[Measure]:
    peers = {name: lab.rate_of(name, "bulk", jobs=BULK_JOBS) for name in BULK_PEERS}

    def once(insert: Callable[[], object]) -> Callable[[], float]:
        def contestant() -> float:
            lab.clear()
            return BULK_JOBS / raw.seconds_for(1, lambda _: insert())

        return contestant

    with lab.connect() as connection:
        ours = {
            "ours": once(lambda: enqueue_many([do_nothing.bind() for _ in range(BULK_JOBS)])),
            RAW: once(lambda: raw.insert_jobs(connection, BULK_JOBS)),
        }

        def measure() -> Sample:
            return lab.compare(ours | peers)

        lab.compare(ours)
        yield measure
    lab.clear()


ENQUEUE = Benchmark(
    name="enqueue",
    prepare=prepare,
    warm_up=False,
    rows=[
        Row(
            title="enqueue, one at a time",
            unit="/s",
            ours="plain",
            rivals=[RAW, *PEERS],
            targets=[Times(0.6), Times(1, "celery"), Times(1, "django-tasks-db")],
        ),
        Row(
            title="enqueue with an idempotency key",
            unit="/s",
            ours="keyed",
            rivals=[RAW],
            targets=[Times(0.5)],
        ),
    ],
)
BULK = Benchmark(
    name="bulk",
    prepare=prepare_bulk,
    warm_up=False,
    rows=[
        Row(
            title=f"enqueue {thousands(BULK_JOBS)} jobs in one call",
            unit="/s",
            rivals=[RAW, *BULK_PEERS],
            targets=[Times(1, "pgqueuer")],
        )
    ],
)
