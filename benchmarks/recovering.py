"""How soon the job of a killed worker runs in another one, all settings at their defaults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.db import connection

from benchmarks.lab import Lab, WorkerProcess, eventually, results_of
from benchmarks.lookout import Lookout
from benchmarks.measuring import AtMost, Benchmark, Measure, Row, Sample, p95
from benchmarks.tasks import hold
from django_durable import enqueue

LEASE_SECONDS = 15
"""The default. Nobody is declared lost while the server is younger."""
KILLS = 10


def wait_for_an_old_server() -> None:
    """Wait until the server has run for a lease, and a second more."""

    def is_old() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "select pg_postmaster_start_time() < statement_timestamp() - %s * interval '1 s'",
                [LEASE_SECONDS + 1],
            )
            return bool(cursor.fetchone()[0])

    eventually(is_old, "the server is older than a lease")


class Pair:
    """Two workers; one that was killed is replaced."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._workers: list[WorkerProcess] = []

    def fill(self) -> None:
        while len(self._workers) < 2:
            self._workers.append(self._lab.start_worker())
        for worker in self._workers:
            worker.wait_until_ready()

    def kill(self, pid: int) -> float:
        """Kill one; when that was."""
        victim = next(worker for worker in self._workers if worker.pid == pid)
        self._workers.remove(victim)
        killed_at = time.monotonic()
        victim.kill()
        return killed_at

    def end(self) -> None:
        for worker in self._workers:
            worker.kill()


def seconds_to_resume(pair: Pair) -> float:
    """From the kill of the worker that runs a job to the job's begin in the other one."""
    pair.fill()
    with Lookout() as lookout:
        job = enqueue(hold, lookout.port)
        first = lookout.next_arrival()
        killed_at = pair.kill(first.pid)
        second = lookout.next_arrival()
    results_of([job])
    assert second.pid != first.pid
    return second.at - killed_at


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    with ExitStack() as cleanup:
        pair = Pair(lab)
        cleanup.callback(pair.end)
        wait_for_an_old_server()

        def measure() -> Sample:
            return {"ours": seconds_to_resume(pair)}

        yield measure


KILL = Benchmark(
    name="kill",
    prepare=prepare,
    runs=KILLS,
    warm_up=False,
    rows=[
        Row(
            title="kill -9 of a worker to its job running elsewhere, p95",
            unit="s",
            targets=[AtMost(2, "s")],
            statistic=p95,
        )
    ],
)
