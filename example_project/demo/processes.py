"""The processes of the demo: the site and the workers, each with its log, none left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from example_project.demo.errors import DemoError
from example_project.demo.interruptions import Interruptions

MANAGE = Path(__file__).parents[1] / "manage.py"
PATIENCE_SECONDS = 10
LAST_LINES = 30


@dataclass(slots=True, kw_only=True)
class Child:
    """One process. What it prints goes to ``log``."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    is_frozen: bool = False
    is_killed: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.is_killed = True
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.is_frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.is_frozen = False
        self.process.send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        self.process.terminate()
        if self.is_frozen:
            self.thaw()

    @property
    def has_stopped_well(self) -> bool:
        return self.process.poll() == 0

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LAST_LINES:])


@dataclass(slots=True, kw_only=True)
class Crew:
    """All processes of a demo; leaving the ``with`` block ends those that still run."""

    database_url: str
    logs: Path
    interruptions: Interruptions
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(self.children)

    def start(self, name: str, *arguments: str) -> Child:
        """Start ``manage.py ARGUMENTS``, out of reach of the terminal's Ctrl-C."""
        path = self.logs / f"{name.replace(' ', '-')}.log"
        with path.open("wb") as log, self.interruptions.held():
            child = Child(name=name, process=self._popen(arguments, log), log=path)
            self.children.append(child)
        return child

    def run(self, *arguments: str) -> None:
        """Run ``manage.py ARGUMENTS`` to its end. Raises: DemoError with its output."""
        child = self.start(arguments[0], *arguments)
        if child.process.wait():
            raise DemoError(f"manage.py {arguments[0]} failed:\n{child.last_words()}")
        self.children.remove(child)

    def stop(self, children: list[Child]) -> None:
        """Ask processes to stop; end those that do not."""
        living = [child for child in children if child.is_alive]
        for child in living:
            child.ask_to_stop()
        for child in living:
            try:
                child.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()

    def check(self) -> None:
        """Raises: DemoError if a process ended by itself."""
        for child in self.children:
            if not child.is_alive and not child.is_killed:
                status = child.process.returncode
                raise DemoError(f"{child.name} ended with {status}:\n{child.last_words()}")

    def _popen(self, arguments: tuple[str, ...], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(MANAGE), *arguments],
            env=os.environ
            | {
                "DATABASE_URL": self.database_url,
                "DJANGO_SETTINGS_MODULE": "example_project.settings",
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def find_port(wish: int = 0) -> int:
    """A free port of the loopback address: the wished one, or any."""
    for port in (wish, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise DemoError("No port is free on 127.0.0.1.")
