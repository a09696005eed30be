"""A worker's database sessions: what each is for, how it is named, and when it is given back.

Every session is named ``durable:<worker id>``, so that all can be ended if the worker is declared
lost. Slots share Django's own connection pool, small when idle; the engine has three sessions of
its own: one that claims and keeps house, one that writes durable points, one that listens, holds
the lock and sends heartbeats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from django.db import connections
from django.db.utils import load_backend

from django_durable.engine.liveness import session_name

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

ENGINE_SESSIONS = 3
IDLE_SECONDS = 0.1
"""A pool gives up one unused connection each so often, so bursts do not keep theirs."""


LONGEST_WAIT = 600.0
"""Seconds for which threads wait for a connection: branches may be many more than slots."""


def postgresql_aliases() -> list[str]:
    return [alias for alias in connections if connections[alias].vendor == "postgresql"]


def switch_on_pools(slots: int) -> None:
    """Let slots borrow connections: a pool for each database, of at most one for each slot."""
    for alias in postgresql_aliases():
        database = connections.settings[alias]
        options = database.setdefault("OPTIONS", {})
        if not options.get("pool"):
            options["pool"] = {
                "min_size": 0,
                "max_size": max(slots, 2),
                "max_idle": IDLE_SECONDS,
                "timeout": LONGEST_WAIT,
            }
        database["CONN_MAX_AGE"] = 0
        database["CONN_HEALTH_CHECKS"] = True


def name_sessions(worker_id: int) -> None:
    """Name all sessions opened from now on. Those of a lost worker were ended by who said so."""
    for alias in postgresql_aliases():
        connections.settings[alias]["OPTIONS"]["application_name"] = session_name(worker_id)
        pooled: Any = connections.create_connection(alias)
        if pooled.pool is not None:
            pooled.pool.kwargs["application_name"] = session_name(worker_id)


def own_wrapper(alias: str) -> BaseDatabaseWrapper:
    """A Django connection outside the pool."""
    database = connections.settings[alias]
    options = {key: value for key, value in database["OPTIONS"].items() if key != "pool"}
    options["isolation_level"] = psycopg.IsolationLevel.READ_COMMITTED
    backend: Any = load_backend(database["ENGINE"])
    wrapper: BaseDatabaseWrapper = backend.DatabaseWrapper({**database, "OPTIONS": options}, alias)
    return wrapper


def use_own_connection(alias: str) -> None:
    """Give the calling thread a connection outside the pool, for the ORM as well."""
    connections[alias] = own_wrapper(alias)


class LastingCursor(psycopg.Cursor[Any]):
    """A cursor that is used again after it was closed."""

    def close(self) -> None:
        pass


class Session(psycopg.Connection[Any]):
    """A session of one thread at a time, with one cursor for all its statements.

    Making a cursor costs as much as the rest of a step's bookkeeping.
    """

    _cursor: LastingCursor | None = None

    def cursor(self, *args: Any, **options: Any) -> Any:
        if self._cursor is None:
            self._cursor = super().cursor(*args, **options)
        return self._cursor


def connect(alias: str) -> psycopg.Connection[Any]:
    """A plain psycopg session in autocommit, with server-side parameters.

    Statements are prepared when they recur, unless a pooler stands between. All find their rows by
    key: a plan kept from when the tables were small must not scan them when they have grown. Nobody
    waits long for a lock: the writer has others to write for.
    """
    params = own_wrapper(alias).get_connection_params()
    params |= {"cursor_factory": LastingCursor, "autocommit": True}
    connection = Session.connect(**params)
    if is_pooled(connection):
        connection.prepare_threshold = None
    else:
        connection.prepare_threshold = 1
        connection.execute(BY_KEY_IN_ORDER)
        connection.execute("set lock_timeout to '250ms'")
    return connection


BY_KEY_IN_ORDER = """
set enable_seqscan to off; set enable_hashjoin to off; set enable_mergejoin to off
"""
"""Whatever a statement is given is looked up by key, one after the other: so it locks, too."""


def is_pooled(connection: Any) -> bool:
    """Whether a pooler stands between: then the server process is not the one that greeted us."""
    row = connection.execute("select pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid
