"""The ends of jobs that nobody waits for: written many at a time, while their slots go on.

Only a plain success is written here. Whatever else an attempt ends with, its slot writes itself,
and so it does when too many are pending: the slots must not run away from the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

from django_durable.engine.announcing import conclude_all
from django_durable.engine.executor import record

if TYPE_CHECKING:
    from django_durable.engine.outcomes import Outcome, Written
    from django_durable.engine.run import Run
    from django_durable.engine.writer import GroupWriter

logger = logging.getLogger("django_durable")

MOST_PENDING = 2000
LARGEST_BATCH = 500
GATHERING_SECONDS = 0.003
"""How long outcomes of a worker that is far from idle wait for others to be written with."""


@dataclass(slots=True, eq=False)
class Finisher:
    """A thread that writes the outcomes it is given, and then says whose."""

    writer: GroupWriter
    is_busy: Callable[[], bool]
    """Whether more outcomes are about to come."""
    written: Callable[[list[Run]], None]
    """Called in its thread when outcomes are written, or found to be nobody's business any more."""
    _ended: SimpleQueue[tuple[Run, Outcome]] = field(default_factory=SimpleQueue)

    def start(self) -> None:
        threading.Thread(target=self._work, name="durable-finisher", daemon=True).start()

    def take(self, run: Run, outcome: Outcome) -> bool:
        """Take an outcome to write it soon; False if there are too many already."""
        if self._ended.qsize() >= MOST_PENDING:
            return False
        self._ended.put((run, outcome))
        return True

    def _work(self) -> None:
        while True:
            batch = [self._ended.get()]
            if self.is_busy():
                time.sleep(GATHERING_SECONDS)
            while len(batch) < LARGEST_BATCH and not self._ended.empty():
                batch.append(self._ended.get())
            runs = [run for run, _ in batch]
            try:
                self._write(batch)
            except BaseException:  # a fault of the engine: the jobs are given back by reconciling
                logger.exception("The ends of %s job(s) could not be written.", len(batch))
            self.written(runs)

    def _write(self, batch: list[tuple[Run, Outcome]]) -> None:
        answers = self.writer.finish_many([outcome for _, outcome in batch])
        done: list[tuple[Run, Written]] = []
        for (run, outcome), answer in zip(batch, answers, strict=True):
            if isinstance(answer, BaseException):
                record(run, outcome, None)
            elif answer is not None:
                done.append((run, answer))
        conclude_all(done)
