"""A primary and a standby that follows it by streaming, synchronously."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import psycopg

from django_durable.contrib.embedded import EmbeddedServer
from tests.scenarios.harness import eventually

NAME = "trial"


class Pair:
    """Two servers over folders of their own. ``kill_primary``, then ``promote``."""

    def __init__(self) -> None:
        self.primary = EmbeddedServer.start()
        self.primary.create_database(NAME)
        self._folder = self.primary.account.temporary_path()
        self._run(
            self.primary, "pg_basebackup", "--host", self.primary.socket_dir, "--username",
            "postgres", "--pgdata", self._folder, "--write-recovery-conf", "--checkpoint", "fast",
        )  # fmt: skip
        self.standby = EmbeddedServer.start(self._folder)
        with psycopg.connect(self.primary.url(), autocommit=True) as session:
            session.execute("alter system set synchronous_standby_names = '*'")
            session.execute("select pg_reload_conf()")
        eventually(self._is_synchronous, "the standby follows synchronously")

    def make_asynchronous(self) -> None:
        """Commits wait for no standby any more."""
        with psycopg.connect(self.primary.url(), autocommit=True) as session:
            session.execute("alter system reset synchronous_standby_names")
            session.execute("select pg_reload_conf()")

    def _is_synchronous(self) -> bool:
        with psycopg.connect(self.primary.url(), autocommit=True) as session:
            states = session.execute("select sync_state from pg_stat_replication").fetchall()
        return states == [("sync",)]

    def kill_primary(self, mode: str) -> None:
        """``kill``: its main process by SIGKILL; ``immediate``: as pg_ctl does it."""
        main = self.primary.postmaster()
        assert main is not None
        if mode == "kill":
            os.kill(main.pid, signal.SIGKILL)
            eventually(lambda: not self.primary.running, "the primary is dead")
        else:
            self.primary.stop("immediate")

    def promote(self) -> None:
        self._run(self.standby, "pg_ctl", "promote", "-w", "-D", self._folder)

    def _run(self, server: EmbeddedServer, program: str, *arguments: str | Path) -> None:
        done = server.account.run(server.binaries / program, *arguments)
        assert done.returncode == 0, done.stderr or done.stdout

    @property
    def _hosts(self) -> str:
        return f"{self.primary.socket_dir},{self.standby.socket_dir}"

    def django_settings(self) -> dict[str, Any]:
        options = {"target_session_attrs": "read-write", "connect_timeout": 2}
        name = {"NAME": NAME, "USER": "postgres", "PASSWORD": ""}
        return name | {"HOST": self._hosts, "PORT": "5432,5432", "OPTIONS": options}

    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": f"postgres://postgres@/{NAME}",
            "HOSTS": self._hosts,
            "PORTS": "5432,5432",
            "DJANGO_SETTINGS_MODULE": "tests.failover_settings",
        }

    def close(self) -> None:
        self.standby.stop("immediate")
        self.primary.close()
        shutil.rmtree(self._folder)
