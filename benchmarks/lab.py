"""What every benchmark works with: the scratch database, workers, peers, and jobs' results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.db import connection

from benchmarks import profiling, raw
from benchmarks.broker import redis_server
from benchmarks.database import ROOT, Server
from benchmarks.peers import TITLES, Peer, PeerError

if TYPE_CHECKING:
    from django_durable.models import Job, Worker

T = TypeVar("T")
Sample = dict[str, float]
"""What one run measured, by name."""

LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 120.0
TABLES = "durable_job, durable_checkpoint, durable_attempt, durable_idempotencykey, durable_worker"


def eventually(fact: Callable[[], T], what: str, look: float = LOOK_SECONDS) -> T:
    """The first truthy answer. Raises: TimeoutError saying what never came about."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (answer := fact()):
        if time.monotonic() > until:
            raise TimeoutError(f"Not within {PATIENCE_SECONDS:g} s: {what}.")
        time.sleep(look)
    return answer


@dataclass(slots=True)
class WorkerProcess:
    """One ``durable_worker`` as a process of its own."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_until_ready(self) -> Worker:
        """Wait until others can tell that it lives; its row."""
        workers = apps.get_model("durable", "Worker")._base_manager
        return eventually(lambda: self._find_row(workers), f"worker {self.pid} is ready")

    def _find_row(self, workers: Any) -> Worker | None:
        if self.popen.poll() is not None:
            raise RuntimeError(f"Worker {self.pid} ended early:\n{self.log.read_text()}")
        row: Worker | None = workers.filter(pid=self.pid, has_lock=True).first()
        return row

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.popen.kill()
        self.popen.wait()


@dataclass(slots=True)
class Lab:
    """The database, the place for logs, the peers, whose turn it is, and remarks by benchmark."""

    url: str
    logs: Path
    server: Server
    cleanup: ExitStack
    wanted: Sequence[str]
    turn: int = 0
    peers: dict[str, Peer] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    _started: int = field(default=0)

    def clear(self) -> None:
        """Empty the tables: no benchmark meets the rows of another one."""
        with connection.cursor() as cursor:
            cursor.execute(f"truncate {TABLES}")

    def connect(self, *, autocommit: bool = True) -> raw.Connection:
        return raw.connect(self.url, autocommit=autocommit)

    def start_worker(self, *options: str) -> WorkerProcess:
        """Start a worker process with these options of the command; whoever starts it ends it."""
        self._started += 1
        log = self.logs / f"worker-{self._started}.log"
        with log.open("wb") as stream:
            command = [sys.executable, "-m", "django", "durable_worker", *options]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            popen = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        profiling.attach(popen.pid)
        return WorkerProcess(popen, log)

    @contextmanager
    def worker(self, *options: str) -> Iterator[Worker]:
        """A worker process for the length of a block; its row."""
        process = self.start_worker(*options)
        try:
            yield process.wait_until_ready()
        finally:
            process.kill()

    def peer(self, name: str) -> Peer:
        """A peer, installed into a database of its own. Raises: PeerError, again at each call."""
        if name not in self.peers:
            peer = self.peers[name] = Peer(name)
            try:
                if name not in self.wanted:
                    raise PeerError("not asked for")
                peer.make_venv()
                peer.url = self._place_for(peer)
                peer.measure("install")
            except PeerError as error:
                peer.problem = str(error)
        if problem := self.peers[name].problem:
            raise PeerError(problem)
        return self.peers[name]

    def _place_for(self, peer: Peer) -> str:
        """The URL of its database, or of its broker. Raises: PeerError."""
        if peer.name == "celery":
            url, version = self.cleanup.enter_context(redis_server())
            peer.programs.append(version)
            return url
        return self.server.make_database(f"durable_bench_{peer.name.replace('-', '_')}")

    def ask(self, name: str, measure: str, **options: Any) -> dict[str, Any] | None:
        """What a peer's driver measures; ``None``, with the reason said, if it cannot."""
        try:
            return self.peer(name).measure(measure, **options)
        except PeerError as error:
            if name in self.wanted:
                print(f"  {TITLES[name]} is left out: {error}", flush=True)
            self.peers[name].problem = str(error)
            return None

    def rate_of(self, name: str, measure: str, **options: Any) -> Callable[[], float | None]:
        """A contestant: a peer's rate."""

        def contestant() -> float | None:
            answer = self.ask(name, measure, **options)
            return None if answer is None else float(answer["rate"])

        return contestant

    def compare(self, contestants: Mapping[str, Callable[[], float | Sample | None]]) -> Sample:
        """Measure each once, in another order in each run. Who answers ``None`` is left out."""
        names = list(contestants)
        self.turn += 1
        start = self.turn % len(names)
        sample: Sample = {}
        for name in [*names[start:], *names[:start]]:
            match contestants[name]():
                case None:
                    continue
                case dict(parts):
                    sample |= {f"{name} {part}": value for part, value in parts.items()}
                case value:
                    sample[name] = value
        return sample


def results_of(jobs: Sequence[Job]) -> list[Any]:
    """Wait until jobs are finished; what they returned. Raises: JobStateError if one failed."""
    rows = apps.get_model("durable", "Job").objects.filter(pk__in=[job.pk for job in jobs])
    eventually(lambda: not rows.live().exists(), "all jobs are finished")
    found = {row.pk: row.return_value for row in rows}
    return [found[job.pk] for job in jobs]
