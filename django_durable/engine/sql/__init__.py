"""The statements that lock, return rows from an update, or are hot; one in each ``NAME.sql``.

Each file has fixed table names and ``%(name)s`` parameters only, so it can be pasted into psql
after setting them, and opens with what it does, takes, returns, locks, and which index it rides.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from importlib.resources import files
from typing import Any, Protocol
from uuid import UUID

from django.db import transaction


@cache
def load(name: str) -> str:
    """The statement in ``NAME.sql``, without its comments. A missing file fails at import."""
    lines = (files(__name__) / f"{name}.sql").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("--"))


class Connection(Protocol):
    """A Django connection or a psycopg one: what the store needs of it."""

    def cursor(self) -> AbstractContextManager[Any]: ...


def one_commit(connection: Any) -> AbstractContextManager[Any]:
    """What runs inside is one commit; a part of the transaction that is open there, if one is.

    On a Django connection of this thread, or on a psycopg one.
    """
    alias = getattr(connection, "alias", None)
    if alias is None:
        transacted: AbstractContextManager[Any] = connection.transaction()
        return transacted
    return transaction.atomic(using=alias, savepoint=False)


def fetch_all(connection: Connection, statement: str, params: Mapping[str, Any]) -> list[Any]:
    """Run one statement; its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        rows: list[Any] = cursor.fetchall()
        return rows


def fetch_one(connection: Connection, statement: str, params: Mapping[str, Any]) -> Any | None:
    """Run one statement; its first row, or None."""
    rows = fetch_all(connection, statement, params)
    return rows[0] if rows else None


def execute(connection: Connection, statement: str, params: Mapping[str, Any]) -> int:
    """Run one statement; how many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        count: int = cursor.rowcount
        return count


def array(values: Iterable[Any]) -> str:
    """An array's literal, of values whose ``str`` is their input text; None is NULL.

    Several times cheaper than a list, which the driver looks at element by element, more than once.
    """
    return "{" + ",".join(["NULL" if v is None else _element(str(v)) for v in values]) + "}"


def id_array(ids: Iterable[UUID]) -> str:
    """The same of UUIDs, which need no quotes."""
    return "{" + ",".join([id_.hex for id_ in ids]) + "}"


def _element(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
