"""What wakes a worker's loop, and tells it to stop. Safe to ring in signal handlers and threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any


@dataclass(slots=True, eq=False)
class Bell:
    """A queue rather than an event: putting into it is safe in a signal handler."""

    _rung: SimpleQueue[str | None] = field(default_factory=SimpleQueue)
    _signals: int = 0
    _told: int = 0
    _is_rung: bool = False

    @property
    def stop_signals(self) -> int:
        """How often the worker was told to stop: once in good order, twice at once."""
        return max(self._signals, self._told)

    def stop(self, *_: Any) -> None:
        self._signals += 1
        self.ring()

    def stop_as_if(self, signals: int) -> None:
        """Stop as after so many signals; those that come besides, or came, are not added up."""
        self._told = max(self._told, signals)
        self.ring()

    def ring(self) -> None:
        self._rung.put(None)

    def ring_once(self) -> None:
        """Ring, unless that was done since the loop last began to go round."""
        if not self._is_rung:
            self._is_rung = True
            self._rung.put(None)

    def ring_for(self, queue_name: str | None) -> None:
        """Ring since this queue has new jobs; None: any queue may."""
        self._rung.put(queue_name)

    def listen(self) -> None:
        """From now on ``ring_once`` rings again."""
        self._is_rung = False

    def wait(self, seconds: float) -> set[str]:
        """Until it rings or the time is over; the queues it rang for, if for nothing else."""
        try:
            rung = {self._rung.get(timeout=seconds)}
            while not self._rung.empty():
                rung.add(self._rung.get_nowait())
        except Empty:
            return set()
        return set() if None in rung else {name for name in rung if name is not None}
