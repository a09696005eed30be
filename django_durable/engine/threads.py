"""What a thread has of the database's, and gives back; whether its context is untouched.

Asking each of Django's connections costs more than the rest of a small job. So it is noted when one
is opened, and a thread that opened none has nothing to give back.
"""

import threading
from contextvars import ContextVar
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

from django_durable.exceptions import StepInTransactionError

_pristine: ContextVar[bool] = ContextVar("durable_pristine", default=False)


class _Thread(threading.local):
    has_connections = True
    """Until it has been looked at once, a thread may have opened some unnoticed."""


_thread = _Thread()


def _note_connection(**_: Any) -> None:
    _thread.has_connections = True


connection_created.connect(_note_connection, dispatch_uid="durable.note_connection")


def release_connections() -> None:
    """Give this thread's database connections back, except those inside a transaction."""
    if not _thread.has_connections:
        return
    open_ones = 0
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:  # even if it was closed meanwhile
            open_ones += 1
        elif connection.connection is not None:
            connection.queries_log.clear()
            connection.close()
            open_ones += connection.connection is not None  # of SQLite in memory nothing closes
    _thread.has_connections = open_ones > 0


def has_connections() -> bool:
    """Whether this thread may have database connections."""
    return _thread.has_connections


def mark_pristine() -> None:
    """Nothing was ever activated in this thread's own context: no language, no time zone."""
    _pristine.set(True)


def is_pristine() -> bool:
    return _pristine.get()


def refuse_in_transaction(call: str) -> None:
    """Raise StepInTransactionError if user code opened a transaction, on any database."""
    if not _thread.has_connections:
        return
    for connection in connections.all(initialized_only=True):
        if has_user_transaction(connection):
            raise StepInTransactionError(call=call, alias=connection.alias)


def has_user_transaction(connection: Any) -> bool:
    """Whether a transaction is open that is not just the one TestCase wraps around a test."""
    blocks = connection.atomic_blocks
    return connection.in_atomic_block and not (blocks and blocks[-1]._from_testcase)
