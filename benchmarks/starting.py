"""How soon an idle worker begins a job: from the call of ``enqueue`` to the body's first line."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

import psycopg

from benchmarks import raw
from benchmarks.lab import Lab, results_of
from benchmarks.measuring import AtMost, Benchmark, Measure, Row, Sample, percentile
from benchmarks.tasks import tell_time
from django_durable import enqueue

JOBS = 200
JOBS_OF = {"pgqueuer": 100, "procrastinate": 100, "celery": 100, "absurd": 50, "dbos": 30}
PAUSES = (0.02, 0.03)
"""Seconds between two jobs, long enough for the worker to be idle again."""


def pause() -> None:
    time.sleep(random.uniform(*PAUSES))


def delays_of_jobs(count: int = JOBS) -> list[float]:
    """Milliseconds from the call to the body, of jobs that find the worker idle."""
    called, jobs = [], []
    for _ in range(count):
        pause()
        called.append(time.monotonic())
        jobs.append(enqueue(tell_time))
    began = results_of(jobs)
    return [(at - call) * 1000 for at, call in zip(began, called, strict=True)]


def delays_of_notifications(lab: Lab) -> list[float]:
    """The raw limit: the job's row and a NOTIFY in one commit, to a thread that listens."""
    heard: SimpleQueue[float] = SimpleQueue()
    with lab.connect() as listener, lab.connect(autocommit=False) as sender:
        listener.execute("listen benchmark")
        threading.Thread(target=_listen, args=(listener, heard), daemon=True).start()
        delays = []
        for _ in range(JOBS):
            pause()
            called = time.monotonic()
            raw.insert_job(sender)
            sender.execute(raw.NOTIFY)
            sender.commit()
            delays.append((heard.get(timeout=10) - called) * 1000)
        return delays


def _listen(listener: raw.Connection, heard: SimpleQueue[float]) -> None:
    try:
        for _ in listener.notifies(stop_after=JOBS):
            heard.put(time.monotonic())
    except psycopg.Error:  # closed under this thread, when the main one has given up
        return


def percentiles(delays: Sequence[float]) -> Sample:
    return {"p50": percentile(delays, 50), "p99": percentile(delays, 99)}


def delays_of_peer(lab: Lab, name: str) -> Sample | None:
    answer = lab.ask(name, "start", jobs=JOBS_OF[name])
    return None if answer is None else percentiles(answer["delays"])


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    with lab.worker():
        delays_of_jobs(JOBS // 4)  # to warm up

        def measure() -> Sample:
            return lab.compare(
                {
                    "ours": lambda: percentiles(delays_of_jobs()),
                    "raw": lambda: percentiles(delays_of_notifications(lab)),
                    **{name: partial(delays_of_peer, lab, name) for name in JOBS_OF},
                }
            )

        yield measure


def row(percent: int, most: float) -> Row:
    return Row(
        title=f"enqueue to start, idle worker, p{percent}",
        unit="ms",
        part=f"p{percent}",
        rivals=["raw", *JOBS_OF],
        targets=[AtMost(most, "ms")],
    )


START = Benchmark(name="start", prepare=prepare, warm_up=False, rows=[row(50, 2), row(99, 5)])
