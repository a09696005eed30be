"""The ends of jobs that nobody waits for: written many at a time, while their slots go on.

Only a plain success is written here. Whatever else an attempt ends with, its slot writes itself,
and so it does when too many are pending: the slots must not run away from the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from django_durable.engine.announcing import conclude_all
from django_durable.engine.clock import machine_seconds
from django_durable.engine.executor import record
from django_durable.engine.faults import is_held_up

if TYPE_CHECKING:
    from django_durable.engine.outcomes import Outcome, Written
    from django_durable.engine.run import Run
    from django_durable.engine.writer import GroupWriter

logger = logging.getLogger("django_durable")

MOST_PENDING = 2000
LARGEST_BATCH = 500
GATHERING_SECONDS = 0.003
"""How long outcomes of a worker that is far from idle wait for others to be written with."""
LATE_SECONDS = 0.5
"""How soon an outcome is tried again whose row somebody holds."""


@dataclass(slots=True, eq=False)
class Finisher:
    """A thread that writes the outcomes it is given, and then says whose."""

    writer: GroupWriter
    is_busy: Callable[[], bool]
    """Whether more outcomes are about to come."""
    written: Callable[[list[Run]], None]
    """Called in its thread when outcomes are written, or found to be nobody's business any more."""
    _ended: SimpleQueue[tuple[Run, Outcome]] = field(default_factory=SimpleQueue)
    _late: deque[tuple[Run, Outcome]] = field(default_factory=deque)
    """Those whose rows somebody holds: the others do not wait for them."""
    _late_at: float = 0.0
    """When to try the next of them."""

    def start(self) -> None:
        threading.Thread(target=self._work, name="durable-finisher", daemon=True).start()

    def take(self, run: Run, outcome: Outcome) -> bool:
        """Take an outcome to write it soon; False if there are too many already."""
        if self._ended.qsize() + len(self._late) >= MOST_PENDING:
            return False
        self._ended.put((run, outcome))
        return True

    def _work(self) -> None:
        while True:
            while self._late and machine_seconds() >= self._late_at:
                self._write_batch([self._late.popleft()])
            if batch := self._gather():
                self._write_batch(batch)

    def _gather(self) -> list[tuple[Run, Outcome]]:
        """What has ended, waiting for some; none if it is time to see after the late ones."""
        try:
            batch = [self._ended.get(timeout=LATE_SECONDS if self._late else None)]
        except Empty:
            return []
        if self.is_busy():
            time.sleep(GATHERING_SECONDS)
        while len(batch) < LARGEST_BATCH and not self._ended.empty():
            batch.append(self._ended.get())
        return batch

    def _write_batch(self, batch: list[tuple[Run, Outcome]]) -> None:
        late: list[tuple[Run, Outcome]] = []
        try:
            late = self._write(batch)
        except BaseException:  # a fault of the engine: the jobs are given back by reconciling
            logger.exception("The ends of %s job(s) could not be written.", len(batch))
        if late:
            self._late += late
            self._late_at = machine_seconds() + LATE_SECONDS
        waiting = {run for run, _ in late}
        self.written([run for run, _ in batch if run not in waiting])

    def _write(self, batch: list[tuple[Run, Outcome]]) -> list[tuple[Run, Outcome]]:
        """Write what can be written; what somebody's lock is in the way of."""
        late: list[tuple[Run, Outcome]] = []
        answers = self.writer.finish_many([outcome for _, outcome in batch])
        done: list[tuple[Run, Written]] = []
        for (run, outcome), answer in zip(batch, answers, strict=True):
            if isinstance(answer, BaseException) and is_held_up(answer):
                late.append((run, outcome))
            elif isinstance(answer, BaseException):
                record(run, outcome, None)
            elif answer is not None:
                done.append((run, answer))
        conclude_all(done)
        return late
