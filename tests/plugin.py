"""Gives the suite a PostgreSQL server: the one in DATABASE_URL, or an embedded one for the run."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from django_durable.contrib.embedded import EmbeddedServer, EmbeddedServerError

# Filled when the suite has started a server of its own, for tests that restart or crash it.
SERVER = pytest.StashKey[EmbeddedServer]()


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Start the server before pytest-django loads the settings, which read DATABASE_URL."""
    options = early_config.known_args_namespace
    if not (os.environ.get("DATABASE_URL") or options.help or options.version):
        try:
            server = EmbeddedServer.start()
        except EmbeddedServerError as error:
            raise pytest.UsageError(f"DATABASE_URL is not set, and: {error}") from error
        early_config.stash[SERVER] = server
        early_config.add_cleanup(server.close)
        server.create_database("durable")
        os.environ["DATABASE_URL"] = server.url("durable")
    return (yield)
