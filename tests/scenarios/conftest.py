"""Fixtures of the stories."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.harness import Gates, Workers
from tests.scenarios.killing import Killing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.process)


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
    sys.stdout.write(started.logs)  # shown by pytest when a story fails


@pytest.fixture
def killing(
    transactional_db: None, process_environment: dict[str, str], gates: Gates, tmp_path: Path
) -> Iterator[Killing]:
    started = Killing(tmp_path, {"DURABLE_TEST_GATES": str(gates.folder)})
    yield started
    started.end()
