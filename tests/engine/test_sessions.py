"""A worker's sessions: its pools, their ceiling, the engine's own and where they lead."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from pytest_django import Settings

from django_durable.checks import check_database
from django_durable.engine import boot, liveness, sessions
from django_durable.engine.boot import NotReadyError
from django_durable.engine.outcomes import Outcome, finish_jobs
from django_durable.engine.sql import execute
from django_durable.engine.states import JobState
from django_durable.models import Job
from tests.sessions import second_session
from tests.testapp.durable_stories import quick


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


def test_slots_share_as_many_connections_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.DURABLE = {"SLOT_CONNECTIONS": 5}

    assert pool_after(monkeypatch, slots=16)["max_size"] == 5
    assert pool_after(monkeypatch, slots=3)["max_size"] == 3


def test_a_server_that_vanished_is_noticed_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool_after(monkeypatch, slots=1, keepalives_idle=99)

    options = connections.settings["other"]["OPTIONS"]
    assert options["keepalives_idle"] == 99
    assert options["tcp_user_timeout"] == 30_000


class AliasTests:
    """Aliases for the engine only are no business of the slots."""

    @pytest.fixture(autouse=True)
    def _three_aliases(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ["default", "own", "reports"]
        monkeypatch.setattr(sessions, "postgresql_aliases", lambda: names)
        monkeypatch.setitem(connections.settings, "own", {})

    @pytest.mark.parametrize(
        ("durable", "ceiling"),
        [
            ({}, 3 + 3 * 16),
            ({"DIRECT_DATABASE": "own"}, 3 + 2 * 16),
            ({"ENGINE_DATABASE": "own", "SLOT_CONNECTIONS": 4}, 3 + 2 * 4),
            ({"ENGINE_DATABASE": "default"}, 3 + 3 * 16),
        ],
    )
    def test_the_ceiling_counts_what_jobs_may_borrow(
        self, settings: Settings, durable: dict[str, Any], ceiling: int
    ) -> None:
        settings.DURABLE = durable

        assert sessions.count_connections("default", 16) == ceiling


@pytest.mark.django_db
class LimitTests:
    def limits(self, session: Any) -> list[str]:
        names = ("statement_timeout", "idle_in_transaction_session_timeout")
        return [session.execute(f"show {name}").fetchone()[0] for name in names]

    def test_the_server_ends_what_the_engine_leaves_lying(self, settings: Settings) -> None:
        wrapper = sessions.own_wrapper("default")
        wrapper.ensure_connection()
        with sessions.connect("default") as session:
            assert self.limits(session) == self.limits(wrapper.connection) == ["1min", "15s"]
        wrapper.close()

    def test_as_the_settings_say(self, settings: Settings) -> None:
        settings.DURABLE = {
            "STATEMENT_TIMEOUT": timedelta(seconds=5),
            "IDLE_TRANSACTION_TIMEOUT": None,
        }
        with sessions.connect("default") as session:
            assert self.limits(session) == ["5s", "0"]


@pytest.fixture
def roles(transactional_db: None) -> Iterator[None]:
    execute(
        connection, "create role durable_a; create role durable_b; grant durable_a to durable_b", {}
    )
    yield
    execute(connection, "reset role; drop role durable_a, durable_b", {})


def test_a_role_may_end_the_sessions_of_those_it_is_a_member_of(roles: None) -> None:
    def protected() -> list[str]:
        return liveness.find_protected_roles(connection, ["durable_a", "durable_b", "postgres"])

    assert protected() == []
    execute(connection, "set role durable_b", {})
    assert protected() == ["postgres"]
    execute(connection, "set role durable_a", {})
    assert protected() == ["durable_b", "postgres"]
    execute(connection, "reset role; grant pg_signal_backend to durable_a; set role durable_a", {})
    assert protected() == ["postgres"]


class StrayTests:
    """Aliases that are said to lead to the jobs."""

    @pytest.fixture(autouse=True)
    def _another_way(
        self, transactional_db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[None]:
        other = dict(connections.settings["default"])
        monkeypatch.setitem(connections.settings, "other", other)
        settings.DURABLE = {"ENGINE_DATABASE": "other"}
        self.other = other
        yield
        connections["other"].close()
        del connections["other"]  # or who uses that alias later comes where this one led

    def test_one_that_leads_to_the_same_database_is_none(self) -> None:
        assert sessions.find_strays("default") == []

    def test_one_that_leads_to_another_database_is_named(self) -> None:
        self.other["NAME"] = "postgres"

        assert sessions.find_strays("default") == ["other"]

    def test_the_system_check_says_so(self) -> None:
        self.other["NAME"] = "postgres"

        (found,) = check_database(databases=["default"])

        assert found.id == "durable.E007"
        assert "Not the database of 'default', which holds the jobs: 'other'." in found.msg

    def test_one_that_does_not_answer_is_an_error_of_the_check(self) -> None:
        self.other["NAME"] = "nowhere"

        (found,) = check_database(databases=["default"])

        assert found.id == "durable.E007"
        assert "nowhere" in found.msg

    def test_one_that_is_not_postgresql_is_named(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lite = {**self.other, "ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
        monkeypatch.setitem(connections.settings, "lite", lite)
        settings.DURABLE = {"ENGINE_DATABASE": "lite"}

        with pytest.raises(NotReadyError, match="database 'lite' is SQLite, not PostgreSQL"):
            boot.check_vendors("default")
        del connections["lite"]

    def test_no_worker_starts(self) -> None:
        self.other["NAME"] = "postgres"

        with pytest.raises(NotReadyError, match="other ways to the same database"):
            boot.check_aliases("default")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_goes_away_in_the_middle_of_the_boot_is_waited_for() -> None:
    tries = []

    def part() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return len(tries)

    assert boot.through_outages("default", part, lambda seconds: False) == 2


@pytest.mark.django_db(transaction=True)
def test_what_is_no_outage_ends_the_boot() -> None:
    def part() -> None:
        raise psycopg.errors.UndefinedTable("no such table")

    with pytest.raises(psycopg.errors.UndefinedTable):
        boot.through_outages("default", part, lambda seconds: False)


class WritersPlansTests:
    """What is written many at a time goes by key, however small the table seems."""

    def finish(self, session: Any, job: Job) -> None:
        success = Outcome(job_id=job.pk, lease_token=1, state=JobState.SUCCESSFUL)
        finish_jobs(session, [replace(success, return_value="null")])

    def test_from_the_first_batch_on(self, transactional_db: None) -> None:
        job = quick.enqueue("a")
        with sessions.connect("default") as session:
            for _ in range(4):
                self.finish(session, job)
            rows = session.execute(
                "select generic_plans, custom_plans from pg_prepared_statements"
                " where statement like '%unnest%'"
            ).fetchall()
            (mode,) = session.execute("show plan_cache_mode").fetchone() or ("",)

        assert [custom for _, custom in rows] == [0] * len(rows)
        assert rows
        assert mode == "force_generic_plan"  # the first one is not prepared yet

    def test_what_is_held_up_leaves_no_statement_behind_each_time(
        self, transactional_db: None
    ) -> None:
        """The server would keep each until its memory is gone."""
        job = quick.enqueue("a")
        Job.objects.filter(pk=job.pk).update(
            state="RUNNING", lease_token=1, worker_id=1, claimed_at="2030-01-01T00:00Z"
        )
        with sessions.connect("default") as session, second_session() as other:
            other.execute("begin")
            other.execute("select 1 from durable_job for update")
            for _ in range(4):
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    self.finish(session, job)
            (count,) = session.execute(
                "select count(*) from pg_prepared_statements"
            ).fetchone() or (9,)

        assert count == 0
