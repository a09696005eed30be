"""``durable doctor``."""

import json
from datetime import timedelta
from io import StringIO
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import TestCase, override_settings

from django_durable import once, pause_schedule, task
from django_durable.engine.boot import code_version
from django_durable.engine.clock import StatementTimestamp
from django_durable.management.operations import server
from django_durable.models import Job
from tests.builders import HOUR, ended_job, expired_key, rewritten_job
from tests.management.console import (
    LONG,
    claimed,
    copies,
    declared_task,
    live_worker,
    lost_worker,
    moved,
    refused,
    run_by,
    silent_worker,
    typed,
)
from tests.scheduled import database_now, due_since, fire, new_schedule, rewrite
from tests.sessions import second_session, wait_until

NOBODY_ELSE = """
    select not exists (
        select from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
    )
"""
Found = dict[str, list[tuple[str, str, str | None]]]


def examined() -> Found:
    """What the doctor finds, by code: level, words, cure."""
    out, code = StringIO(), 0
    try:
        call_command("durable", "doctor", "--json", stdout=out, stderr=StringIO())
    except CommandError as error:
        code = error.returncode
    answer = json.loads(out.getvalue())
    found: Found = {}
    for finding in answer["findings"]:
        told = (finding["level"], finding["says"], finding["cure"])
        found.setdefault(finding["code"], []).append(told)
    is_wrong = any(finding["level"] == "FAIL" for finding in answer["findings"])
    assert (code, answer["is_healthy"]) == (int(is_wrong), not is_wrong)
    return found


def level(code: str) -> str:
    ((found, _, _),) = examined()[code]
    return found


def words(code: str) -> str:
    ((_, says, cure),) = examined()[code]
    return f"{says} // {cure}"


