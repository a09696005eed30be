"""Many connections enqueue at once while a worker is busy, with NOTIFY and without.

A commit with a notification takes a lock that the whole server shares; what that costs is seen only
when many commit at the same time. ``python -m benchmarks.crowding`` is one of the callers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import django
from django.db import connection

from benchmarks.lab import Lab
from benchmarks.measuring import Benchmark, Measure, Row, Sample, Times

NOTIFY = "BENCH_NOTIFY"
"""The variable by which the settings switch notifications off."""
CALLERS = 4
THREADS = 8
JOBS = 100
"""By each thread: 3 200 in all."""


def call() -> None:
    """Wait to be told, then enqueue from all threads; when that began and ended."""
    django.setup()
    from benchmarks.tasks import do_nothing  # noqa: PLC0415 - needs the app registry
    from django_durable import enqueue  # noqa: PLC0415

    begin = threading.Event()

    def work() -> None:
        connection.ensure_connection()
        begin.wait()
        for _ in range(JOBS):
            enqueue(do_nothing)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    begin.set()
    for thread in threads:
        thread.join()
    print(begun, time.monotonic())


def jobs_per_second(lab: Lab, *, notify: bool) -> float:
    """Of all callers together, while one worker runs what they enqueue."""
    lab.clear()
    environment = os.environ | {NOTIFY: str(notify)}
    command = [sys.executable, "-m", "benchmarks.crowding"]
    with lab.worker():
        callers = [
            subprocess.Popen(
                command,
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(CALLERS)
        ]
        for caller in callers:
            assert caller.stdout is not None  # a pipe
            caller.stdout.readline()
        for caller in callers:
            assert caller.stdin is not None  # a pipe
            caller.stdin.write("go\n")
            caller.stdin.flush()
        answers = [caller.communicate()[0].split() for caller in callers]
    begun = min(float(answer[0]) for answer in answers)
    ended = max(float(answer[1]) for answer in answers)
    return CALLERS * THREADS * JOBS / (ended - begun)


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    def measure() -> Sample:
        return lab.compare(
            {
                "ours": lambda: jobs_per_second(lab, notify=True),
                "silent": lambda: jobs_per_second(lab, notify=False),
            }
        )

    yield measure


CROWD = Benchmark(
    name="crowd",
    prepare=prepare,
    warm_up=False,
    rows=[
        Row(
            title=f"enqueue over {CALLERS * THREADS} connections, a worker busy",
            unit="/s",
            rivals=["silent"],
            beside="without NOTIFY",
            targets=[Times(0.6, "silent", "without NOTIFY")],
        )
    ],
)

if __name__ == "__main__":
    call()
