"""The measured server: the one in DATABASE_URL, or an embedded one under ``.data/bench``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg.sql import SQL, Identifier

from django_durable.contrib.embedded import EmbeddedServer

ROOT = Path(__file__).parent.parent
DATA = ROOT / ".data" / "bench"
NAME = "durable_bench"


@contextmanager
def scratch_database() -> Iterator[str]:
    """Give the URL of an empty database of the benchmark's own; drop it afterwards.

    An embedded server runs with PostgreSQL's default durability and is stopped afterwards.
    """
    with ExitStack() as cleanup:
        maintenance = os.environ.get("DATABASE_URL")
        if not maintenance:
            maintenance = cleanup.enter_context(EmbeddedServer.start(DATA)).url()
        drop = SQL("drop database if exists {} with (force)").format(Identifier(NAME))
        with psycopg.connect(maintenance, autocommit=True) as connection:
            connection.execute(drop)
            connection.execute(SQL("create database {}").format(Identifier(NAME)))
            yield urlsplit(maintenance)._replace(path=f"/{NAME}").geturl()
            connection.execute(drop)
