"""How fast one caller enqueues, one job and one commit at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from benchmarks import raw
from benchmarks.lab import Lab
from benchmarks.measuring import Benchmark, Measure, Row, Sample, TimesRaw
from benchmarks.tasks import tell_time
from django_durable import enqueue

JOBS = 1000


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    numbers = count()

    def enqueue_with_key(_: int) -> None:
        enqueue(tell_time.using(idempotency_key=f"request-{next(numbers)}"))

    with lab.connect() as connection:

        def measure() -> Sample:
            plain, keyed, limit = lab.take_turns(
                lambda: raw.seconds_for(JOBS, lambda _: enqueue(tell_time)),
                lambda: raw.seconds_for(JOBS, enqueue_with_key),
                lambda: raw.seconds_for(JOBS, lambda _: raw.insert_job(connection)),
            )
            return {"plain": JOBS / plain, "keyed": JOBS / keyed, "raw": JOBS / limit}

        yield measure


ENQUEUE = Benchmark(
    name="enqueue",
    prepare=prepare,
    rows=[
        Row(
            title="enqueue, one at a time",
            unit="/s",
            ours="plain",
            raw="raw",
            target=TimesRaw(0.6),
        ),
        Row(
            title="enqueue with an idempotency key",
            unit="/s",
            ours="keyed",
            raw="raw",
            target=TimesRaw(0.5),
        ),
    ],
)
