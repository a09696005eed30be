"""The pools that a worker switches on."""

from typing import Any

import pytest
from django.db import connections

from django_durable.engine import sessions


def pool_after(monkeypatch: pytest.MonkeyPatch, *, slots: int, **options: Any) -> Any:
    monkeypatch.setattr(sessions, "postgresql_aliases", lambda: ["other"])
    monkeypatch.setitem(connections.settings, "other", {"OPTIONS": options})
    sessions.switch_on_pools(slots)
    return connections.settings["other"]["OPTIONS"]["pool"]


def test_branches_beyond_its_size_have_time_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a step that only waits for its turn would fail as if the database were away."""
    pool = pool_after(monkeypatch, slots=16)
    assert (pool["max_size"], pool["timeout"]) == (16, 600.0)


def test_a_lone_slot_has_a_connection_for_a_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool_after(monkeypatch, slots=1)["max_size"] == 2


def test_a_pool_of_the_users_own_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool_after(monkeypatch, slots=16, pool={"max_size": 3}) == {"max_size": 3}
