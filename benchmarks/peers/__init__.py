"""The others: each in a venv of its own, driven by its ``driver.py``, in a database of its own.

A folder here is a peer: ``requirements.txt`` pins it, ``driver.py`` measures it as its own pages
advise. What cannot be installed or run says why, and its cells stay empty.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VENVS = HERE.parent.parent / ".bench_cache" / "peers"
TIMEOUT_SECONDS = 180
TITLES = {
    "dbos": "DBOS",
    "absurd": "Absurd",
    "pgqueuer": "PgQueuer",
    "procrastinate": "Procrastinate",
    "celery": "Celery",
    "django-tasks-db": "django-tasks-db",
}
"""Each peer's folder and name, in the order of the table's columns."""


class PeerError(Exception):
    """A peer could not be installed or measured; the text says why."""


@dataclass(slots=True)
class Peer:
    """A rival. ``problem`` says why it is not measured, ``programs`` what it needs besides."""

    name: str
    url: str = ""
    problem: str = ""
    programs: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def requirements(self) -> Path:
        return HERE / self.name / "requirements.txt"

    @property
    def venv(self) -> Path:
        return VENVS / self.name

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    def make_venv(self) -> None:
        """Make its venv, unless it is there with the same requirements. Raises: PeerError."""
        make_venv(self.venv, self.requirements)

    def versions(self) -> list[str]:
        """The pinned packages, as ``name==version``."""
        lines = self.requirements.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line and not line.startswith("#")]

    def measure(self, name: str, **options: Any) -> dict[str, Any]:
        """Run one measure of its driver. Raises: PeerError."""
        driver = str(HERE / self.name / "driver.py")
        path = os.pathsep.join([str(HERE), str(HERE / self.name)])
        command = [str(self.python), driver, name, json.dumps(options)]
        output = _run(command, BENCH_URL=self.url, PYTHONPATH=path)
        answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        return answer


def make_venv(venv: Path, requirements: Path) -> None:
    """Install pinned packages into a venv of their own, once. Raises: PeerError."""
    ready = venv / f"ready-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    if ready.exists():
        return
    print(f"  installing {requirements.parent.name} into {venv} ...", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(venv)])
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
    _run([str(venv / "bin" / "python"), *install, str(requirements)])
    ready.touch()


def _run(command: list[str], **variables: str) -> str:
    """Run a command; what it printed. Raises: PeerError with the last line it complained of."""
    environment = os.environ | variables
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(str(error)) from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise PeerError(lines[-1] if lines else f"exit status {done.returncode}")
    return done.stdout
