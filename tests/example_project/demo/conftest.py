"""Processes to strike, a snapshot to look at, and a session to ask."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from example_project.demo import processes
from example_project.demo.evidence import Boot, Snapshot
from example_project.demo.interruptions import Interruptions
from example_project.demo.processes import Child, Crew

StartSleeper = Callable[..., Child]


@pytest.fixture
def session(db: None) -> Any:
    """The session of the test's transaction, as psycopg has it."""
    connection.ensure_connection()
    return connection.connection


@pytest.fixture
def snapshot() -> Snapshot:
    """Four orders, one of them fulfilled, and a worker at work on two."""
    return Snapshot(
        orders={"PLACED": 3, "SHIPPED": 1},
        jobs={"RUNNING": 2, "READY": 1, "SUCCESSFUL": 1},
        boots=[Boot(worker_id=7, pid=70, is_lost=False, running=2)],
    )


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    """Starts processes, and waits long for their end."""
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 60)
    url = os.environ["DATABASE_URL"]
    with Crew(database_url=url, logs=tmp_path, interruptions=Interruptions()) as crew:
        yield crew


@pytest.fixture
def start_sleeper(crew: Crew) -> StartSleeper:
    """Starts a process of the crew that is not Django's."""

    def start(program: str = "import time; time.sleep(60)") -> Child:
        log = crew.logs / f"sleeper-{len(crew.children)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-uc", program], stdout=output)
        child = Child(name="sleeper", process=process, log=log)
        crew.children.append(child)
        return child

    return start
