"""Fixtures of the protocol's tests."""

from collections.abc import Iterator

import pytest

from tests.protocol.stage import Stage


@pytest.fixture
def stage(transactional_db: None) -> Iterator[Stage]:
    """Actors, each with a connection of its own; cleared away afterwards."""
    stage = Stage()
    yield stage
    stage.close()
