"""Progress and values beside open transactions: seen at once, and nobody waits for himself."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from django_durable import current_job, set_progress, set_value, step, task
from django_durable.engine import reporting
from django_durable.models import Job
from tests.protocol.stage import PATIENCE, Stage
from tests.protocol.world import claimed_job, new_worker, perform, state_of
from tests.sessions import second_session

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "SHORTEST_INTERVAL", 0.0)


def done_outside() -> int | None:
    """What another session sees."""
    with second_session() as session:
        row = session.execute("select done from durable_progress").fetchone()
    return row and int(row[0])


def values_outside() -> list[Any]:
    with second_session() as session:
        return session.execute("select key, value from durable_jobvalue order by key").fetchall()


def run_by_a_worker(stage: Stage) -> Job:
    """The job of the task that a test declared, run with the writer of a worker."""
    job = claimed_job(new_worker(), "protocol.telling")
    stage.actor("slot").do(perform, job, stage.writer())
    return job


def own_row() -> None:
    """Lock the row of the job in which this is called, as waking a waiter of its own would."""
    job = current_job()
    assert job is not None
    Job.objects.select_for_update(no_key=True).get(pk=job.pk)


def test_progress_is_seen_while_an_atomic_step_is_open_and_values_are_not(stage: Stage) -> None:
    seen: list[Any] = []

    @step(atomic=True)
    def load() -> None:
        set_progress(1, 3)
        set_value("phase", "loading")
        seen.append((done_outside(), values_outside()))
        set_progress(2, 3)
        seen.append((done_outside(), values_outside()))

    @task(path="protocol.telling")
    def telling() -> None:
        load()

    job = run_by_a_worker(stage)

    assert seen == [(1, []), (2, [])]
    assert state_of(job) == "SUCCESSFUL"
    assert values_outside() == [("phase", "loading")]


def test_progress_stays_if_the_atomic_step_is_rolled_back(stage: Stage) -> None:
    @step(atomic=True)
    def load() -> None:
        set_progress(1, 3)
        set_value("phase", "loading")
        raise LookupError

    @task(path="protocol.telling")
    def telling() -> None:
        load()

    assert state_of(run_by_a_worker(stage)) == "FAILED"
    assert (done_outside(), values_outside()) == (1, [])


@pytest.mark.parametrize("kind", ["step", "task"])
def test_a_value_in_an_atomic_body_does_not_hold_up_who_wants_the_job(
    stage: Stage, kind: str
) -> None:
    """The body may be long; its commit is fenced by its last statement."""

    def body() -> None:
        set_value("phase", "loading")
        job = current_job()
        assert job is not None
        with second_session() as session:  # raises if it had to wait
            session.execute(
                "select 1 from durable_job where id = %s for no key update nowait", [job.pk]
            )

    load = step(atomic=True)(body)
    task(path="protocol.telling", atomic=kind == "task")(body if kind == "task" else lambda: load())

    assert state_of(run_by_a_worker(stage)) == "SUCCESSFUL"
    assert values_outside() == [("phase", "loading")]


def test_a_transaction_that_holds_the_jobs_own_row_is_not_waited_for(stage: Stage) -> None:
    seen: list[Any] = []

    @task(path="protocol.telling")
    def telling() -> None:
        set_progress(1, 5)
        with transaction.atomic():
            own_row()
            set_progress(2, 5)
            set_value("phase", "two")
            seen.append(done_outside())
        seen.append((done_outside(), values_outside()))
        set_progress(3, 5)
        seen.append(done_outside())
        with transaction.atomic():
            own_row()
            set_progress(4, 5)

    job = run_by_a_worker(stage)

    assert seen == [1, (1, [("phase", "two")]), 3]
    assert state_of(job) == "SUCCESSFUL"
    assert done_outside() == 4


def test_what_others_hold_is_waited_for_by_values_and_skipped_by_progress(stage: Stage) -> None:
    reached = stage.gate()

    @task(path="protocol.telling")
    def telling() -> None:
        set_progress(1, 5)
        reached.set()
        set_value("phase", "one")

    job = claimed_job(new_worker(), "protocol.telling")
    operator, slot = stage.actors("operator", "slot")
    operator.begin()
    operator.do(Job.objects.select_for_update(no_key=True).get, pk=job.pk)
    running = slot.start(perform, job, stage.writer())

    assert reached.wait(PATIENCE)
    assert done_outside() is None
    assert not running.done()
    operator.commit()
    running.result(PATIENCE)
    assert (done_outside(), values_outside()) == (1, [("phase", "one")])
