"""Giving back the jobs of workers that are gone: no attempt is spent, losses are counted."""

from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from django_durable import step, task
from django_durable.engine.liveness import recover_jobs
from django_durable.models import Job, Worker
from tests.builders import crashed_job, outcomes_of, rewritten_job
from tests.engine.test_claims import claimant

pytestmark = pytest.mark.django_db


@step
def early() -> int:
    return 1


@task
def only_early() -> int:
    return early()


def running_job(worker_id: int, **columns: Any) -> Job:
    """A job that runs under a worker, without a checkpoint so far."""
    job = only_early.enqueue()
    return rewritten_job(job, state="RUNNING", worker_id=worker_id, lease_token=1, **columns)


def recovered(job: Job) -> Job:
    recover_jobs(connection, limit=100)
    job.refresh()
    return job


class RecoveryTests:
    def test_the_jobs_of_a_live_worker_are_left_alone(self) -> None:
        assert recovered(running_job(claimant().worker_id)).state == "RUNNING"

    @pytest.mark.parametrize("end", ["lost_at", "stopped_at", "row gone"])
    def test_those_of_one_that_is_gone_become_ready_without_spending_an_attempt(
        self, end: str
    ) -> None:
        worker = Worker.objects.filter(pk=claimant().worker_id)
        job = running_job(worker.get().pk)
        if end == "row gone":
            Worker.objects.filter(pk=job.worker_id)._raw_delete("default")
        else:
            worker.update(**{end: F("started_at")})

        job = recovered(job)

        assert (job.state, job.worker_id, job.attempt, job.lost_count) == ("READY", None, 1, 1)
        assert outcomes_of(job) == ["LOST"]

    def test_losses_in_a_row_add_up(self) -> None:
        assert recovered(running_job(0, lost_count=3)).lost_count == 4

    def test_progress_starts_the_count_again(self) -> None:
        job = rewritten_job(crashed_job(only_early, after="early"), lost_count=3)

        assert recovered(job).lost_count == 1

    def test_a_worker_that_was_told_to_stop_is_no_loss(self) -> None:
        worker = Worker.objects.filter(pk=claimant().worker_id)
        worker.update(stopping_at=F("started_at"), lost_at=F("started_at"))

        assert recovered(running_job(worker.get().pk, lost_count=3)).lost_count == 3

    def test_a_request_to_cancel_is_left_to_the_next_claim(self) -> None:
        job = running_job(0)
        rewritten_job(job, cancel_requested_at=job.enqueued_at)

        assert recovered(job).state == "READY"
