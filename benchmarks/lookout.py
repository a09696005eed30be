"""Where task bodies say that they run, and wait to be let go: a server on the loopback address."""

from __future__ import annotations

import os
import socket
import threading
import time
from queue import Empty, SimpleQueue
from typing import NamedTuple, Self

ADDRESS = "127.0.0.1"
PATIENCE_SECONDS = 60.0


class Arrival(NamedTuple):
    """A body that began, in which process, and when on the machine's clock."""

    pid: int
    at: float


def check_in(port: int) -> None:
    """In a task's body: say that it runs, then block until the lookout lets everybody go."""
    began = time.monotonic()
    with socket.create_connection((ADDRESS, port)) as connection:
        connection.sendall(f"{os.getpid()} {began}\n".encode())
        connection.recv(1)


class Lookout:
    """Hears of bodies as they begin. Leaving the ``with`` block lets all of them go."""

    def __init__(self) -> None:
        self._listener = socket.create_server((ADDRESS, 0), backlog=128)
        self._arrivals: SimpleQueue[Arrival] = SimpleQueue()
        self._held: list[socket.socket] = []
        threading.Thread(target=self._listen, name="lookout", daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def next_arrival(self) -> Arrival:
        """Wait for a body to begin. Raises: TimeoutError."""
        try:
            return self._arrivals.get(timeout=PATIENCE_SECONDS)
        except Empty:
            raise TimeoutError(f"No task began within {PATIENCE_SECONDS:g} s.") from None

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: nobody is awaited any more
                return
            pid, at = connection.makefile().readline().split()
            self._held.append(connection)
            self._arrivals.put(Arrival(int(pid), float(at)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._held:
            connection.close()
