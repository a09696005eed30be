"""The line between the supervisor and a worker process: a pair of sockets, one end in each.

The supervisor's word travels here and not by signal, because a process manager or Ctrl-C may send
the same signal to every process: who is told twice to stop in good order must not stop at once.
Whichever process dies, the other reads the end of the line.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

logger = logging.getLogger("django_durable")

READY = b"r"
"""Says the worker: it is registered, and claims."""
STOP = b"s"
"""Says the supervisor: stop in good order."""
AT_ONCE = b"k"
"""Says the supervisor: stop at once, as after a second signal."""


@dataclass(slots=True, eq=False)
class Leash:
    """The worker's end. ``number``: which of the supervisor's processes it is, from 1."""

    number: int
    line: socket.socket = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Leash:
        """Of ``NUMBER:FILE DESCRIPTOR``. Raises: ValueError, OSError."""
        number, descriptor = text.split(":")
        line = socket.socket(fileno=int(descriptor))
        line.set_inheritable(False)
        return cls(int(number), line)

    def follow(self, stop: Callable[[int], None]) -> None:
        """Obey from now on, in a thread: ``stop(n)`` is to do what ``n`` signals would."""
        threading.Thread(
            target=self._listen, args=(stop,), name="durable-leash", daemon=True
        ).start()

    def say_ready(self) -> None:
        try:
            self.line.sendall(READY)
        except OSError:  # the supervisor is gone; the listening thread sees it too
            return

    def _listen(self, stop: Callable[[int], None]) -> None:
        while word := self._hear():
            stop(2 if AT_ONCE in word else 1)
        logger.warning("The supervisor is gone; this worker process stops.")
        stop(1)

    def _hear(self) -> bytes:
        try:
            return self.line.recv(64)
        except OSError:
            return b""
