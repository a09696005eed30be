"""Ctrl-C and its like: they end the demo, but never halfway through starting a process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruptions:
    """What a signal does: it unwinds the demo, whose ``with`` blocks end what they started."""

    def __init__(self) -> None:
        self._is_held = False
        self._pending: int | None = None

    def install(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes inside takes effect at the end."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            if self._pending is not None:
                self._leave(self._pending)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_held:
            self._pending = number
        else:
            self._leave(number)

    def _leave(self, number: int) -> NoReturn:
        """Raise SystemExit; while it unwinds, more signals change nothing."""
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)
