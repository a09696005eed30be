"""The demo's database: on the server in DATABASE_URL, or on an embedded one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import environ
import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from django_durable.contrib.embedded import EmbeddedServer
from example_project.demo.errors import DemoError
from example_project.demo.interruptions import Interruptions

DATA = Path(__file__).parents[2] / ".data" / "demo"
NAME = "durable_demo"
MARK = "Made by the demo of django_durable, which drops it and makes it anew."
LOCK = 0x64656D6F


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The database ``durable_demo``; ``keeper`` is a session in another one of the server."""

    url: str
    keeper: psycopg.Connection[tuple[object, ...]]
    is_embedded: bool

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(conninfo(self.url), autocommit=True)

    def exists(self) -> bool:
        """Whether it is there, made by the demo. Raises: DemoError if somebody else made it."""
        query = "select shobj_description(oid, 'pg_database') from pg_database where datname = %s"
        row = self.keeper.execute(query, [NAME]).fetchone()
        if row is not None and row[0] != MARK:
            raise DemoError(f"This server has a database {NAME} that is not the demo's: rename it.")
        return row is not None

    def create(self) -> None:
        name = sql.Identifier(NAME)
        self.keeper.execute(sql.SQL("create database {}").format(name))
        self.keeper.execute(sql.SQL("comment on database {} is {}").format(name, sql.Literal(MARK)))

    def make_anew(self) -> None:
        """Drop it with all it holds, and create it."""
        if self.exists():
            self._refuse_workers()
            drop = sql.SQL("drop database {} with (force)").format(sql.Identifier(NAME))
            self.keeper.execute(drop)
        self.create()

    def _refuse_workers(self) -> None:
        """They would go on in the new database, and do what is not theirs."""
        query = "select count(*) from pg_stat_activity where datname = %s and "
        query += "application_name like 'durable:%%'"
        if self.keeper.execute(query, [NAME]).fetchone() == (0,):
            return
        with self.connect() as connection:
            pids = connection.execute(
                "select distinct worker.hostname, worker.pid from durable_worker as worker"
                " join pg_stat_activity on application_name = 'durable:' || worker.id"
            ).fetchall()
        listed = ", ".join(f"process {pid} on {hostname}" for hostname, pid in pids)
        raise DemoError(f"Workers of {NAME} are running; end them first: {listed}.")


@contextmanager
def open_database(interruptions: Interruptions) -> Iterator[Database]:
    """The server, as long as it is needed, for one demo at a time."""
    given = os.environ.get("DATABASE_URL")
    with ExitStack() as stack:
        if given is None:
            with interruptions.held():
                server = stack.enter_context(EmbeddedServer.start(DATA))
        url = given or server.url()
        keeper = stack.enter_context(_keep(url))
        yield Database(url=replace_name(url), keeper=keeper, is_embedded=given is None)


@contextmanager
def _keep(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    try:
        keeper = psycopg.connect(conninfo(url), autocommit=True)
    except psycopg.OperationalError as error:
        raise DemoError(f"The server in DATABASE_URL does not answer: {error}") from error
    with keeper:
        try:  # the session of a demo that has just ended may hold it for a moment
            keeper.execute("set lock_timeout = '3s'")
            keeper.execute("select pg_advisory_lock(%s)", [LOCK])
            keeper.execute("reset lock_timeout")
        except psycopg.errors.LockNotAvailable as error:
            already = "A demo is at work on this server already (make demo or make serve)."
            raise DemoError(already) from error
        yield keeper


def replace_name(url: str) -> str:
    """The URL of the demo's database on the same server."""
    parts = urlsplit(url)
    if parts.path.strip("/") == NAME:
        raise DemoError(f"DATABASE_URL must name another database than {NAME}, such as postgres.")
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{NAME}{query}"


def conninfo(url: str) -> str:
    """What django-environ reads in a URL, for psycopg."""
    settings = environ.Env.db_url_config(url)
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    options = {key: value for key, value in settings.get("OPTIONS", {}).items() if key in known}
    return make_conninfo(
        dbname=settings["NAME"],
        user=settings["USER"] or None,
        password=settings["PASSWORD"] or None,
        host=options.pop("host", None) or settings["HOST"] or None,
        port=options.pop("port", None) or settings["PORT"] or None,
        **options,
    )
