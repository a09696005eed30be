"""Many workers on one queue, and jobs under a limit beside others that are under none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from django.apps import apps

from benchmarks.draining import wait_until_empty
from benchmarks.lab import Lab, eventually
from benchmarks.measuring import Benchmark, Measure, Row, Sample, Times, thousands
from benchmarks.peers.driving import begins, forget
from benchmarks.tasks import do_nothing, hot_job, write_number
from django_durable import enqueue_many

JOBS = 40_000
FEW, MANY = 2, 8
SLOTS = "4"
"""For each worker, so that all of them find a connection for each slot."""
HOT = 2000
BESIDE = 20_000


class RanTwiceError(Exception):
    """A job ran more than once, or never, though no worker was lost."""


def jobs_per_second(lab: Lab, workers: int) -> float:
    """From the commit until all are finished, by workers that were ready. Raises: RanTwiceError."""
    lab.clear()
    forget()
    with ExitStack() as cleanup:
        processes = []
        for _ in range(workers):
            processes.append(lab.start_worker("--slots", SLOTS))
            cleanup.callback(processes[-1].kill)
        for process in processes:
            process.wait_until_ready()
        enqueue_many([write_number.bind(number) for number in range(JOBS)])
        begun = time.monotonic()
        took = wait_until_empty() - begun
    check_once_each(number for number, _ in begins())
    return JOBS / took


def check_once_each(numbers: Iterator[int]) -> None:
    counts = Counter(numbers)
    if wrong := [number for number in range(JOBS) if counts[number] != 1]:
        raise RanTwiceError(f"{len(wrong)} of {JOBS} jobs did not run once, such as {wrong[:3]}")


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    def of(workers: int) -> Callable[[], float]:
        return lambda: jobs_per_second(lab, workers)

    yield lambda: lab.compare({"ours": of(MANY), "few": of(FEW)})


def unlimited_per_second(lab: Lab, hot: int) -> float:
    """How fast unlimited jobs are done, with so many beside them that wait for one key."""
    lab.clear()
    with lab.worker():
        if hot:
            enqueue_many([hot_job.bind("key") for _ in range(hot)])
            rows = apps.get_model("durable", "Job").objects
            eventually(lambda: rows.filter(state="RUNNING").exists(), "a limited job runs")
        begun = time.monotonic()
        enqueue_many([do_nothing.bind() for _ in range(BESIDE)])
        wait_until_finished(do_nothing.path)
        return BESIDE / (time.monotonic() - begun)


def wait_until_finished(path: str) -> None:
    """Wait until all jobs of one task are finished."""
    rows = apps.get_model("durable", "Job").objects.filter(task_path=path)
    eventually(lambda: not rows.live().exists(), "all unlimited jobs are finished", look=0.01)


@contextmanager
def prepare_hot(lab: Lab) -> Iterator[Measure]:
    def measure() -> Sample:
        return lab.compare(
            {
                "ours": lambda: unlimited_per_second(lab, HOT),
                "alone": lambda: unlimited_per_second(lab, 0),
            }
        )

    yield measure
    lab.clear()


PROCESSES = Benchmark(
    name="processes",
    prepare=prepare,
    runs=3,
    warm_up=False,
    rows=[
        Row(
            title=f"{MANY} workers on one queue, no job twice",
            unit="/s",
            rivals=["few"],
            beside=f"{FEW} workers",
            targets=[Times(1, "few", f"{FEW} workers")],
        )
    ],
)
HOT_KEY = Benchmark(
    name="hot",
    prepare=prepare_hot,
    runs=3,
    warm_up=False,
    rows=[
        Row(
            title=f"unlimited jobs beside {thousands(HOT)} that wait for one key",
            unit="/s",
            rivals=["alone"],
            beside="alone",
            targets=[Times(0.95, "alone", "alone")],
        )
    ],
)
