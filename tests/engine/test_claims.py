"""Claiming: which jobs come first, and that rows others hold are skipped, never waited for."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from django_durable import task
from django_durable.engine import claims, liveness, registry
from django_durable.models import Job, Worker
from django_durable.testing import run_jobs
from tests.builders import HOUR, rewritten_job, statements
from tests.sessions import second_session

LOCKS = ["no key update", "update", "share"]


@task
def work(n: int = 0) -> int:
    return n


def claimant(**changes: Any) -> claims.Claimant:
    """A fresh worker that can run every known task."""
    registration = liveness.Registration(
        hostname="h", pid=1, queues=[], slots=1, code_version="c", lease=HOUR
    )
    fields = {
        "worker_id": liveness.register_worker("default", registration),
        "alias": "default",
        "task_paths": registry.known_paths(),
        "code_version": "c",
        "max_lost": 5,
    }
    return claims.Claimant(**{**fields, **changes})


def claimed(*queues: str, limit: int = 100, by: claims.Claimant | None = None) -> list[int]:
    """The arguments of the jobs a claim gives, in their order."""
    jobs = claims.claim_jobs(by or claimant(), queues or ["default"], limit=limit).jobs
    return [job.args[0] if job.args else 0 for job in jobs]


@pytest.mark.django_db
class OrderTests:
    def test_priority_then_due_time_then_age(self) -> None:
        for n, priority in enumerate([0, -100, 50, 0, 50]):
            work.using(priority=priority).enqueue(n)
        oldest_due = Job.objects.get(arguments__contains="[3]")
        rewritten_job(oldest_due, due_at=F("due_at") - HOUR)

        assert claimed() == [2, 4, 3, 0, 1]

    def test_run_jobs_keeps_that_order(self) -> None:
        for n, priority in enumerate([0, -1, 1]):
            work.using(priority=priority).enqueue(n)

        assert [job.return_value for job in run_jobs()] == [2, 0, 1]

    def test_queues_are_asked_in_turn_up_to_the_limit(self) -> None:
        for n, queue_name in enumerate(["slow", "fast", "slow", "fast", "other"]):
            work.using(queue_name=queue_name).enqueue(n)

        assert claimed("fast", "slow", limit=3) == [1, 3, 0]

    def test_what_is_not_due_not_ready_or_not_known_is_left(self) -> None:
        work.using(delay=HOUR).enqueue(1)
        rewritten_job(work.enqueue(2), task_path="unknown.task")
        rewritten_job(work.enqueue(3), state="WAITING", wait_kind="event")

        assert claimed() == []


@pytest.mark.django_db
class ClaimTests:
    def test_a_claim_is_a_new_token_a_worker_and_a_time(self) -> None:
        job = work.enqueue()
        by = claimant(code_version="v2")

        (row,) = claims.claim_jobs(by, ["default"], limit=5).jobs

        job.refresh()
        assert (job.state, job.worker_id, job.lease_token) == ("RUNNING", by.worker_id, 1)
        assert (job.code_version, job.started_at) == ("v2", job.claimed_at)
        assert job.claimed_at is not None
        assert row.claimed_at is not None
        assert abs(job.claimed_at - row.claimed_at) < timedelta(seconds=5)
        assert (row.lease_token, row.worker_id, row.state) == (1, by.worker_id, "RUNNING")

    def test_the_token_only_grows(self) -> None:
        job = work.enqueue()
        tokens = []
        for _ in range(3):
            claimed()
            job.refresh()
            tokens.append(job.lease_token)
            rewritten_job(job, state="READY", worker_id=None)

        assert tokens == [1, 2, 3]

    def test_a_worker_that_was_declared_lost_claims_nothing(self) -> None:
        by = claimant()
        work.enqueue()
        Worker.objects.filter(pk=by.worker_id).update(lost_at=F("started_at"))

        with pytest.raises(claims.WorkerLost):
            claims.claim_jobs(by, ["default"], limit=1)

        assert Job.objects.get().state == "READY"

    def test_suspects_are_claimed_alone_and_poison_with_the_innocent(self) -> None:
        for n, lost_count in enumerate([0, 2, 4, 5]):
            rewritten_job(work.enqueue(n), lost_count=lost_count)
        by = claimant()

        assert claims.has_suspect(by, ["default"])
        assert claimed(by=by) == [0, 3]
        assert [job.args for job in claims.claim_suspect(by, ["default"]).jobs] == [[1]]
        assert [job.args for job in claims.claim_suspect(by, ["default"]).jobs] == [[2]]
        assert not claims.has_suspect(by, ["default"])

    def test_a_claim_is_one_query_for_each_queue_and_one_update(self) -> None:
        for n in range(20):
            work.using(queue_name=f"q{n % 2}").enqueue(n)
        by = claimant()

        with statements() as sent:
            claimed("q0", "q1", by=by)

        inner = [sql for sql in sent if "SAVEPOINT" not in sql]
        assert [sql.split()[0].lower() for sql in inner] == ["select"] * 3 + ["with"]


@pytest.mark.django_db(transaction=True)
class LockedRowTests:
    @pytest.mark.parametrize("lock", LOCKS)
    def test_a_locked_row_is_skipped(self, lock: str) -> None:
        locked = work.enqueue(1)
        work.enqueue(2)

        with second_session() as session, session.transaction():
            session.execute(f"select from durable_job where id = %s for {lock}", [locked.pk])
            found = claimed()

        assert found == [2]
        assert claimed() == [1]

    def test_a_row_that_is_only_referred_to_is_not_locked(self) -> None:
        job = work.enqueue(1)

        with second_session() as session, session.transaction():
            session.execute("select from durable_job where id = %s for key share", [job.pk])
            found = claimed()

        assert found == [1]

    def test_run_jobs_skips_it_too(self) -> None:
        locked = work.enqueue(1)
        work.enqueue(2)

        with second_session() as session, session.transaction():
            session.execute("select from durable_job where id = %s for update", [locked.pk])
            first = [job.return_value for job in run_jobs()]

        assert (first, [job.return_value for job in run_jobs()]) == ([2], [1])


@pytest.mark.django_db
class UnknownClaimTests:
    def test_jobs_a_worker_does_not_know_of_are_given_back(self) -> None:
        by = claimant()
        known, unknown = work.enqueue(1), work.enqueue(2)
        claimed(by=by)

        back = claims.release_unknown_jobs(
            connection, worker_id=by.worker_id, known=[(known.pk, 1), (unknown.pk, 9)]
        )

        assert back == [unknown.pk]
        known.refresh()
        unknown.refresh()
        assert (known.state, unknown.state, unknown.worker_id) == ("RUNNING", "READY", None)