def execute(statement: str, *params: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


class HealthTests(TestCase):
    def setUp(self) -> None:  # rows that other tests rolled back are dead, too
        self.enterContext(mock.patch.object(server, "MANY_DEAD_ROWS", 10**9))

    def test_a_healthy_project_has_nothing_but_ok(self) -> None:
        claimed(declared_task().enqueue(), live_worker())

        found = examined()
        text = typed("doctor")

        assert {level for findings in found.values() for level, _, _ in findings} == {"OK"}
        assert text.startswith("OK    settings ")
        assert text.endswith(f"{len(found)} OK, 0 WARN, 0 FAIL\n")

    def test_something_wrong_is_told_with_its_cure_and_ends_in_failure(self) -> None:
        declared_task().enqueue()
        out = StringIO()

        with pytest.raises(CommandError, match=r"^1 thing wrong\.$") as caught:
            call_command("durable", "doctor", stdout=out, stderr=StringIO())

        assert caught.value.returncode == 1
        lines = out.getvalue().splitlines()
        (wrong,) = [number for number, line in enumerate(lines) if line.startswith("FAIL  ")]
        assert "Cure: manage.py durable_worker" in lines[wrong + 1]

    def test_a_warning_is_no_failure(self) -> None:
        lost_worker()

        assert "WARN  lost-workers" in typed("doctor")


class JobTests(TestCase):
    def test_a_running_job_of_a_lost_worker_that_nobody_recovers(self) -> None:
        for worker in (lost_worker(), silent_worker(), 77):
            run_by(declared_task().enqueue(), worker)

        assert words("running").startswith("3 running jobs held by a worker that is lost, silent")
        assert level("running") == "FAIL"

    def test_a_running_job_of_a_lost_worker_that_will_be_recovered(self) -> None:
        run_by(declared_task().enqueue(), lost_worker())
        live_worker()

        assert level("running") == "WARN"

    def test_a_due_job_that_nobody_promotes(self) -> None:
        called = declared_task()
        moved(called.using(delay=HOUR).enqueue(), "due_at", by=-HOUR)
        assert level("overdue") == "OK"

        moved(called.using(delay=HOUR).enqueue(), "due_at", by=-HOUR - timedelta(seconds=61))

        assert level("overdue") == "FAIL"
        assert words("overdue").startswith("1 job became due over a minute ago")

    def test_a_schedule_whose_tick_nobody_decides_on(self) -> None:
        for name in ("tea", "coffee", "at rest", "of old code"):
            new_schedule(name)
            due_since(name, LONG)
        due_since("coffee", timedelta(0))
        pause_schedule("at rest")
        rewrite("of old code", retired_at=database_now())

        assert level("schedules") == "FAIL"
        said = "1 schedule whose tick nobody has decided on: tea, due 5 h ago (stories.quick)"
        assert said in words("schedules")
        rewrite("tea", problem="ValueError: no tea")
        assert "(ValueError: no tea)" in words("schedules")

        fire()
        assert level("schedules") == "OK"

    def test_ready_jobs_that_no_live_worker_claims(self) -> None:
        moved(declared_task().using(queue_name="orders").enqueue(), "due_at", by=-LONG)
        live_worker("default")

        assert level("unserved-queue") == "FAIL"
        assert "from orders (1 ready job, the oldest due 5 h ago)" in words("unserved-queue")

    def test_blocked_jobs_and_suspects(self) -> None:
        live_worker()
        rewritten_job(declared_task().enqueue(), lost_count=3)
        rewritten_job(declared_task().enqueue(), state="WAITING", wait_kind="blocked")

        assert [level(code) for code in ("blocked", "suspects")] == ["WARN", "WARN"]

    def test_poison_of_the_last_day(self) -> None:
        called = declared_task()
        job = rewritten_job(called.enqueue(), lost_count=5)
        ended_job(called)

        assert words("poison").startswith("1 job FAILED as poison within a day")
        moved(job, "finished_at", by=-25 * HOUR)
        assert "poison" not in examined()


class TaskTests(TestCase):
    def setUp(self) -> None:
        rewritten_job(declared_task("doctor.task").enqueue(), task_path="doctor.gone")

    def test_a_task_that_nobody_knows(self) -> None:
        live_worker(code_version=code_version())

        assert level("tasks") == "FAIL"
        assert "does not know: doctor.gone." in words("tasks")

    def test_a_task_that_a_worker_of_other_code_may_know(self) -> None:
        live_worker(code_version="0ther")

        assert level("tasks") == "WARN"
        assert "Workers of other code (0ther) may know them." in words("tasks")


class WorkerTests(TestCase):
    def test_workers_lost_within_a_day(self) -> None:
        lost = lost_worker()
        live_worker(lost_at=StatementTimestamp() - timedelta(days=2))

        assert words("lost-workers").startswith("1 worker lost within a day")
        assert f"web1:4711 (worker {lost}) 5 h ago" in words("lost-workers")

    def test_silent_workers(self) -> None:
        silent_worker()

        assert level("silent-workers") == "WARN"


class RetentionTests(TestCase):
    def test_jobs_that_should_have_been_pruned(self) -> None:
        job = ended_job(declared_task())
        moved(job, "finished_at", by=-timedelta(days=7, minutes=30))
        assert level("retention") == "OK"

        moved(job, "finished_at", by=-HOUR)

        assert level("retention") == "WARN"
        assert "1 SUCCESSFUL" in words("retention")

    def test_expired_keys_are_counted(self) -> None:
        once("k", _other)
        expired_key("k")

        assert "1 expired key of once() to prune." in words("retention")


class ConstraintTests(TestCase):
    def test_a_constraint_that_was_dropped_and_a_row_that_breaks_it(self) -> None:
        execute("alter table durable_job drop constraint job_finished_has_finished_at")
        rewritten_job(declared_task().enqueue(), state="FAILED")
        copies(Job.objects.get(), 1)
        declared_task().enqueue()

        assert level("constraints") == "FAIL"
        assert words("constraints").startswith(
            "CheckConstraint job_finished_has_finished_at of durable_job is missing. "
            "2 rows break it."
        )

    def test_a_constraint_that_holds_for_new_rows_only(self) -> None:
        execute("alter table durable_job drop constraint job_priority_in_range")
        execute(
            "alter table durable_job add constraint job_priority_in_range"
            " check (priority between -100 and 100) not valid"
        )

        assert "job_priority_in_range of durable_job is there but not valid" in words("constraints")

    def test_an_index_that_was_dropped(self) -> None:
        execute("drop index job_claim")

        assert "Index job_claim of durable_job is missing." in words("constraints")


class ServerTests(TestCase):
    @override_settings(DURABLE={"LEASE": timedelta(minutes=10)})
    def test_settings_that_lose_commits_or_cut_sessions_off(self) -> None:
        execute("set local synchronous_commit = off")
        execute("set local idle_in_transaction_session_timeout = '5min'")
        execute("set local default_transaction_isolation = 'serializable'")

        found = examined()

        assert found["synchronous_commit"][0][1].startswith("synchronous_commit is off: ")
        assert (
            "is 5 min, shorter than a lease (10 min)"
            in (found["idle_in_transaction_session_timeout"][0][1])
        )
        assert found["default_transaction_isolation"][0][0] == "WARN"
        assert "server-settings" not in found

    def test_a_setting_that_loses_the_database(self) -> None:
        real = server.read_settings()

        with mock.patch.object(server, "read_settings", return_value=real | {"fsync": "off"}):
            assert level("fsync") == "FAIL"
            assert "set fsync = on" in words("fsync")

    def test_more_connections_than_the_server_allows(self) -> None:
        live_worker(slots=500)

        assert level("connections") == "WARN"
        assert "1 live worker may use 503 of 197 connections" in words("connections")

    def test_autovacuum_switched_off_for_a_table(self) -> None:
        execute("alter table durable_job set (autovacuum_enabled = false)")

        assert level("autovacuum") == "FAIL"
        assert "alter table durable_job reset (autovacuum_enabled)" in words("autovacuum")

    def test_many_dead_rows(self) -> None:
        tables = [("durable_job", 10, 50_000, None, False)]

        with mock.patch.object(server, "fetch_all", return_value=tables):
            (found,) = server.tables_are_vacuumed()

        assert "50000 dead rows beside 10 live ones, vacuumed never" in found.says

    def test_dead_rows_are_many_by_the_live_ones_and_by_how_long_no_vacuum_came(self) -> None:
        def said(live: int, dead: int, *, minutes: int) -> str:
            vacuumed_at = server.database_now() - timedelta(minutes=minutes)
            tables = [("durable_job", live, dead, vacuumed_at, False)]
            with mock.patch.object(server, "fetch_all", return_value=tables):
                (found,) = server.tables_are_vacuumed()
            return found.code

        assert said(1_000_000, 250_000, minutes=20) == "dead-rows"
        assert said(1_000_000, 250_000, minutes=5) == "autovacuum"
        assert said(1_000_000, 150_000, minutes=20) == "autovacuum"

    def test_what_else_keeps_dead_rows(self) -> None:
        assert list(server.nothing_holds_vacuum_up()) == []
        held = [("replication slot", "doctor", 6_000_000)]

        with mock.patch.object(server, "fetch_all", return_value=held):
            (found,) = server.nothing_holds_vacuum_up()

        assert (found.code, found.level) == ("vacuum-horizon", "WARN")
        assert "A replication slot (doctor) needs what 6000000 transactions" in found.says

    def test_a_clock_that_is_wrong(self) -> None:
        now, skew = server.database_now(), timedelta(minutes=5)

        with mock.patch.object(server, "database_now", return_value=now + skew):
            (behind,) = server.clocks_agree()
        with mock.patch.object(server, "database_now", return_value=now - skew):
            (ahead,) = server.clocks_agree()

        assert "clock is 5 min behind" in behind.says
        assert "clock is 5 min ahead" in ahead.says
        assert behind.level == ahead.level == "WARN"

    def test_a_standby_strange_roles_old_transactions_and_full_notifications(self) -> None:
        real = server.read_server()
        found = server.Server(
            is_standby=True,
            sessions=real.sessions,
            worker_roles=["durable", real.role],
            role=real.role,
            notification_queue=0.7,
            oldest_pid=4711,
            oldest_begin=server.database_now() - 2 * HOUR,
        )

        with (
            mock.patch.object(server, "read_server", return_value=found),
            mock.patch.object(server, "find_protected_roles", return_value=["durable"]),
        ):
            said = {finding.code: finding for finding in server.sessions_are_in_order()}

        assert set(said) == {"standby", "roles", "old-transaction", "notification-queue"}
        assert said["standby"].level == "FAIL"
        assert "which may not end sessions of durable:" in said["roles"].says
        assert "pg_terminate_backend(4711)" in str(said["old-transaction"].cure)
        assert "70% full" in said["notification-queue"].says


class SessionTests:
    def test_the_oldest_transaction_of_this_database_is_found(self, transactional_db: None) -> None:
        wait_until(NOBODY_ELSE)  # sessions that other tests closed or killed end by and by
        with second_session() as session, session.transaction():
            session.execute("set local application_name = 'durable:7'")
            found = server.read_server()

            assert found.oldest_pid == session.info.backend_pid
            assert found.worker_roles == [found.role]
        assert server.read_server().oldest_begin is None


class SettingsTests(TestCase):
    @override_settings(DURABLE={"LEESE": 5})
    def test_settings_that_nothing_can_be_done_with(self) -> None:
        found = examined()

        assert list(found) == ["settings"]
        assert "Did you mean LEASE?" in words("settings")

    def test_two_tasks_of_one_path(self) -> None:
        declared_task("doctor.twice")
        task(path="doctor.twice")(_other)

        assert level("durable.E003") == "FAIL"

    @override_settings(USE_TZ=False)
    def test_other_system_checks_of_the_app(self) -> None:
        assert level("durable.E005") == "FAIL"


class DatabaseTests(TestCase):
    def test_an_old_server(self) -> None:
        with mock.patch.object(connection, "get_database_version", return_value=(14, 2)):
            assert list(examined()) == ["settings", "database"]
            assert "needs PostgreSQL 15 or newer" in words("database")

    def test_a_migration_that_is_not_applied(self) -> None:
        execute("delete from django_migrations where app = 'durable'")

        found = examined()

        assert list(found) == ["settings", "database", "migrations"]
        assert found["migrations"][0][2] == "manage.py migrate"
        assert "lacks migrations (0001_initial" in refused("status")


def _other() -> None:
    pass
