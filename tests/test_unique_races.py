"""Unique jobs enqueued by several callers at once, on connections of their own."""

import threading
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from django_durable import Unique, cancel_job, enqueue, enqueue_many, retry_job, task
from django_durable.engine import claims, outcomes, retention, uniqueness
from django_durable.engine.states import JobState
from django_durable.models import Job
from django_durable.testing import run_jobs
from tests.builders import HOUR
from tests.engine.test_claims import claimant
from tests.engine.test_retention import pruned
from tests.sessions import PATIENCE, race, threads, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)


@task(path="race.rebuild", unique=Unique("unfinished"))
def rebuild(shop: int, note: str = "") -> str:
    return f"{shop} {note}"


def replacing(**options: Any) -> Any:
    rule = Unique("queued", key=lambda shop, note="": shop, on_conflict="replace")
    return rebuild.using(unique=rule, **options)


def take(limit: int) -> list[Job]:
    return claims.claim_jobs(claimant(), ["default"], limit=limit).jobs


def succeed(job: Job) -> None:
    outcome = outcomes.Outcome(
        job_id=job.pk,
        lease_token=job.lease_token,
        state=JobState.SUCCESSFUL,
        return_value="null",
    )
    outcomes.finish_jobs(connection, [outcome])


def _end(job: Job) -> None:
    (claimed,) = claims.claim_jobs(claimant(), ["default"], limit=9).jobs
    assert claimed == job
    succeed(claimed)


