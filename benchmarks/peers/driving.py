"""What the drivers of all peers share. Standard library only: it runs in each peer's own venv.

A driver is called as ``python driver.py MEASURE OPTIONS``, options as JSON. It prints JSON, in its
last line. Bodies of jobs write when they begin into the diary: one file, one line for each.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

URL = os.environ.get("BENCH_URL", "")
"""The peer's own database, or its broker."""
PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.01
PAUSES = (0.02, 0.03)
"""Seconds between two jobs, long enough for a worker to be idle again."""

Options = dict[str, Any]
Measures = dict[str, Callable[[Options], dict[str, Any] | None]]


def main(measures: Measures) -> None:
    """Do what the command line says, and print what came out."""
    name, options = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    answer = measures[name](options) or {}
    print(json.dumps(answer), flush=True)


# In bodies of jobs -------------------------------------------------------------------------------

_file = -1


def diary() -> Path:
    return Path(os.environ["BENCH_DIARY"])


def note(number: int = 0) -> None:
    """Write that a body begins. One short write to a file opened for appending stays whole."""
    global _file
    if _file < 0:
        _file = os.open(diary(), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(_file, f"{number} {time.monotonic()}\n".encode())


def note_first() -> None:
    """Write only this process's first begin: nothing is left to cost time in later bodies."""
    if _file < 0:
        note()


# Around them -------------------------------------------------------------------------------------


def forget() -> None:
    """Begin a new diary, before workers start."""
    diary().write_text("")


def begins() -> list[tuple[int, float]]:
    """The number that each body was given, and when it began."""
    lines = (line.split() for line in diary().read_text().splitlines())
    return [(int(number), float(at)) for number, at in lines]


def first_begin() -> float:
    return min(at for _, at in begins())


def eventually(fact: Callable[[], Any], what: str, patience: float = PATIENCE_SECONDS) -> None:
    """Wait for a fact. Raises: TimeoutError saying what never came about."""
    until = time.monotonic() + patience
    while not fact():
        if time.monotonic() > until:
            raise TimeoutError(f"Not within {patience:g} s: {what}.")
        time.sleep(LOOK_SECONDS)


def rate(count: int, once: Callable[[int], object]) -> dict[str, Any]:
    """How often in a second something can be done, one after the other."""
    begun = time.monotonic()
    for number in range(count):
        once(number)
    return {"rate": count / (time.monotonic() - begun)}


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of a block; what it says goes to stderr."""
    popen = subprocess.Popen(command, stdout=sys.stderr)
    try:
        yield popen
    finally:
        popen.terminate()
        try:
            popen.wait(5)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def own_worker(**options: Any) -> Any:
    """This driver as a worker process: its measure ``work``."""
    return process(sys.executable, sys.argv[0], "work", json.dumps(options))


def drained(jobs: int, done: Callable[[], Any], worker: Any) -> dict[str, Any]:
    """How fast a new worker empties a queue: from its first body until nothing is left."""
    forget()
    with worker:
        eventually(done, f"{jobs} jobs are done")
        return {"rate": jobs / (time.monotonic() - first_begin())}


def delays(jobs: int, enqueue: Callable[[int], object], worker: Any) -> dict[str, Any]:
    """Milliseconds from the call of enqueue to the body, of jobs that find the worker idle."""
    forget()
    with worker:
        enqueue(-1)
        eventually(begins, "the first job ran")
        called = []
        for number in range(jobs):
            time.sleep(random.uniform(*PAUSES))
            called.append(time.monotonic())
            enqueue(number)
        eventually(lambda: len(begins()) == jobs + 1, f"{jobs} jobs began")
    began = dict(begins())
    return {"delays": [(began[number] - at) * 1000 for number, at in enumerate(called)]}
