"""Fixtures of the stories."""

import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from django.db import connection

from tests.scenarios.harness import Gates, Workers
from tests.scenarios.killing import Killing
from tests.sessions import end_other_sessions

LONGEST = 300
"""Seconds for one story: each waits with a patience of its own, and starts many processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.process)
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    folder = tmp_path / "gates"
    folder.mkdir()
    return Gates(folder)


@pytest.fixture
def workers(process_environment: dict[str, str], gates: Gates, tmp_path: Path) -> Iterator[Workers]:
    environment = process_environment | {"DURABLE_TEST_GATES": str(gates.folder)}
    started = Workers(environment, tmp_path)
    yield started
    started.end()
    end_other_sessions()
    sys.stdout.write(started.logs)  # shown by pytest when a story fails


@pytest.fixture
def empty_database(process_environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a database without any table."""
    name = f"{connection.settings_dict['NAME']}_empty"
    quoted = connection.ops.quote_name(name)
    with connection.cursor() as cursor:
        cursor.execute(f"drop database if exists {quoted} with (force)")
        cursor.execute(f"create database {quoted}")
    url = urlsplit(process_environment["DATABASE_URL"])
    yield process_environment | {
        "DATABASE_URL": url._replace(path=f"/{quote(name, safe='')}").geturl()
    }
    with connection.cursor() as cursor:
        cursor.execute(f"drop database {quoted} with (force)")


@pytest.fixture
def killing(
    transactional_db: None, process_environment: dict[str, str], gates: Gates, tmp_path: Path
) -> Iterator[Killing]:
    started = Killing(tmp_path, {"DURABLE_TEST_GATES": str(gates.folder)})
    yield started
    started.end()
    end_other_sessions()
