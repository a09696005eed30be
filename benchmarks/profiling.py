"""Where a worker's time goes: ``PROFILE=1 make bench ONLY=drain`` attaches py-spy to each worker.

The samples of all threads are kept under ``.bench_cache/profiles``, one file for each worker, in
the form that flame graph programs read; the busiest lines and functions are printed at the end.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.peers import HERE, VENVS, make_venv

FOLDER = VENVS.parent / "profiles"
VENV = VENVS / "py-spy"
RATE = 200
"""Samples in a second."""
TOP = 25

_recorders: list[tuple[subprocess.Popen[bytes], Path]] = []


def wanted() -> bool:
    return bool(os.environ.get("PROFILE"))


def prepare() -> None:
    """Install py-spy if profiles are wanted: before a worker starts, which would not wait."""
    if wanted():
        make_venv(VENV, HERE / "py-spy" / "requirements.txt")


def attach(pid: int) -> None:
    """Sample a process until it ends, if profiles are wanted."""
    if not wanted():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    output = FOLDER / f"worker-{pid}.txt"
    command = [VENV / "bin" / "py-spy", "record", "--pid", str(pid), "--format", "raw"]
    options = ["--rate", str(RATE), "--gil", "--threads", "--output", output]
    popen = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    _recorders.append((popen, output))


def report() -> None:
    """Print where the time went, once all workers have ended."""
    lines: list[str] = []
    for popen, output in _recorders:
        popen.wait(60)
        if output.exists():
            lines += output.read_text(encoding="utf-8").splitlines()
    _recorders.clear()
    if lines:
        print("\n".join(summary(lines)))
        print(f"Written: {FOLDER} (for flamegraph.pl, or speedscope.app)")


def summary(lines: Iterable[str]) -> list[str]:
    """The functions that hold the interpreter most: in themselves, and with all they call.

    A line is a stack and its count: ``thread;outer (file:line);inner (file:line) 12``.
    """
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [frame.rpartition(":")[0] + ")" for frame in stack.split(";") if ":" in frame]
        if not frames:
            continue
        own[frames[-1]] += int(count)
        total.update(dict.fromkeys(frames, int(count)))
    whole = sum(own.values()) or 1
    texts = [f"{whole} samples of threads that held the interpreter, {RATE} a second"]
    for title, counter in (("in itself", own), ("with what it calls", total)):
        texts.append(title)
        texts += [f"  {n / whole:6.1%}  {name}" for name, n in counter.most_common(TOP)]
    return texts
