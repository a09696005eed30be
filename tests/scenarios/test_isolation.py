"""The engine's sessions go by an alias and a role of their own; atomic steps by the business's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, transaction

from django_durable import enqueue, enqueue_many
from django_durable.engine.sql import execute, fetch_all
from tests.scenarios.harness import Gates, Process, Workers, eventually, job_is
from tests.sessions import end_other_sessions
from tests.testapp import durable_stories as stories
from tests.testapp.models import Account, Charge

APP, ENGINE = "durable_test_app", "durable_test_engine"
ISOLATED = {"DJANGO_SETTINGS_MODULE": "tests.isolated_settings"}
LEASE = ("--lease", "2")

MAKE_ROLES = f"""
    create role {APP} login;
    create role {ENGINE} login;
    grant select, insert, update, delete on all tables in schema public to {APP};
    grant usage on all sequences in schema public to {APP};
"""
GRANT_TO_ENGINE = f"""
    do $$
    declare name text;
    begin
        for name in
            select tablename from pg_tables
            where starts_with(tablename, 'durable_') or tablename = 'django_migrations'
        loop
            execute format('grant select, insert, update, delete on %%I to {ENGINE}', name);
        end loop;
        for name in
            select sequencename from pg_sequences where starts_with(sequencename, 'durable_')
        loop
            execute format('grant usage on sequence %%I to {ENGINE}', name);
        end loop;
    end
    $$
"""
DROP_ROLES = f"drop owned by {APP}, {ENGINE}; drop role {APP}, {ENGINE}"
SESSIONS = """
    select usename::text, count(*) from pg_stat_activity
    where application_name = %(name)s group by 1
"""


@pytest.fixture
def roles(transactional_db: None) -> Iterator[None]:
    """Two roles: one for jobs, and one for the engine, which may write no table of the business."""
    execute(connection, MAKE_ROLES, {})
    execute(connection, GRANT_TO_ENGINE, {})
    yield
    execute(connection, DROP_ROLES, {})


@pytest.fixture
def isolated(roles: None, workers: Workers) -> Iterator[Workers]:
    yield workers
    workers.end()
    end_other_sessions()


def sessions_by_role(worker: Process) -> dict[str, int]:
    assert worker.row is not None
    return dict(fetch_all(connection, SESSIONS, {"name": f"durable:{worker.row.pk}"}))


def test_steps_are_kept_by_the_engine_and_atomic_ones_by_the_business(
    isolated: Workers, gates: Gates
) -> None:
    execute(connection, f"grant pg_signal_backend to {ENGINE}", {})
    worker = isolated.start("--slots", "3", **ISOLATED).has_lock()
    inside = enqueue(stories.inside_atomic, "a")
    gates.open("begun-a")
    gates.reached("written-a")
    during = sessions_by_role(worker)
    gates.open("written-a")
    gates.open("after-a")
    plain = enqueue(stories.steps_in_a_row, "b", 5)

    job_is(inside, "SUCCESSFUL")
    job_is(plain, "SUCCESSFUL")
    assert during == {ENGINE: 2, APP: 1}  # nothing was to be written durably so far
    assert sessions_by_role(worker)[ENGINE] == 3
    assert "at most 5 connections" in worker.output
    assert "permission denied" not in worker.output
    assert "may not end sessions" not in worker.output


def test_more_slots_than_connections_take_turns(isolated: Workers) -> None:
    worker = isolated.start("--slots", "8", **ISOLATED).has_lock()
    # at once: a pool that was idle between would have opened new ones beside those it has closed
    jobs = enqueue_many([stories.steps_in_a_row.bind(f"r{n}", 10) for n in range(16)])

    seen = [sessions_by_role(worker).get(APP, 0)]
    for job in jobs:
        seen.append(sessions_by_role(worker).get(APP, 0))
        job_is(job, "SUCCESSFUL")

    assert max(seen) <= 2
    assert Charge.objects.count() == 160


@pytest.mark.parametrize("grant", [f"grant {APP} to {ENGINE}", "select"])
def test_the_rows_of_a_frozen_worker_are_freed_whether_its_sessions_may_be_ended_or_not(
    isolated: Workers, gates: Gates, grant: str
) -> None:
    execute(connection, grant, {})
    Account.objects.create(name="x", balance=10)
    job = enqueue(stories.debit_account, "x")
    frozen = isolated.start(*LEASE, **ISOLATED).has_lock()
    gates.reached("debited-x")
    frozen.freeze()
    other = isolated.start(**ISOLATED).has_lock()
    gates.open("debited-x")

    eventually(lambda: "is declared lost" in other.output, "it is declared lost")
    with transaction.atomic():
        execute(connection, "set local lock_timeout = '60s'", {})
        Account.objects.select_for_update().get(name="x")
    job_is(job, "SUCCESSFUL")
    frozen.thaw()

    assert Account.objects.get(name="x").balance == 9
    said = "may not end sessions of role durable_test_app" in other.output
    assert said is (grant == "select")
