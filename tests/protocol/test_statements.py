"""What single statements promise: whom they wait for, what they leave alone, what a repeat does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from django_durable.engine import claims, liveness
from django_durable.engine.outcomes import Changed
from django_durable.engine.states import JobState
from django_durable.models import Checkpoint, Job, Worker
from tests.protocol.stage import PATIENCE, Stage
from tests.protocol.stories_claims import declare_whatever_it_did, lock_row
from tests.protocol.stories_leases import WRITES, accepted
from tests.protocol.stories_losses import beat
from tests.protocol.world import (
    AT_ONCE,
    cancel,
    claim,
    claimed_job,
    claimed_jobs,
    enqueue_child,
    finish,
    finish_all,
    lose,
    new_job,
    new_worker,
    retry,
    save,
    save_all,
    start_over,
    state_of,
    suspend,
    sweep,
    taken_over,
)

pytestmark = pytest.mark.django_db(transaction=True)


class BatchTests:
    def test_an_outcome_under_a_foreign_token_is_dropped_and_its_neighbours_count(self) -> None:
        jobs = claimed_jobs(new_worker(), 3)
        jobs[1].lease_token += 1

        written = finish_all(jobs)

        assert [one and one.state for one in written] == ["SUCCESSFUL", None, "SUCCESSFUL"]
        assert [state_of(job) for job in jobs] == ["SUCCESSFUL", "RUNNING", "SUCCESSFUL"]

    def test_a_checkpoint_under_a_foreign_token_is_dropped_and_its_neighbours_count(self) -> None:
        jobs = claimed_jobs(new_worker(), 3)
        jobs[1].lease_token += 1

        saved = save_all(jobs)

        assert [one.held for one in saved] == [True, False, True]
        assert set(Checkpoint.objects.values_list("job_id", flat=True)) == {
            jobs[0].pk,
            jobs[2].pk,
        }

    @pytest.mark.parametrize("write_all", [finish_all, save_all])
    def test_answers_come_in_the_order_of_the_batch(
        self, write_all: Callable[[list[Job]], list[Any]]
    ) -> None:
        jobs = claimed_jobs(new_worker(), 3)[::-1]
        lose_row(jobs[2])

        assert [accepted(answer) for answer in write_all(jobs)] == [True, True, False]


class RepeatTests:
    @pytest.mark.parametrize("write", [finish, suspend, start_over, enqueue_child])
    def test_a_repeated_write_says_that_it_did_nothing(self, write: Callable[[Job], Any]) -> None:
        job = claimed_job(new_worker())

        assert [accepted(write(job)), accepted(write(job))] == [True, False]
        assert Job.objects.count() == (2 if write is enqueue_child else 1)

    def test_a_repeated_checkpoint_is_held_and_stays_as_it_was(self) -> None:
        job = claimed_job(new_worker())
        save(job, value='"first"')

        again = save(job, value='"second"')

        assert (again.held, again.saved) == (True, False)
        assert Checkpoint.objects.get().value == '"first"'

    @pytest.mark.parametrize("state", ["STARTED", "RETRYING"])
    def test_a_step_that_has_not_ended_can_end(self, state: str) -> None:
        job = claimed_job(new_worker())
        save(job, state=state, value=None)

        assert save(job, value='"end"').saved
        assert Checkpoint.objects.get().value == '"end"'


class VanishedRowTests:
    @pytest.mark.parametrize("what", WRITES)
    def test_a_vanished_job_counts_as_a_lost_lease(self, what: str) -> None:
        job = claimed_job(new_worker())
        lose_row(job)

        assert not accepted(WRITES[what][0](job))
        assert Job.objects.count() == Checkpoint.objects.count() == 0


class WaitingTests:
    def test_a_checkpoint_waits_for_a_cancel_in_flight_and_brings_it_back(
        self, stage: Stage
    ) -> None:
        job = claimed_job(new_worker())
        worker, operator = stage.actors("worker", "operator")
        operator.begin()
        operator.do(cancel, job)
        saving = worker.start(save, job)
        assert worker.is_stopped_in(saving)
        operator.commit()

        saved = saving.result(PATIENCE)
        assert (saved.held, saved.saved, saved.cancelled) == (True, True, True)

    def test_checkpoints_of_one_job_do_not_wait_for_each_other(self, stage: Stage) -> None:
        job = claimed_job(new_worker())
        atomic, plain = stage.actors("atomic step", "plain step")
        atomic.begin()
        atomic.do(save, job, "a")
        saving = plain.start(save, job, "b")

        assert not plain.is_stopped_in(saving)

    def test_a_heartbeat_does_not_wait_for_a_claim_in_flight(self, stage: Stage) -> None:
        new_job()
        worker_id = new_worker()
        claiming, listener = stage.actors("claim in flight", "listener")
        claiming.begin()
        claiming.do(claim, worker_id)
        beating = listener.start(beat, worker_id)

        assert not listener.is_stopped_in(beating)
        assert beating.result().alive

    def test_a_verdict_does_not_wait_for_a_heartbeat_in_flight(self, stage: Stage) -> None:
        worker_id = new_worker()
        listener, other = stage.actors("listener", "another worker")
        listener.begin()
        listener.do(beat, worker_id)
        declaring = other.start(declare_whatever_it_did, worker_id)

        assert not other.is_stopped_in(declaring)
        assert declaring.result() is None

    def test_a_claim_takes_the_next_job_beside_a_claim_in_flight(self, stage: Stage) -> None:
        jobs = {new_job().pk for _ in range(2)}
        first, second = stage.actors("first", "second")
        first.begin()
        (one,) = first.do(claim, new_worker())
        (other,) = second.do(claim, new_worker())

        assert {one.pk, other.pk} == jobs


class VerbTests:
    def test_a_job_that_is_going_to_sleep_can_be_cancelled(self, stage: Stage) -> None:
        job = claimed_job(new_worker())
        cancelling = behind(stage, lambda: suspend(job), lambda: cancel(job))

        assert cancelling[0].changed
        assert state_of(job) == "CANCELLED"

    def test_a_job_that_is_just_failing_can_be_retried(self, stage: Stage) -> None:
        job = claimed_job(new_worker())
        retrying = behind(stage, lambda: finish(job, JobState.FAILED), lambda: retry(job))

        assert retrying[0].changed
        assert state_of(job) == "READY"

    def test_a_retry_forgets_the_failure_that_came_while_it_waited(self, stage: Stage) -> None:
        """It waits for another job of its bulk, while this one is retried, runs and fails anew."""
        first, second = claimed_jobs(new_worker(), 2)
        for job in (first, second):
            save(job, state="FAILED", value=None, error='{"type": "E"}')
            finish(job, JobState.FAILED)
        view, bulk = stage.actors("a view", "a bulk retry")
        view.begin()
        view.do(lock_row, first, "for no key update")
        retrying = bulk.start(retry, first, second)
        assert bulk.is_stopped_in(retrying)
        retry(second)
        (again,) = claim(new_worker())
        save(again, state="FAILED", value=None, error='{"type": "E"}')
        finish(again, JobState.FAILED)
        view.rollback()

        assert [one.changed for one in retrying.result(PATIENCE)] == [True, True]
        assert Checkpoint.objects.count() == 0


def behind(stage: Stage, write: Callable[[], Any], verb: Callable[[], list[Changed]]) -> Any:
    """What a verb answers that waits for a worker's write to be committed."""
    worker, operator = stage.actors("worker", "operator")
    worker.begin()
    assert worker.do(write) is not None
    waiting = operator.start(verb)
    assert operator.is_stopped_in(waiting)
    worker.commit()
    return waiting.result(PATIENCE)


