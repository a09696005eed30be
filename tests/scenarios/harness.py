"""Workers as real processes, and waiting on facts instead of napping."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from django.db import connection

from django_durable.models import Job, Worker

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which a fact that has not come about fails a test."""


def eventually(fact: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The first truthy answer of ``fact``. Raises: AssertionError saying what never came about."""
    until = time.monotonic() + patience
    while True:
        if answer := fact():
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"Not within {patience:g} s: {what}.")
        time.sleep(0.02)


def job_is(job: Job, state: str) -> Job:
    """Wait until a job is in a state."""

    def fact() -> bool:
        job.refresh()
        return job.state == state

    try:
        eventually(fact, f"{job} is {state}")
    except AssertionError as error:
        raise AssertionError(f"{error} It is {job.state}: {job.error}") from None
    return job


@dataclass
class Process:
    """One worker process, with what it logged."""

    popen: subprocess.Popen[bytes]
    log: Path
    frozen: bool = field(default=False)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def row(self) -> Worker | None:
        """Its newest row."""
        return Worker.objects.filter(pid=self.pid).order_by("-started_at").first()

    def is_registered(self) -> Process:
        eventually(lambda: self.row or self._ended(), f"worker {self.pid} registered")
        return self

    def has_lock(self) -> Process:
        """Wait until others can see at once that it dies."""
        eventually(lambda: (self.row and self.row.has_lock) or self._ended(), "the lock is taken")
        return self

    def _ended(self) -> bool:
        if self.popen.poll() is not None:
            raise AssertionError(f"Worker {self.pid} ended early:\n{self.output}")
        return False

    @property
    def output(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def freeze(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self.popen.send_signal(signal.SIGCONT)
        self.frozen = False

    def terminate(self) -> None:
        self.popen.send_signal(signal.SIGTERM)

    def exit_code(self, patience: float = PATIENCE) -> int:
        return self.popen.wait(patience)


class Workers:
    """Starts worker processes and ends what is left of them."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._all: list[Process] = []

    def start(self, *options: str, **variables: str) -> Process:
        """A worker with these command options, and environment variables besides."""
        log = self._folder / f"worker-{len(self._all)}.log"
        with log.open("wb") as stream:
            popen = subprocess.Popen(
                [sys.executable, "-m", "django", "durable_worker", *options],
                env=self._environment | variables,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        process = Process(popen, log)
        self._all.append(process)
        return process

    def end(self) -> None:
        for process in self._all:
            if process.popen.poll() is None:
                process.kill()

    @property
    def logs(self) -> str:
        return "\n".join(f"--- {p.log.name}\n{p.output}" for p in self._all)


@dataclass
class Gates:
    """Named points at which test tasks tell that they came by, and wait to be let through.

    Files in a folder, so they work between processes and say nothing to the database.
    """

    folder: Path

    def reached(self, name: str, patience: float = PATIENCE) -> None:
        """Wait until a task has come to the gate."""
        eventually(lambda: self.count(name) > 0, f"a task came to gate {name}", patience)

    def count(self, name: str) -> int:
        return len(list(self.folder.glob(f"{name}.reached.*")))

    def open(self, name: str) -> None:
        """Let everybody through, now and later."""
        (self.folder / f"{name}.open").touch()


def pass_gate(name: str) -> None:
    """In a test task: say that the gate is reached, and wait until it is open."""
    folder = Path(os.environ["DURABLE_TEST_GATES"])
    (folder / f"{name}.reached.{os.getpid()}.{time.monotonic_ns()}").touch()
    until = time.monotonic() + 120
    while not (folder / f"{name}.open").exists():
        if time.monotonic() > until:
            raise AssertionError(f"Gate {name} was never opened.")
        time.sleep(0.01)


def note(name: str) -> None:
    """In a test task: say that it came by, without waiting."""
    folder = Path(os.environ["DURABLE_TEST_GATES"])
    (folder / f"{name}.reached.{os.getpid()}.{time.monotonic_ns()}").touch()


def sessions_of(worker_id: int) -> int:
    """How many database sessions a worker has."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from pg_stat_activity where application_name = %s",
            [f"durable:{worker_id}"],
        )
        (count,) = cursor.fetchone()
        return int(count)


def sessions_of_all() -> int:
    """How many sessions the database of the test has, whoever's they are; vacuum's do not count."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and backend_type = 'client backend'"
        )
        (count,) = cursor.fetchone()
        return int(count)
