"""Jobs claimed before a slot was free: what is known of them, and what losing them means."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from django_durable import Limit, task
from django_durable.engine import claims, liveness, outcomes
from django_durable.models import Job, JobState, Worker
from tests.builders import rewritten_job
from tests.engine.test_claims import claimant

pytestmark = pytest.mark.django_db


@task
def work(n: int = 0) -> int:
    return n


@task(limit=Limit("ahead-of-none", concurrency=5))
def limited() -> None:
    pass


def claim(by: claims.Claimant, *, limit: int, ahead: int) -> list[Job]:
    return claims.claim_jobs(by, ["default"], limit=limit, ahead=ahead).jobs


def lose(by: claims.Claimant) -> None:
    Worker.objects.filter(pk=by.worker_id).update(lost_at=F("started_at"))
    liveness.recover_jobs(connection, limit=100)


def row(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def outcome(job: Job, state: JobState, **more: Any) -> outcomes.Outcome:
    return outcomes.Outcome(job_id=job.pk, lease_token=job.lease_token, state=state, **more)


def test_the_free_slots_get_the_first_ones_and_the_others_are_marked() -> None:
    for n in range(5):
        work.enqueue(n)

    jobs = claim(claimant(), limit=2, ahead=2)

    assert [(job.args[0], job.claimed_ahead) for job in jobs] == [
        (0, False), (1, False), (2, True), (3, True),
    ]  # fmt: skip
    assert [row(job).claimed_ahead for job in jobs] == [False, False, True, True]
    assert [row(job).started_at is None for job in jobs] == [False, False, True, True]


def test_losing_it_does_not_count_and_next_time_it_waits_for_a_free_slot() -> None:
    job, by = work.enqueue(1), claimant()
    assert [one.pk for one in claim(by, limit=0, ahead=5)] == [job.pk]

    lose(by)

    assert (row(job).state, row(job).lost_count) == ("READY", 0)
    again = claimant()
    assert claim(again, limit=0, ahead=5) == []
    assert [one.pk for one in claim(again, limit=1, ahead=5)] == [job.pk]
    lose(again)
    assert row(job).lost_count == 1


def test_once_it_is_known_to_have_begun_losing_counts() -> None:
    job, by = work.enqueue(1), claimant()
    (claimed,) = claim(by, limit=0, ahead=5)

    liveness.note_begun(connection, [(claimed.pk, claimed.lease_token)])

    assert row(job).started_at == row(job).claimed_at
    lose(by)
    assert row(job).lost_count == 1


def test_only_the_holder_notes_that_it_has_begun() -> None:
    job, by = work.enqueue(1), claimant()
    (claimed,) = claim(by, limit=0, ahead=5)

    liveness.note_begun(connection, [(claimed.pk, claimed.lease_token - 1)])

    assert row(job).claimed_ahead


def test_its_end_says_when_it_began() -> None:
    for state in (JobState.SUCCESSFUL, JobState.FAILED, JobState.SCHEDULED):
        job = work.enqueue(1)
        (claimed,) = claim(claimant(), limit=0, ahead=5)
        outcomes.finish_jobs(connection, [outcome(claimed, state, error='{"type": "E"}')])
        assert row(job).started_at == row(job).claimed_at is not None


def test_handed_back_it_has_not_begun_and_kept_its_attempt() -> None:
    job = work.enqueue(1)
    (claimed,) = claim(claimant(), limit=0, ahead=5)

    outcomes.finish_jobs(connection, [outcome(claimed, JobState.READY)])

    back = row(job)
    assert (back.state, back.attempt, back.lost_count, back.started_at) == ("READY", 1, 0, None)


def test_suspects_and_jobs_under_limits_are_not_claimed_ahead() -> None:
    rewritten_job(work.enqueue(1), lost_count=2)
    limited.enqueue()

    assert claim(claimant(), limit=0, ahead=5) == []


class PlainSuccessTests:
    def test_many_are_one_statement_and_each_has_its_own_answer(self) -> None:
        jobs = [work.enqueue(n) for n in range(4)]
        claimed = claim(claimant(), limit=4, ahead=0)
        claimed[1].lease_token += 1  # its lease is lost
        rewritten_job(jobs[2], cancel_requested_at=jobs[2].enqueued_at)

        answers = outcomes.finish_jobs(
            connection, [outcome(job, JobState.SUCCESSFUL, return_value="7") for job in claimed]
        )

        assert [one and one.state for one in answers] == [
            "SUCCESSFUL", None, "CANCELLED", "SUCCESSFUL",
        ]  # fmt: skip
        assert [row(job).state for job in jobs] == [
            "SUCCESSFUL", "RUNNING", "CANCELLED", "SUCCESSFUL",
        ]  # fmt: skip
        assert row(jobs[0]).return_value == 7

    def test_writing_it_again_finds_nothing(self) -> None:
        work.enqueue(1)
        (claimed,) = claim(claimant(), limit=1, ahead=0)
        end = outcome(claimed, JobState.SUCCESSFUL, return_value="null")

        assert outcomes.finish_jobs(connection, [end])[0] is not None
        assert outcomes.finish_jobs(connection, [end]) == [None]
