"""Other sessions on the tests' database: to look from outside, to hold locks, to race."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any, TypeVar

import psycopg
from django.db import connection, connections

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which what has not come about fails a test; nothing waits so long in peace."""


@contextmanager
def second_session() -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own, in autocommit."""
    settings = {**connection.get_connection_params(), "cursor_factory": psycopg.Cursor}
    settings.pop("context", None)
    with psycopg.connect(**settings, autocommit=True) as session:
        yield session


def seen_jobs(session: psycopg.Connection[Any]) -> int:
    """How many jobs another session sees."""
    row = session.execute("select count(*) from durable_job").fetchone()
    assert row is not None
    return int(row[0])


BLOCKED = """
    from pg_stat_activity as waiting
    where datname = current_database() and wait_event_type = 'Lock' and exists (
        select from pg_stat_activity as holder
        where holder.pid = any(pg_blocking_pids(waiting.pid))
            and holder.backend_type = 'client backend'
    )
"""
"""The sessions that wait for a lock which another one holds; autovacuum is none of ours."""


def wait_until_blocked(sessions: int = 1) -> None:
    """Return once so many sessions of this database wait for a lock."""
    wait_until(f"select count(*) >= %s {BLOCKED}", sessions)


def wait_until(question: str, *params: Any) -> None:
    """Return once a query answers true."""
    deadline = time.monotonic() + PATIENCE
    with second_session() as session:
        while session.execute(question, params).fetchone() != (True,):
            assert time.monotonic() < deadline, f"never true: {question}"


def end_other_sessions() -> None:
    """End all sessions of this database but this one, and return once they have ended.

    The server ends statements whose client is gone, and only then notices: a row would be left
    behind, or a lock be in the way of emptying the tables.
    """
    deadline = time.monotonic() + PATIENCE
    with connection.cursor() as cursor:
        cursor.execute(END_OTHERS)
        while cursor.rowcount:
            assert time.monotonic() < deadline, "other sessions do not end"
            time.sleep(0.002)
            cursor.execute(END_OTHERS)


END_OTHERS = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
        and backend_type = 'client backend'
"""


@contextmanager
def second_alias(name: str = "other") -> Iterator[str]:
    """Another Django connection to the tests' database, under an alias of its own."""
    connections.settings[name] = dict(connections["default"].settings_dict)
    other: Any = connections[name]

    def ensure_connection() -> None:
        """As Django's own, without the guard that only knows the aliases of the settings."""
        if other.connection is None:
            other.connect()

    other.ensure_connection = ensure_connection
    try:
        yield name
    finally:
        other.close()
        del connections[name]
        del connections.settings[name]


@contextmanager
def threads(count: int) -> Iterator[Callable[[Callable[[], T]], "Future[T]"]]:
    """Start functions in threads; each thread closes its connections after one."""
    with ThreadPoolExecutor(count) as pool:

        def start(function: Callable[[], T]) -> "Future[T]":
            return pool.submit(_closing, function)

        yield start


def race(function: Callable[[], T], count: int) -> list[T]:
    """The results of ``count`` threads that call a function at the same moment."""
    barrier = Barrier(count)

    def together() -> T:
        connection.ensure_connection()
        barrier.wait(PATIENCE)
        return function()

    with threads(count) as start:
        futures = [start(together) for _ in range(count)]
        return [future.result(PATIENCE) for future in futures]


def _closing(function: Callable[[], T]) -> T:
    try:
        return function()
    finally:
        connections.close_all()
