"""The storage parameters of the tables that change much."""

from importlib import import_module

import pytest
from django.db import connection

from django_durable.engine.sql import execute, fetch_all

pytestmark = pytest.mark.django_db
autovacuum = import_module("django_durable.migrations.0004_autovacuum")


def parameters() -> dict[str, set[str]]:
    """The parameters that each table has of its own."""
    rows = fetch_all(
        connection,
        "select relname, reloptions from pg_class where relname = any (%(names)s::text[])",
        {"names": list(autovacuum.TABLES)},
    )
    return {name: {option.split("=")[0] for option in options or ()} for name, options in rows}


def test_each_has_its_parameters() -> None:
    assert parameters() == {
        name: set(autovacuum.names_of(wanted).split(", "))
        for name, wanted in autovacuum.TABLES.items()
    }


def test_going_back_takes_them_off_again() -> None:
    for operation in autovacuum.Migration.operations:
        execute(connection, operation.reverse_sql, {})

    assert set(map(frozenset, parameters().values())) == {frozenset()}
