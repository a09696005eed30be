"""One job that has many children, and what waiting for them costs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.lab import Lab, results_of
from benchmarks.measuring import AtMost, Benchmark, Measure, Row, Sample, Times, thousands
from benchmarks.tasks import spread_out
from django_durable import enqueue

CHILDREN = 10_000
FEWER = 1000


def spread(lab: Lab, children: int) -> Sample:
    """Children in a second, from the parent's begin to its end, and how often it was woken."""
    lab.clear()
    with lab.worker():
        job = enqueue(spread_out, children)
        results_of([job])
    job.refresh_from_db()
    seconds = (job.finished_at - job.started_at).total_seconds()
    return {"rate": children / seconds, "wakes": job.lease_token - 1}


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    def measure() -> Sample:
        return lab.compare(
            {"ours": lambda: spread(lab, CHILDREN), "fewer": lambda: spread(lab, FEWER)}
        )

    yield measure
    lab.clear()


FAN_OUT = Benchmark(
    name="fanout",
    prepare=prepare,
    runs=3,
    warm_up=False,
    rows=[
        Row(
            title=f"one job with {thousands(CHILDREN)} children and back",
            unit="children/s",
            part="rate",
            rivals=["fewer"],
            beside="with 1 000",
            targets=[Times(0.8, "fewer", "with 1 000")],
        ),
        Row(
            title=f"wakes of a job with {thousands(CHILDREN)} children",
            unit="",
            part="wakes",
            targets=[AtMost(1, "")],
        ),
    ],
)
