"""A worker's loop: what it knows of its jobs when a statement fails, and when a burst is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections

from django_durable.engine import liveness, membership, outcomes
from django_durable.engine import worker as module
from django_durable.engine.backlog import FEWEST
from django_durable.engine.clock import machine_seconds
from django_durable.engine.executor import outcome_of
from django_durable.engine.listener import Lease, Listener
from django_durable.engine.sessions import SlotSessions
from django_durable.engine.states import JobState
from django_durable.engine.worker import Worker
from django_durable.models import Job
from tests.engine.test_claimed_ahead import work
from tests.protocol.stories_claims import worker_process
from tests.protocol.world import new_worker
from tests.sessions import second_session

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def process() -> Iterator[Worker]:
    """A worker whose slots are never started."""
    nobody: Any = None
    made = worker_process(new_worker(), nobody)
    made._slot_sessions = SlotSessions(is_pooled=False, role="", may_be_ended=True)
    yield made
    connections["default"].close()


def state_of(job: Job) -> str:
    return Job.objects.get(pk=job.pk).state


class HandingBackTests:
    def test_jobs_that_the_database_did_not_take_back_are_found_by_reconciling(
        self, process: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = work.enqueue(1)
        process._claim()
        with monkeypatch.context() as outage:
            outage.setattr(module, "finish_jobs", refuse)
            with pytest.raises(OperationalError):
                process._look_at_claimed_ahead(machine_seconds())
        assert state_of(job) == "RUNNING"

        assert process._must_reconcile
        process._reconcile()

        assert state_of(job) == "READY", "it runs for ever under a worker that lives"
        assert process.slots.known_runs == []

    def test_what_waited_too_long_is_left_to_others(self, process: Worker) -> None:
        for _ in range(2 * FEWEST):
            process.slots.pace.note(work.path, 0.001)
        occupy_slot(process)
        job = work.enqueue(1)
        process._claim()
        assert state_of(job) == "RUNNING", "nothing was claimed for a slot that is soon free"

        process._look_at_claimed_ahead(machine_seconds())
        process._claim()

        assert state_of(job) == "READY", "the worker took again what it had handed back"

    def test_what_has_ended_when_time_is_up_is_written_first(
        self, process: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        process.options = membership.WorkerOptions(queues=["default"], grace=timedelta(0))
        job = work.enqueue(1)
        process._claim()
        run = process.slots._backlog.get()  # it has ended, and its outcome was taken
        success = outcome_of(run, JobState.SUCCESSFUL, return_value="null")

        def write_meanwhile(*_: Any) -> None:
            outcomes.finish_jobs(connections["default"], [success])
            process.slots.forget([run])

        monkeypatch.setattr(type(process.bell), "wait", write_meanwhile)

        assert process._end() == 0
        assert state_of(job) == "SUCCESSFUL", "it has ended, and will run again"


def occupy_slot(process: Worker) -> None:
    """A job is in the slot."""
    work.enqueue(0)
    process._claim()
    process.slots._runs[process.slots._backlog.get()] = machine_seconds()


class OutageTests:
    def test_no_run_waits_for_a_loop_that_cannot_look(self, process: Worker) -> None:
        """However quick its like were."""
        backlog = process.slots._backlog
        backlog.threads, backlog.at_work = process.slots.count, 0

        process._survive(OperationalError("the database is away"))

        assert backlog.at_work == process.slots.count


def refuse(*_: Any) -> Any:
    raise OperationalError("the database is away")


class NotingTests:
    def test_a_job_whose_row_is_held_is_noted_later(self, process: Worker) -> None:
        job = work.enqueue(1)
        jobs = module.claims.claim_jobs(
            process.member.claimer.claimant, ["default"], limit=0, ahead=1
        ).jobs
        run = process._make_run(jobs[0], [])
        process.slots._runs[run] = machine_seconds()

        with second_session() as other:
            other.execute("begin")
            other.execute("select 1 from durable_job for share")
            process._look_at_claimed_ahead(machine_seconds())
            other.execute("rollback")
        assert Job.objects.get(pk=job.pk).claimed_ahead
        process._look_at_claimed_ahead(machine_seconds())

        assert not Job.objects.get(pk=job.pk).claimed_ahead, "it was not noted that it has begun"


class BurstTests:
    def test_a_job_that_ends_after_the_look_may_have_enqueued_another(
        self, process: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        process.options = membership.WorkerOptions(queues=["default"], slots=1, burst=True)
        work.enqueue(1)
        process._claim()
        assert process.slots.known_runs
        look = process.member.claimer.claim

        def look_before_it_ends() -> list[Job]:
            process.slots._backlog = type(process.slots._backlog)()
            found = look()
            work.enqueue(2)
            process.slots.forget(process.slots.known_runs)
            return found

        monkeypatch.setattr(type(process.member.claimer), "claim", lambda _: look_before_it_ends())
        process._tick()

        assert not process._is_over(), "the burst is over, though a job is ready"

    def test_a_claim_that_could_not_look_found_nothing_out(self, process: Worker) -> None:
        claimer = process.member.claimer
        occupy_slot(process)
        claimer.found_nothing = True  # a look ahead of a free slot
        work.enqueue(1)

        assert claimer.claim() == []

        assert not claimer.found_nothing

    def test_a_suspect_that_another_worker_took_leaves_the_others(self, process: Worker) -> None:
        job, claimer = work.enqueue(1), process.member.claimer
        claimer._emptying_until = machine_seconds() + 10

        assert [one.pk for one in claimer.claim()] == [job.pk]
        assert not claimer.found_nothing


def test_a_listener_that_was_stopped_does_not_tell_that_its_worker_is_lost(
    monkeypatch: pytest.MonkeyPatch, process: Worker
) -> None:
    told: list[str] = []
    hooks = module.Hooks(
        woken=lambda _: None, cancelled=lambda _: None, lost=lambda: told.append("")
    )
    nobody: Any = None
    listener = Listener(
        worker_id=1, lease=Lease(timedelta(1)), alias="default", writer=nobody, hooks=hooks
    )

    def answer(*_: Any, **__: Any) -> liveness.Beat:
        listener.stop()  # the worker's loop found out itself, and registers anew
        return liveness.Beat(alive=False, cancelled=[])

    monkeypatch.setattr(liveness, "heartbeat", answer)
    listener._run()

    assert told == []
