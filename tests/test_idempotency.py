"""Idempotency keys: one job for a key, however often and from wherever it is asked for."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from django_durable import Task, enqueue, enqueue_many, get_job, once, step, task
from django_durable.exceptions import IdempotencyConflictError, InvalidOptionError
from django_durable.models import IdempotencyKey, Job
from django_durable.testing import run_jobs
from tests.builders import crashed_job, expired_key, resumed_job, rolled_back
from tests.sessions import PATIENCE, race, threads, wait_until_blocked
from tests.testapp.models import Account, Charge


@task
def pay(order: str, amount: int = 1) -> str:
    Charge.objects.create(order_ref=order, amount=amount)
    return f"{order} {amount}"


@task
def refund(order: str, amount: int = 1) -> str:
    return order


def keyed(called: Task[..., Any] = pay, key: str = "order-1", **options: Any) -> Task[..., Any]:
    return called.using(idempotency_key=key, **options)


@pytest.mark.django_db
class RepeatedCallTests:
    def test_the_same_call_gets_the_first_job_and_says_so(self) -> None:
        first = enqueue(keyed(), "o1", amount=3)
        second = enqueue(keyed(), "o1", amount=3)

        assert (first.is_duplicate, second.is_duplicate) == (False, True)
        assert second == first
        assert Job.objects.count() == 1

    def test_arguments_are_compared_by_parameter_not_by_spelling(self) -> None:
        first = enqueue(keyed(), "o1", 3)

        assert enqueue(keyed(), amount=3, order="o1") == first

    def test_options_may_differ(self) -> None:
        first = enqueue(keyed(priority=5), "o1")

        assert enqueue(keyed(queue_name="slow", delay=timedelta(1)), "o1") == first

    def test_other_arguments_are_a_conflict_and_the_first_stands(self) -> None:
        first = enqueue(keyed(), "o1", 3)

        with pytest.raises(IdempotencyConflictError) as caught:
            enqueue(keyed(), "o1", 4)

        assert caught.value.key == "order-1"
        assert f"by job {first.pk}" in str(caught.value)
        assert [job.return_value for job in run_jobs()] == ["o1 3"]

    def test_the_key_of_another_task_is_another_key(self) -> None:
        jobs = {enqueue(keyed(pay), "o1").pk, enqueue(keyed(refund), "o1").pk}

        assert Job.objects.count() == len(jobs) == 2

    def test_instances_are_compared_by_key(self) -> None:
        account = Account.objects.create(name="a")
        settle = task(path="settle")(lambda account: None)
        first = enqueue(keyed(settle), account)
        account.name = "b"

        assert enqueue(keyed(settle), account) == first
        with pytest.raises(IdempotencyConflictError):
            enqueue(keyed(settle), Account.objects.create(name="a"))

    def test_many_at_once_meet_the_same_keys(self) -> None:
        first = enqueue(keyed(key="b"), "o")

        jobs = enqueue_many([keyed(key=key).bind("o") for key in "abcab"])

        assert [job.is_duplicate for job in jobs] == [False, True, False, True, True]
        assert [jobs[1], jobs[3]] == [first, jobs[0]]
        assert Job.objects.count() == 3

    def test_a_conflict_among_many_refuses_all(self) -> None:
        enqueue(keyed(key="b"), "o")

        with pytest.raises(Exception, match='key "b"'):
            enqueue_many([pay.bind("x"), keyed(key="a").bind("o"), keyed(key="b").bind("other")])

        assert Job.objects.count() == 1
        assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db
class LifetimeTests:
    def test_a_key_answers_after_completion(self) -> None:
        first = enqueue(keyed(), "o1")
        run_jobs()

        again = enqueue(keyed(), "o1")

        assert (again, again.is_duplicate) == (first, True)
        assert again.return_value == "o1 1"
        assert run_jobs() == []

    def test_it_lives_for_a_week_unless_told_otherwise(self) -> None:
        enqueue(keyed(key="week"), "o1")
        enqueue(keyed(key="hour", idempotency_retention=timedelta(hours=1)), "o1")

        lives = {row.key: row.expires_at - row.created_at for row in IdempotencyKey.objects.all()}

        assert lives == {"week": timedelta(days=7), "hour": timedelta(hours=1)}

    def test_it_is_reusable_when_expired_and_finished(self) -> None:
        first = enqueue(keyed(), "o1")
        run_jobs()
        expired_key("order-1")

        second = enqueue(keyed(), "something else")

        assert (second == first, second.is_duplicate) == (False, False)
        assert IdempotencyKey.objects.get().job_id == second.pk

    @pytest.mark.parametrize("state", ["READY", "SCHEDULED"])
    def test_an_expired_key_of_a_live_job_still_answers(self, state: str) -> None:
        delay = timedelta(hours=1) if state == "SCHEDULED" else None
        first = enqueue(keyed(delay=delay), "o1")
        expired_key("order-1")

        assert enqueue(keyed(), "o1") == first
        with pytest.raises(IdempotencyConflictError):
            enqueue(keyed(), "o2")

    def test_a_key_that_is_not_expired_answers_for_failed_jobs_too(self) -> None:
        fail = task(path="fail")(lambda: 1 // 0)
        first = enqueue(keyed(fail))
        run_jobs()

        assert get_job(first.pk).state == "FAILED"
        assert enqueue(keyed(fail)) == first


@pytest.mark.django_db(transaction=True)
class TransactionTests:
    def test_a_conflict_leaves_the_callers_transaction_usable(self) -> None:
        enqueue(keyed(), "o1")

        with transaction.atomic():
            Account.objects.create(name="before")
            with pytest.raises(IdempotencyConflictError):
                enqueue(keyed(), "o2")
            assert enqueue(keyed(), "o1").is_duplicate
            Account.objects.create(name="after")

        assert Account.objects.count() == 2

    def test_a_rollback_frees_the_key(self) -> None:
        with rolled_back():
            enqueue(keyed(), "o1")

        assert not enqueue(keyed(), "o2").is_duplicate
        assert IdempotencyKey.objects.count() == Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
class RaceTests:
    def test_of_many_racing_callers_one_starts_the_job_and_all_get_it(self) -> None:
        jobs = race(lambda: enqueue(keyed(), "o1"), 8)

        assert len({job.pk for job in jobs}) == 1
        assert sorted(job.is_duplicate for job in jobs) == [False] + [True] * 7
        assert len(run_jobs()) == Charge.objects.count() == 1

    def test_of_many_racing_for_an_expired_key_one_gets_it(self) -> None:
        first = enqueue(keyed(), "old")
        run_jobs()
        expired_key("order-1")

        jobs = race(lambda: enqueue(keyed(), "new"), 8)

        assert len({job.pk for job in jobs}) == 1
        assert jobs[0] != first
        assert Job.objects.count() == 2

    @pytest.mark.parametrize("commits", [True, False])
    def test_a_caller_waits_for_a_transaction_that_holds_the_key(self, commits: bool) -> None:
        with threads(1) as start:
            try:
                with transaction.atomic():
                    first = enqueue(keyed(), "o1")
                    waiting = start(lambda: enqueue(keyed(), "o1"))
                    wait_until_blocked()
                    transaction.set_rollback(not commits)
            finally:
                second = waiting.result(PATIENCE)

        assert (second == first, second.is_duplicate) == (commits, commits)
        assert Job.objects.count() == 1

    def test_bulk_callers_with_the_same_keys_in_other_orders_do_not_deadlock(self) -> None:
        keys = [f"key-{n:02}" for n in range(40)]
        orders = iter([keys, keys[::-1], keys[20:] + keys[:20], keys[::-1]])

        results = race(lambda: enqueue_many([keyed(key=key).bind("o") for key in next(orders)]), 4)

        assert Job.objects.count() == 40
        assert {len(jobs) for jobs in results} == {40}


@pytest.mark.django_db
class InsideJobTests:
    def test_a_keyed_child_is_the_same_on_replay(self) -> None:
        note = step(name="note")(lambda: None)

        @task(path="parent")
        def parent() -> str:
            child = enqueue(keyed(), "child")
            note()
            return f"{child.pk} {child.is_duplicate}"

        job = resumed_job(crashed_job(parent, after="note"))

        child = Job.objects.get(task_path=pay.path)
        assert child.parent_id == job.pk
        assert job.return_value.startswith(str(child.pk))

    def test_a_key_taken_outside_gives_that_job(self) -> None:
        taken = enqueue(keyed(delay=timedelta(days=1)), "o1")

        @task(path="parent")
        def parent() -> bool:
            return enqueue(keyed(), "o1").is_duplicate

        parent.enqueue()

        assert [job.return_value for job in run_jobs()] == [True]
        assert Job.objects.get(task_path=pay.path) == taken


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "  ", "a\x00", "x" * 501, None, 5])
def test_a_blank_or_odd_key_is_refused_by_once(key: Any) -> None:
    with pytest.raises(InvalidOptionError, match="key"):
        once(key, lambda: 1)
