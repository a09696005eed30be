"""Celery's broker: Debian's ``redis-server``, in its default configuration, on a port of its own.

Without a configuration file Redis writes a snapshot now and then and no log: what it accepted since
the last snapshot is lost in a crash. Nothing was changed about that, in either direction.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.lookout import ADDRESS
from benchmarks.peers import PeerError

MISSING = "redis-server is not installed (Debian: apt install redis-server)"


@contextmanager
def redis_server() -> Iterator[tuple[str, str]]:
    """A server for the length of a block: its URL and its version. Raises: PeerError."""
    program = shutil.which("redis-server")
    if program is None:
        raise PeerError(MISSING)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", ADDRESS, "--dir", folder]
        popen = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield f"redis://{ADDRESS}:{port}/0", version_of(version.stdout)
        finally:
            popen.terminate()
            popen.wait()


def free_port() -> int:
    with socket.create_server((ADDRESS, 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until it answers. Raises: PeerError."""
    for _ in range(100):
        try:
            socket.create_connection((ADDRESS, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise PeerError("redis-server does not answer")


def version_of(text: str) -> str:
    """``7.0.15`` out of ``Redis server v=7.0.15 sha=...``."""
    words = dict(word.split("=", 1) for word in text.split() if "=" in word)
    return f"Redis {words.get('v', 'of an unknown version')}"
