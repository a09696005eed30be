"""Fixtures for the whole suite."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from urllib.parse import quote, urlsplit

import pytest
from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations
from hypothesis import HealthCheck, settings

from django_durable.contrib.embedded import EmbeddedServer
from django_durable.engine import compensations, registry
from tests.flushing import flush_filled

DatabaseOperations.sql_flush = flush_filled

# A property is true on a slow machine as well.
settings.register_profile(
    "patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _forgotten_tasks() -> Iterator[None]:
    """Tasks and compensations that a test declares are gone after it."""
    registries = (registry._tasks, registry._conflicts, compensations._compensations)
    befores = [dict(known) for known in registries]
    yield
    for known, before in zip(registries, befores, strict=True):
        known.clear()
        known.update(before)


@pytest.fixture
def private_server() -> Iterator[EmbeddedServer]:
    """A server for one test, to stop, restart and crash."""
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture
def process_environment(transactional_db: None) -> dict[str, str]:
    """The environment in which another process finds the settings and the database of the tests."""
    name = quote(connection.settings_dict["NAME"], safe="")
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    root = str(Path(__file__).parent.parent)
    settings = {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    return os.environ | settings | {"PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def unused_tcp_port() -> int:
    """A port on the loopback address that nobody listened on a moment ago.

    Below those that the system gives to whoever asks for any, and drawn apart from ``random``,
    which has one seed for all processes of a run.
    """
    while True:
        port = SystemRandom().randint(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
