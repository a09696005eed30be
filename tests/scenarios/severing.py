"""A proxy before PostgreSQL that cuts a connection once the server answered a chosen request."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

CHUNK = 65536


class SeveringProxy:
    """Listens on a socket of its own and passes bytes on, until it is told to cut.

    ``cut_after(marker, ...)`` arms it: once requests have held the markers, one after the other,
    the last of them reaches the server, the server's answer is read and thrown away, and both ends
    are closed. The client cannot know whether its commit took effect.
    """

    def __init__(self, upstream: dict[str, Any]) -> None:
        self._upstream = upstream
        self.folder = Path(tempfile.mkdtemp(prefix="px"))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._markers: list[bytes] = []
        self._lock = threading.Lock()
        self.cut = threading.Event()
        self._pipes: list[Pipe] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def url(self) -> str:
        name = quote(self._upstream["NAME"], safe="")
        user = quote(self._upstream["USER"] or "postgres", safe="")
        password = quote(self._upstream["PASSWORD"] or "", safe="")
        return f"postgres://{user}:{password}@/{name}?host={quote(str(self.folder))}&port=5432"

    def cut_after(self, *markers: bytes) -> None:
        with self._lock:
            self._markers = list(markers)
        self.cut.clear()

    def close(self) -> None:
        _shut(self._listener)
        self._acceptor.join()
        self._listener.close()
        for pipe in self._pipes:
            pipe.close()
        shutil.rmtree(self.folder)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the listener was closed: the test is over
                return
            server = self._connect()
            self._pipes.append(Pipe(self, client, server))

    def _connect(self) -> socket.socket:
        host = self._upstream["HOST"] or self._upstream["OPTIONS"].get("host", "")
        port = int(self._upstream["PORT"] or self._upstream["OPTIONS"].get("port", 5432))
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.connect(f"{host}/.s.PGSQL.{port}")
            return server
        return socket.create_connection((host or "127.0.0.1", port))

    def takes_marker(self, data: bytes) -> bool:
        """Whether this request holds the last marker; only the first that does is cut after."""
        with self._lock:
            found = False
            while self._markers and self._markers[0] in data:  # several may travel together
                data = data.partition(self._markers.pop(0))[2]
                found = True
            return found and not self._markers


class Pipe:
    """One client's connection through the proxy."""

    def __init__(self, proxy: SeveringProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._swallows = False
        targets = (self._requests, self._answers)
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for end in (self._client, self._server):
            _shut(end)
        for thread in self._threads:
            thread.join()
        for end in (self._client, self._server):
            end.close()

    def _requests(self) -> None:
        while data := _receive(self._client):
            if self._proxy.takes_marker(data):
                self._swallows = True
            _send(self._server, data)
        _shut(self._server)

    def _answers(self) -> None:
        while data := _receive(self._server):
            if self._swallows:
                _shut(self._client)
                _shut(self._server)
                self._proxy.cut.set()
                return
            _send(self._client, data)
        _shut(self._client)


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(CHUNK)
    except OSError:  # the other direction shut it
        return b""


def _send(end: socket.socket, data: bytes) -> None:
    try:
        end.sendall(data)
    except OSError:  # the other direction shut it
        return


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:  # shut already
        return
