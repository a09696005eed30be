"""How often a worker was told to stop: once means in good order, twice at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class StopOrders:
    """Those that came by signal are counted; what its supervisor says is not added to them.

    A process manager may send each process the signal that the supervisor passes on as well.
    """

    woken: Callable[[], None]
    """Called at each order; must be safe in a signal handler."""
    _signals: int = 0
    _told: int = 0

    @property
    def count(self) -> int:
        return max(self._signals, self._told)

    def listen_to_signals(self) -> None:
        """A hang-up that is ignored stays so (nohup)."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.note_signal)

    def note_signal(self, *_: Any) -> None:
        self._signals += 1
        self.woken()

    def tell(self, count: int) -> None:
        """Stop as if so many orders had come by now. Safe in any thread."""
        self._told = max(self._told, count)
        self.woken()
