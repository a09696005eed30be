"""Fixtures of the trials: two servers, workers that know both, and load."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import DjangoDbBlocker

from django_durable.contrib.embedded import EmbeddedServer
from tests.scenarios.harness import Gates, Workers
from tests.trials.load import Load
from tests.trials.replication import Pair


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary that the tests' Django and the workers are connected to, with its standby."""
    made = Pair()
    yield made
    made.close()


@pytest.fixture
def migrated(pair: Pair, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    settings = connections["default"].settings_dict
    before = dict(settings)
    with django_db_blocker.unblock():
        connections["default"].close()
        settings.update(pair.django_settings())
        call_command("migrate", run_syncdb=True, verbosity=0)
        yield
        connections["default"].close()
        settings.update(before)


@pytest.fixture
def workers(pair: Pair, migrated: None, tmp_path: Path) -> Iterator[Workers]:
    folder = tmp_path / "gates"
    folder.mkdir()
    started = Workers(
        os.environ
        | pair.environment()
        | {
            "PYTHONPATH": str(Path(__file__).parent.parent.parent),
            "PYTHONUNBUFFERED": "1",
            "DURABLE_TEST_GATES": str(Gates(folder).folder),
        },
        tmp_path,
    )
    yield started
    started.end()
    sys.stdout.write(started.logs[-20_000:])


@pytest.fixture
def load(migrated: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Load]:
    made = Load(django_db_blocker)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def lone_server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as server:
        yield server
