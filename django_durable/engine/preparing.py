"""The engine's hot statements on Django's own connections, prepared where that is safe.

Django prepares none, since a pooler may hand each transaction to another server process. Whether
one stands between shows in the answers: the process that answers is the one that greeted us, or
not. Known to be direct, a session lets the driver prepare the engine's statements once they recur:
parsing and planning are a third of an enqueue. Django's own cursors prepare nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.types.datetime import TimestamptzLoader

OFTEN = 3
"""A statement that ran so often on one session is prepared there."""

_is_direct: WeakKeyDictionary[psycopg.Connection[Any], bool] = WeakKeyDictionary()


class PreparingConnection:
    """A Django connection whose session is known to be direct, as the store uses one.

    Its cursors take parameters on the server's side, so what they run can be prepared. Django's log
    of queries and its wrappers see them like all others.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.alias: str = connection.alias

    def cursor(self) -> Any:
        connection = self._connection
        connection.validate_thread_sharing()
        cursor = psycopg.Cursor(connection.connection)
        # Django's own loader of times is Python; the driver's is C and gives the same
        cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        if connection.queries_logged:
            return connection.make_debug_cursor(cursor)
        return connection.make_cursor(cursor)


def prepared(connection: Any) -> Any:
    """The connection to run a hot statement on: preparing if its session is known to be direct."""
    return PreparingConnection(connection) if is_direct(connection) else connection


def is_direct(connection: Any) -> bool:
    session = getattr(connection, "connection", None)
    return isinstance(session, psycopg.Connection) and _is_direct.get(session, False)


PLAN_ONCE = """
select set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)
"""
"""For the length of a transaction: keep plans, of which all go by index and in its order."""


@contextmanager
def in_few_trips(connection: Any) -> Iterator[None]:
    """What the outermost transaction does in here, and its COMMIT, travel together as far as nobody
    waits for an answer, and plans are kept; on a session that is known to be direct.
    """
    if not is_direct(connection) or len(connection.atomic_blocks) != 1:
        yield
        return
    with connection.connection.pipeline():
        connection.connection.execute(PLAN_ONCE)
        yield
        connection.connection.commit()


def note_server(connection: Any, backend_pid: int) -> None:
    """Take note of which server process answered on a Django connection."""
    session = getattr(connection, "connection", None)
    if isinstance(session, psycopg.Connection) and session not in _is_direct:
        note_direct(session, is_direct=session.info.backend_pid == backend_pid)


def note_direct(session: psycopg.Connection[Any], *, is_direct: bool) -> None:
    """Take note of whether a pooler stands before a session."""
    _is_direct[session] = is_direct
    if is_direct and session.prepare_threshold is None:
        session.prepare_threshold = OFTEN