class ReconcilingTests:
    def test_what_the_worker_knows_is_left_to_it(self) -> None:
        worker_id = new_worker()
        known, unknown = claimed_jobs(worker_id, 2)
        elsewhere = claimed_job(new_worker())
        with transaction.atomic():
            released = claims.release_unknown_jobs(
                connection, worker_id=worker_id, known=[(known.pk, known.lease_token)]
            )

        assert released == [unknown.pk]
        states = [state_of(job) for job in (known, unknown, elsewhere)]
        assert states == ["RUNNING", "READY", "RUNNING"]

    def test_a_former_claim_of_the_same_job_is_not_the_present_one(self) -> None:
        worker_id = new_worker()
        job = claimed_job(worker_id)
        assert suspend(job, AT_ONCE) is not None
        (again,) = claim(worker_id)
        with transaction.atomic():
            released = claims.release_unknown_jobs(
                connection, worker_id=worker_id, known=[(job.pk, job.lease_token)]
            )

        assert released == [again.pk]


class SweepTests:
    def test_the_sweep_passes_no_verdict(self) -> None:
        """A request to cancel, and too many losses, are left to the next claim."""
        job = claimed_job(new_worker())
        assert job.worker_id is not None
        cancel(job)
        Job.objects.filter(pk=job.pk).update(lost_count=4)
        lose(job.worker_id)

        assert sweep() == [job.pk]
        assert state_of(job) == "READY"
        job = Job.objects.get(pk=job.pk)
        assert job.cancel_requested_at is not None
        assert job.lost_count == 5

    def test_jobs_of_the_living_are_left_to_them(self) -> None:
        job = claimed_job(new_worker())

        assert sweep() == []
        assert state_of(job) == "RUNNING"

    def test_jobs_whose_worker_left_no_row_are_given_back(self) -> None:
        job = claimed_job(new_worker())
        Worker.objects.all().delete()

        assert sweep() == [job.pk]

    def test_a_token_only_grows(self) -> None:
        job = claimed_job(new_worker())
        successor = taken_over(job)
        assert suspend(successor, AT_ONCE) is not None
        (later,) = claim(new_worker())

        assert [one.lease_token for one in (job, successor, later)] == [1, 2, 3]


class OutcomeTests:
    def test_a_job_handed_back_is_cancelled_by_its_next_holder(self) -> None:
        job = claimed_job(new_worker())
        cancel(job)

        written = finish(job, JobState.READY)

        assert written is not None
        assert written.state == "READY"
        assert Job.objects.get(pk=job.pk).cancel_requested_at is not None

    @pytest.mark.parametrize(
        "state", [JobState.SUCCESSFUL, JobState.FAILED, JobState.SCHEDULED, JobState.WAITING]
    )
    def test_any_other_outcome_of_a_job_asked_to_stop_is_cancelled(self, state: JobState) -> None:
        job = claimed_job(new_worker())
        cancel(job)

        written = finish(job, state, reason="why", error="{}")

        assert written is not None
        assert written.state == "CANCELLED"


class LostWorkerTests:
    def test_a_worker_that_stopped_is_not_declared_lost(self) -> None:
        worker_id = new_worker(lease=AT_ONCE)
        liveness.mark_stopped("default", worker_id)

        assert liveness.find_suspicious_workers(connection, own_id=0) == []
        assert declare_whatever_it_did(worker_id) is None

    def test_a_worker_is_declared_lost_once(self) -> None:
        worker_id = new_worker()

        assert declare_whatever_it_did(worker_id) is not None
        assert declare_whatever_it_did(worker_id) is None


def lose_row(job: Job) -> None:
    """Somebody deletes it by hand."""
    with connection.cursor() as cursor:
        cursor.execute("delete from durable_job where id = %s", [job.pk])
