"""What a database error means: the connection died, the transaction may be repeated, or neither."""

import django.db
import psycopg

DATABASE_ERRORS = (django.db.Error, psycopg.Error)
"""What every loop that survives outages catches."""

_CONNECTION_CLASSES = ("08", "57P")  # connection exception; operator intervention
_IDLE_IN_TRANSACTION_TIMEOUT = "25P03"
_SILENT = (psycopg.OperationalError, psycopg.InterfaceError, django.db.InterfaceError)
_HELD_UP = frozenset({"55P03", "57014"})  # lock not available, query cancelled (a timeout)
_REPEATABLE = frozenset({"40001", "40P01"})  # serialization failure, deadlock detected


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a database error, wrapped by Django or not. None: the server said nothing."""
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None


def is_connection_error(error: BaseException) -> bool:
    """Whether the connection is gone, so that the statement may or may not have had its effect."""
    if not isinstance(error, DATABASE_ERRORS):
        return False
    state = sqlstate(error)
    if state is None:
        return isinstance(error, _SILENT) or isinstance(error.__cause__, _SILENT)
    return state.startswith(_CONNECTION_CLASSES) or state == _IDLE_IN_TRANSACTION_TIMEOUT


def is_held_up(error: BaseException) -> bool:
    """Whether a lock was not to be had in time, or the statement was cancelled: 55P03 and 57014."""
    return isinstance(error, DATABASE_ERRORS) and sqlstate(error) in _HELD_UP


def is_repeatable(error: BaseException) -> bool:
    """Whether the same transaction, tried again, may well succeed: 40001 and 40P01."""
    return isinstance(error, DATABASE_ERRORS) and sqlstate(error) in _REPEATABLE
