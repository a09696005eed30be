"""Whether a worker's memory grows with the jobs that it has run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.draining import fill, wait_until_empty
from benchmarks.lab import Lab
from benchmarks.measuring import AtMostTimes, Benchmark, Measure, Row, Sample, thousands

JOBS = int(os.environ.get("BENCH_MEMORY_JOBS", 200_000))
PORTION = 20_000
WARM_AFTER = 40_000
MEGABYTE = 2**20


def resident_megabytes(pid: int) -> float:
    """What a process keeps in memory; only Linux says."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / MEGABYTE


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    def measure() -> Sample:
        lab.clear()
        worker = lab.start_worker()
        sizes = {}
        try:
            worker.wait_until_ready()
            for done in range(PORTION, JOBS + 1, PORTION):
                fill(PORTION)
                wait_until_empty()
                sizes[done] = resident_megabytes(worker.pid)
        finally:
            worker.kill()
        warm = [size for done, size in sizes.items() if done >= min(WARM_AFTER, JOBS // 2)]
        return {"ours": warm[-1], "warm": warm[0]}

    yield measure
    lab.clear()


MEMORY = Benchmark(
    name="memory",
    prepare=prepare,
    runs=1,
    warm_up=False,
    rows=[
        Row(
            title=f"memory of a worker after {thousands(JOBS)} jobs",
            unit="MB",
            rivals=["warm"],
            beside="after 40 000",
            targets=[AtMostTimes(1.05, "warm", "after warm-up")],
        )
    ],
)
