"""The claimed jobs that wait for a slot, and how many of them are worth having.

A worker that finishes its jobs in less time than a claim takes would mostly wait for claims. So it
claims beyond its free slots what they will finish in about 50 ms, at the pace measured of its
tasks. Which job a claim brings nobody knows before: one that has not begun within a second is
handed back, for others to take.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from django_durable.engine.run import Run

AHEAD_SECONDS = 0.05
"""Claimed ahead is what the slots will finish in this time."""
MOST_AHEAD = 1000
LONGEST_WAIT = 1.0
"""A job that has waited so long for a slot is handed back."""
FADING = 0.98
"""What is left of the earlier measurements with each new one, so that the latest count most."""
FEWEST = 8
"""Fewer measurements tell nothing."""
QUICK_SECONDS = 0.0002
"""Nothing that waits for a disk or a network ends so soon: such a job only computes."""
MOSTLY = 0.9
"""Of the latest jobs so many only compute."""


@dataclass(slots=True, eq=False)
class Backlog:
    """Runs in the order in which slots take them; threads wait here for one.

    Threads that only compute take the interpreter from each other, and from the threads that claim
    and write. Then fewer of them than there are slots take runs, and the others rest.
    """

    threads: int = 0
    """How many there are."""
    at_work: int = 0
    """How many of them may take runs."""
    _runs: deque[Run] = field(default_factory=deque)
    _idle: list[threading.Lock] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._runs)

    def put(self, run: Run, *, first: bool) -> None:
        if first:
            self._runs.appendleft(run)
        else:
            self._runs.append(run)
        self._wake()

    def get(self) -> Run:
        """The next run, waiting for one."""
        gate = threading.Lock()
        gate.acquire()
        while True:
            if self.threads - len(self._idle) <= self.at_work:
                with suppress(IndexError):
                    return self._runs.popleft()
            self._idle.append(gate)
            if self._runs:  # put in between: nobody may have seen this thread
                self._wake()
            gate.acquire()

    def _wake(self) -> None:
        if self._idle and self.threads - len(self._idle) < self.at_work:
            with suppress(IndexError):  # another thread was woken instead
                self._idle.pop().release()

    def let_work(self, count: int) -> None:
        """Let so many threads take runs."""
        self.at_work = min(count, self.threads)
        for _ in range(min(len(self._runs), len(self._idle))):
            self._wake()

    @property
    def rests(self) -> bool:
        """Whether runs wait here that not all threads may take."""
        return bool(self._runs) and self.at_work < self.threads

    def take_back(self, waiting_since: float) -> list[Run]:
        """Take out the runs that have waited since then or longer; the others keep their order."""
        old: list[Run] = []
        young: list[Run] = []
        for _ in range(len(self._runs)):
            try:
                run = self._runs.popleft()
            except IndexError:
                break
            (old if run.begun_at <= waiting_since else young).append(run)
        for run in reversed(young):
            self.put(run, first=True)
        return old


@dataclass(slots=True, eq=False)
class Pace:
    """How long jobs take a slot here, by task: sums that fade.

    Slots note and the loop asks, at the same time: a sum may be there before another is.
    """

    _counts: dict[str, float] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _quick: dict[str, float] = field(default_factory=dict)
    """How many of them only computed."""

    def note(self, task_path: str, seconds: float) -> None:
        quick = seconds < QUICK_SECONDS
        self._quick[task_path] = self._quick.get(task_path, 0.0) * FADING + quick
        self._counts[task_path] = self._counts.get(task_path, 0.0) * FADING + 1
        self._seconds[task_path] = self._seconds.get(task_path, 0.0) * FADING + seconds

    def forget(self) -> None:
        """Measure anew."""
        self._counts.clear()
        self._seconds.clear()
        self._quick.clear()

    def only_compute(self, task_paths: Collection[str]) -> bool:
        """Whether jobs like the latest ones hardly ever wait for anything."""
        return bool(task_paths) and all(
            self._quick.get(path, 0.0) >= MOSTLY * max(FEWEST, self._counts.get(path, 0.0))
            for path in task_paths
        )

    def jobs_ahead(self, slots: int, task_paths: Iterable[str]) -> int:
        """How many jobs like the latest ones so many slots will finish in the time ahead."""
        paths = [path for path in task_paths if path in self._counts]
        count = sum(self._counts[path] for path in paths)
        seconds = sum(self._seconds.get(path, 0.0) for path in paths)
        if count < FEWEST:
            return 0
        return min(MOST_AHEAD, int(slots * AHEAD_SECONDS * count / max(seconds, 1e-9)))
