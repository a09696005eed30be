"""pgbouncer in transaction mode, before the server of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from tests.scenarios.harness import eventually

PORT = 6432
CONFIGURATION = """
[databases]
{name} = host={host} port={port} dbname={name} user={user} {password}
[pgbouncer]
pool_mode = transaction
unix_socket_dir = {folder}
listen_port = {own_port}
auth_type = any
default_pool_size = {size}
max_client_conn = 200
"""


class Pgbouncer:
    """One process; its socket and its configuration are in a folder of its own."""

    def __init__(self, upstream: dict[str, Any], *, size: int) -> None:
        self._name = upstream["NAME"]
        self.folder = Path(tempfile.mkdtemp(prefix="pb"))
        host = upstream["HOST"] or upstream["OPTIONS"].get("host", "127.0.0.1")
        password = f"password={upstream['PASSWORD']}" if upstream["PASSWORD"] else ""
        configuration = self.folder / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                name=self._name,
                host=host,
                port=upstream["PORT"] or upstream["OPTIONS"].get("port", 5432),
                user=upstream["USER"] or "postgres",
                password=password,
                folder=self.folder,
                own_port=PORT,
                size=size,
            )
        )
        command = ["pgbouncer", str(configuration)]
        if os.geteuid() == 0:  # it refuses to run as root; the server's folder is its user's alone
            user = Path(host).owner() if host.startswith("/") else "nobody"
            command[1:1] = ["--user", user]
            shutil.chown(self.folder, user)
            shutil.chown(configuration, user)
        self.log = self.folder / "log"
        with self.log.open("wb") as stream:
            self._popen = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            eventually(self._answers, "pgbouncer answers")
        except AssertionError:
            self.close()
            raise

    def url(self) -> str:
        name = quote(self._name, safe="")
        return f"postgres://postgres@/{name}?host={quote(str(self.folder))}&port={PORT}"

    def _answers(self) -> bool:
        assert self._popen.poll() is None, self.log.read_text()
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def close(self) -> None:
        self._popen.kill()
        self._popen.wait()
        shutil.rmtree(self.folder)
