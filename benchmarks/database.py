"""The measured server: the one in DATABASE_URL, or an embedded one under ``.data/bench``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg.sql import SQL, Identifier

from django_durable.contrib.embedded import EmbeddedServer

ROOT = Path(__file__).parent.parent
DATA = ROOT / ".data" / "bench"
NAME = "durable_bench"


@dataclass(slots=True)
class Server:
    """Where databases are made; those made here are dropped in the end."""

    cleanup: ExitStack
    maintenance: str

    def make_database(self, name: str) -> str:
        """Make an empty database; its URL."""
        drop = SQL("drop database if exists {} with (force)").format(Identifier(name))
        self._execute(drop)
        self._execute(SQL("create database {}").format(Identifier(name)))
        self.cleanup.callback(self._execute, drop)
        return urlsplit(self.maintenance)._replace(path=f"/{name}").geturl()

    def _execute(self, statement: psycopg.sql.Composed) -> None:
        with psycopg.connect(self.maintenance, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def measured_server() -> Iterator[Server]:
    """An embedded server runs with PostgreSQL's default durability and is stopped afterwards."""
    with ExitStack() as cleanup:
        maintenance = os.environ.get("DATABASE_URL")
        if not maintenance:
            maintenance = cleanup.enter_context(EmbeddedServer.start(DATA)).url()
        yield Server(cleanup, maintenance)