class RaceTests:
    @pytest.mark.parametrize("during", ["queued", "unfinished", HOUR])
    def test_of_many_racing_callers_one_inserts_and_all_get_the_job(self, during: Any) -> None:
        called = rebuild.using(unique=Unique(during))

        jobs = race(lambda: enqueue(called, 1), 8)

        assert len({job.pk for job in jobs}) == Job.objects.count() == 1
        assert sorted(job.is_duplicate for job in jobs) == [False] + [True] * 7

    def test_of_many_replacing_all_get_it_and_the_last_counts(self) -> None:
        numbers = iter(range(8))

        jobs = race(lambda: enqueue(replacing(), 1, f"call {next(numbers)}"), 8)

        assert len({job.pk for job in jobs}) == Job.objects.count() == 1
        assert run_jobs()[0].return_value.startswith("1 call ")

    def test_of_many_racing_after_a_period_one_inserts(self) -> None:
        hourly = rebuild.using(unique=Unique(HOUR))
        first = enqueue(hourly, 1)
        Job.objects.update(unique_until="2026-01-01T00:00Z")

        jobs = race(lambda: enqueue(hourly, 1), 8)

        assert len({job.pk for job in jobs}) == 1
        assert jobs[0] != first
        assert Job.objects.count() == 2

    @pytest.mark.parametrize("commits", [True, False])
    def test_a_caller_waits_for_a_transaction_with_an_equal_job(self, commits: bool) -> None:
        with threads(1) as start:
            try:
                with transaction.atomic():
                    first = enqueue(rebuild, 1)
                    waiting = start(lambda: enqueue(rebuild, 1))
                    wait_until_blocked()
                    transaction.set_rollback(not commits)
            finally:
                second = waiting.result(PATIENCE)

        assert (second == first, second.is_duplicate) == (commits, commits)
        assert Job.objects.count() == 1

    def test_bulk_callers_in_other_orders_do_not_deadlock(self) -> None:
        shops = list(range(40))
        orders = iter([shops, shops[::-1], shops[20:] + shops[:20], shops[::-1]])

        results = race(lambda: enqueue_many(rebuild.bind(n) for n in next(orders)), 4)

        assert Job.objects.count() == 40
        assert [len({job.pk for job in jobs}) for jobs in results] == [40] * 4

    def test_bulk_callers_that_replace_do_not_deadlock(self) -> None:
        shops = list(range(40))
        enqueue_many(replacing().bind(n, "old") for n in shops)
        orders = iter([shops, shops[::-1], shops[20:] + shops[:20], shops[::-1]])

        race(lambda: enqueue_many(replacing().bind(n, "new") for n in next(orders)), 4)

        assert Job.objects.filter(arguments__contains="new").count() == 40

    def test_bulk_callers_do_not_deadlock_if_a_job_in_the_way_ends_between(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first has the later key by then, and the second the earlier one."""
        rule = Unique("unfinished", key=lambda shop, note="": shop)
        calls = [rebuild.using(unique=rule).bind(shop) for shop in (1, 2)]
        job = enqueue(calls[0].task, 1)
        find = uniqueness._find_unchanged

        with threads(2) as start:

            def end_and_look(*args: Any) -> Any:
                monkeypatch.setattr(uniqueness, "_find_unchanged", find)
                start(lambda: _end(job)).result(PATIENCE)
                others.append(start(lambda: enqueue_many(calls)))
                wait_until_blocked()
                return find(*args)

            others: list[Any] = []
            monkeypatch.setattr(uniqueness, "_find_unchanged", end_and_look)
            with transaction.atomic():
                jobs = enqueue_many(calls)

            assert others[0].result(PATIENCE) == jobs
        assert Job.objects.count() == 3


class ClaimTests:
    def test_a_job_told_to_an_open_transaction_is_claimed_after_it(self) -> None:
        """So what that transaction wrote is there when the job runs."""
        first = enqueue(rebuild, 1)
        with threads(1) as start:
            with transaction.atomic():
                assert enqueue(rebuild, 1) == first
                early = start(lambda: take(9))
                assert early.result(PATIENCE) == []

            late = start(lambda: take(9))
            assert [job.pk for job in late.result(PATIENCE)] == [first.pk]

    def test_the_same_of_many(self) -> None:
        enqueue_many(rebuild.bind(n) for n in range(3))
        with threads(1) as start, transaction.atomic():
            enqueue_many(rebuild.bind(n) for n in (1, 2))
            early = start(lambda: take(9))

            assert [job.args for job in early.result(PATIENCE)] == [[0]]

    def test_a_replaced_job_is_claimed_with_what_replaced_it(self) -> None:
        enqueue(replacing(), 1, "old")
        with threads(1) as start:
            with transaction.atomic():
                enqueue(replacing(), 1, "new")
                early = start(lambda: take(9))
                assert early.result(PATIENCE) == []

            assert run_jobs()[0].return_value == "1 new"

    @pytest.mark.parametrize("commits", [True, False])
    def test_what_is_being_claimed_is_not_replaced(self, commits: bool) -> None:
        first = enqueue(replacing(), 1, "old")
        with threads(1) as start:
            with transaction.atomic():
                Job.objects.filter(pk=first.pk).update(state="RUNNING", worker_id=1, lease_token=1)
                waiting = start(lambda: enqueue(replacing(), 1, "new"))
                wait_until_blocked()
                transaction.set_rollback(not commits)
            second = waiting.result(PATIENCE)

        assert (second == first, second.is_duplicate) == (not commits, not commits)
        first.refresh()
        assert first.args == [1, "old" if commits else "new"]

    def test_a_caller_waits_for_the_end_that_is_being_written(self) -> None:
        first = enqueue(rebuild, 1)
        with threads(1) as start:
            with transaction.atomic():
                cancel_job(first)
                waiting = start(lambda: enqueue(rebuild, 1))
                wait_until_blocked()
            assert waiting.result(PATIENCE) != first

    def test_racing_with_claims_no_call_is_lost(self) -> None:
        """What was there before a call is seen by a job that is claimed after it."""
        called = rebuild.using(unique=Unique("queued"))
        written, seen, done = [0], [0], threading.Event()

        def work() -> None:
            while not done.is_set() or Job.objects.ready().exists():
                for job in take(1):
                    seen.append(written[0])
                    succeed(job)

        with threads(1) as start:
            working = start(work)
            for number in range(1, 41):
                written[0] = number
                enqueue(called, 1)
            done.set()
            working.result(PATIENCE)

        assert max(seen) == 40


class RetryTests:
    @pytest.mark.parametrize("commits", [True, False])
    def test_a_retry_waits_for_an_open_equal_one_and_is_no_error(self, commits: bool) -> None:
        first = enqueue(rebuild.using(delay=HOUR), 1)
        cancel_job(first)
        with threads(1) as start:
            with transaction.atomic():
                second = enqueue(rebuild, 1)
                waiting = start(lambda: retry_job(first))
                wait_until_blocked()
                transaction.set_rollback(not commits)
            retried = waiting.result(PATIENCE)

        assert retried.state == "READY"
        assert (retried.unique_key is None) == commits
        assert enqueue(rebuild, 1) == (second if commits else first)


class IsolationTests:
    @pytest.mark.parametrize("level", ["repeatable read", "serializable"])
    def test_above_read_committed_what_it_cannot_see_is_a_serialization_failure(
        self, level: str
    ) -> None:
        def late() -> None:
            with transaction.atomic():
                connection.cursor().execute(f"set transaction isolation level {level}")
                assert not Job.objects.exists()
                start(lambda: enqueue(rebuild, 1)).result(PATIENCE)
                enqueue(rebuild, 1)

        with threads(1) as start, pytest.raises(OperationalError, match="serialize"):
            late()

    @pytest.mark.parametrize("level", ["repeatable read", "serializable"])
    def test_what_it_can_see_is_returned_there_too(self, level: str) -> None:
        first = enqueue(rebuild, 1)
        with transaction.atomic():
            connection.cursor().execute(f"set transaction isolation level {level}")
            assert enqueue(rebuild, 1) == first


def test_pruning_spares_a_job_whose_period_lives() -> None:
    job = enqueue(rebuild.using(unique=Unique(HOUR)), 1)
    enqueue(rebuild, 2)
    run_jobs()
    Job.objects.update(finished_at="2026-01-01T00:00Z")

    assert pruned(rule=retention.Rule("SUCCESSFUL", HOUR)) == 1
    assert Job.objects.get() == job

    Job.objects.update(unique_until="2026-01-01T00:00Z")
    assert pruned(rule=retention.Rule("SUCCESSFUL", HOUR)) == 1
