"""Unique jobs: one at a time for the same arguments or key, whoever enqueues them."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from django_durable import (
    Task,
    Unique,
    cancel_job,
    enqueue,
    enqueue_many,
    get_job,
    retry_job,
    task,
)
from django_durable.engine import enqueueing
from django_durable.engine.outcomes import fail_overdue
from django_durable.exceptions import (
    BulkItemError,
    InvalidArgumentsError,
    InvalidOptionError,
    NotUniqueError,
)
from django_durable.jobs import retry_jobs
from django_durable.models import Job
from django_durable.testing import run_jobs
from tests.builders import HOUR, policy, rolled_back
from tests.testapp.models import Account

UNFINISHED, QUEUED = Unique("unfinished"), Unique("queued")


@task
def rebuild(shop: Any, note: str = "") -> str:
    return f"{shop} {note}"


def unique(rule: Unique | None = UNFINISHED, **options: Any) -> Task[..., Any]:
    return rebuild.using(unique=rule, **options)


def replacing(during: Any = "queued", **options: Any) -> Task[..., Any]:
    rule = Unique(during, key=lambda shop, note="": shop, on_conflict="replace")
    return unique(rule, **options)


def claimed(job: Job) -> None:
    """As a claim leaves it."""
    Job.objects.filter(pk=job.pk).update(
        state="RUNNING", worker_id=1, lease_token=1, started_at="2026-01-01T00:00Z"
    )


def over(job: Job) -> None:
    """The job's period of uniqueness lies behind it."""
    Job.objects.filter(pk=job.pk).update(unique_until="2026-01-01T00:00Z")


@pytest.mark.django_db
class SameCallTests:
    def test_a_second_call_gets_the_job_and_is_told(self) -> None:
        first = enqueue(unique(), 1)
        second = enqueue(unique(), 1)

        assert (first.is_duplicate, second.is_duplicate) == (False, True)
        assert second == first
        assert Job.objects.count() == 1

    def test_the_row_says_so_as_the_call_does(self) -> None:
        job = enqueue(unique(Unique(HOUR)), 1)

        stored = get_job(job.pk)

        assert (job.unique_key, job.unique_while) == (stored.unique_key, stored.unique_while)
        assert job.unique_until == stored.unique_until == stored.enqueued_at + HOUR

    def test_arguments_are_compared_by_parameter_not_by_spelling(self) -> None:
        first = enqueue(unique(), 1, "x")

        assert enqueue(unique(), note="x", shop=1) == first
        assert enqueue(unique(), 1) != first
        assert enqueue(unique(), "1", "x") != first

    def test_another_task_is_never_the_same(self) -> None:
        other = task(path="other", unique=UNFINISHED)(lambda shop: None)

        assert enqueue(other, 1) != enqueue(unique(), 1)

    def test_calls_that_are_not_unique_are_not_looked_at(self) -> None:
        enqueue(unique(), 1)

        assert not enqueue(unique(None), 1).is_duplicate
        assert enqueue(unique(), 1).is_duplicate

    def test_it_is_declared_with_the_task(self) -> None:
        declared = task(path="declared", unique=UNFINISHED)(lambda: None)

        assert enqueue(declared) == enqueue(declared)
        assert enqueue(declared.using(unique=None)) != enqueue(declared)


@pytest.mark.django_db
class KeyTests:
    def test_jobs_are_the_same_for_which_the_key_answers_alike(self) -> None:
        rule = Unique("unfinished", key=lambda shop, note="": shop)

        first = enqueue(unique(rule), 1, "x")

        assert enqueue(unique(rule), 1, note="y") == first
        assert enqueue(unique(rule), 2) != first

    def test_an_instance_counts_by_its_primary_key(self) -> None:
        account = Account.objects.create(name="a")
        rule = Unique("unfinished", key=lambda shop: shop)

        job = enqueue(unique(rule), account)

        assert job.unique_key == f"{rebuild.path}[{account.pk}]"
        assert enqueue(unique(rule), Account.objects.get()) == job

    def test_none_is_no_key(self) -> None:
        rule = Unique("unfinished", key=lambda shop: None)

        assert enqueue(unique(rule), 1) != enqueue(unique(rule), 1)

    def test_long_and_odd_keys_are_told_apart(self) -> None:
        rule = Unique("unfinished", key=lambda shop: shop)
        shops = ["a" * 400, "a" * 399 + "b", "a/b", "a[b]", "a%2Fb", "a#2"]

        jobs = enqueue_many(unique(rule).bind(shop) for shop in shops)

        assert len({job.unique_key for job in jobs}) == len(shops)
        assert max(len(job.unique_key or "") for job in jobs) < 400

    @pytest.mark.parametrize(
        ("key", "what"),
        [
            (lambda shop: 1 // 0, "ZeroDivisionError"),
            (lambda: 1, "TypeError"),
            (lambda shop: object(), "not object"),
            (lambda shop: " ", "empty or blank"),
            (lambda shop: "a\x00", "NUL"),
            (lambda shop: True, "not bool"),
        ],
    )
    def test_a_key_that_cannot_be_told_is_refused_in_the_caller(self, key: Any, what: str) -> None:
        with pytest.raises(InvalidArgumentsError, match=what):
            enqueue(unique(Unique("queued", key=key)), 1)

        assert not Job.objects.exists()


@pytest.mark.django_db
class DuringTests:
    @pytest.mark.parametrize("during", ["queued", "unfinished"])
    def test_a_claimed_job_is_queued_no_more(self, during: Any) -> None:
        first = enqueue(unique(Unique(during)), 1)
        claimed(first)

        second = enqueue(unique(Unique(during)), 1)

        assert (second == first) == second.is_duplicate == (during == "unfinished")

    def test_a_job_given_back_by_a_lost_worker_does_not_become_unique_again(self) -> None:
        first = enqueue(unique(QUEUED), 1)
        claimed(first)
        second = enqueue(unique(QUEUED), 1)
        Job.objects.filter(pk=first.pk).update(state="READY", worker_id=None)

        assert enqueue(unique(QUEUED), 1) == second

    def test_a_job_that_waits_for_its_next_attempt_is_unfinished(self) -> None:
        @task(path="fails", retry=policy(2), unique=UNFINISHED)
        def fails() -> None:
            raise ValueError

        job = enqueue(fails)
        run_jobs()

        assert get_job(job.pk).state == "SCHEDULED"
        assert enqueue(fails) == job

    @pytest.mark.parametrize("rule", [QUEUED, UNFINISHED])
    @pytest.mark.parametrize("end", ["success", "failure", "cancel", "deadline"])
    def test_every_end_makes_way(self, rule: Unique, end: str) -> None:
        @task(path="ends", unique=rule)
        def ends() -> None:
            if end == "failure":
                raise ValueError

        first = enqueue(ends.using(deadline=HOUR))
        if end == "cancel":
            cancel_job(first)
        elif end == "deadline":
            Job.objects.update(deadline_at="2026-01-01T00:00Z")
            fail_overdue("default", limit=10)
        else:
            run_jobs()

        assert get_job(first.pk).is_finished
        assert not enqueue(ends).is_duplicate

    def test_a_period_counts_from_enqueueing_whatever_becomes_of_the_job(self) -> None:
        first = enqueue(unique(Unique(HOUR)), 1)
        run_jobs()
        assert enqueue(unique(Unique(HOUR)), 1) == first

        over(first)
        second = enqueue(unique(Unique(HOUR)), 1)

        assert (second == first, second.is_duplicate) == (False, False)
        assert enqueue(unique(Unique(HOUR)), 1) == second

    def test_a_job_still_at_work_when_its_period_ends_is_not_touched(self) -> None:
        first = enqueue(unique(Unique(HOUR)), 1)
        claimed(first)
        over(first)

        assert not enqueue(unique(Unique(HOUR)), 1).is_duplicate
        assert get_job(first.pk).state == "RUNNING"


@pytest.mark.django_db
class RejectTests:
    rule = Unique("unfinished", on_conflict="reject")

    def test_the_error_names_the_job_in_the_way(self) -> None:
        first = enqueue(unique(self.rule), 1)

        with pytest.raises(NotUniqueError, match=f"{first.pk} \\(READY\\)") as caught:
            enqueue(unique(self.rule), 1)

        assert (caught.value.job_id, caught.value.key) == (str(first.pk), first.unique_key)

    def test_one_rejected_among_many_refuses_all(self) -> None:
        enqueue(unique(self.rule), 1)

        with pytest.raises(BulkItemError, match=r"Item 2 .* unique"):
            enqueue_many([rebuild.bind(1), unique(self.rule).bind(2), unique(self.rule).bind(1)])

        assert Job.objects.count() == 1


@pytest.mark.django_db
class ReplaceTests:
    def test_a_job_not_started_stands_for_the_newer_call(self) -> None:
        first = enqueue(replacing(), 1, "old")

        options: dict[str, Any] = {"priority": 7, "queue_name": "slow", "deadline": HOUR}
        second = enqueue(replacing(**options), 1, "new")

        assert (second, second.is_duplicate) == (first, True)
        stored = get_job(first.pk)
        assert (stored.priority, stored.queue_name) == (7, "slow")
        assert stored.deadline_at is not None
        assert [job.return_value for job in run_jobs()] == ["1 new"]

    def test_each_call_moves_the_due_time(self) -> None:
        first = enqueue(replacing(delay=HOUR), 1, "a")
        second = enqueue(replacing(delay=2 * HOUR), 1, "b")
        assert (first.state, second.state) == ("SCHEDULED", "SCHEDULED")
        assert second.due_at - first.due_at > HOUR / 2

        third = enqueue(replacing(), 1, "c")

        assert third.state == "READY"
        assert [job.return_value for job in run_jobs()] == ["1 c"]

    @pytest.mark.parametrize("during", ["unfinished", HOUR])
    def test_what_has_started_is_returned_as_it_is(self, during: Any) -> None:
        first = enqueue(replacing(during), 1, "old")
        claimed(first)

        second = enqueue(replacing(during), 1, "new")

        assert (second, second.is_duplicate) == (first, True)
        assert (second.args, second.kwargs) == ([1, "old"], {})

    def test_a_replay_of_the_first_call_is_not_held_against_it(self) -> None:
        """Its job stands for somebody else's arguments by now."""

        @task(path="parent")
        def parent() -> str:
            return str(enqueue(replacing(delay=HOUR), 1, "mine").pk)

        job = enqueue(parent)
        run_jobs()
        enqueue(replacing(delay=HOUR), 1, "theirs")
        Job.objects.filter(pk=job.pk).update(
            state="READY", finished_at=None, encoded_return_value=None
        )
        run_jobs()

        job.refresh()
        assert job.state == "SUCCESSFUL"
        assert job.return_value == str(Job.objects.get(task_path=rebuild.path).pk)


@pytest.mark.django_db
class ManyTests:
    def test_duplicates_among_many_and_before_them(self) -> None:
        before = enqueue(unique(), "b")

        jobs = enqueue_many(unique().bind(shop) for shop in "abcab")

        assert [job.is_duplicate for job in jobs] == [False, True, False, True, True]
        assert [jobs[1], jobs[3], jobs[4]] == [before, jobs[0], before]
        assert Job.objects.count() == 3

    def test_unique_and_other_calls_keep_their_places(self) -> None:
        calls = [unique().bind(2), rebuild.bind(2), unique().bind(1), rebuild.bind(1)]

        jobs = enqueue_many(calls)

        assert [job.args for job in jobs] == [[2], [2], [1], [1]]

    def test_the_last_of_many_replaces_the_others(self) -> None:
        jobs = enqueue_many(replacing().bind(shop, note) for shop, note in ["1a", "2b", "1c"])

        assert jobs[0] == jobs[2]
        assert sorted(job.return_value for job in run_jobs()) == ["1 c", "2 b"]

    def test_periods_that_are_over_are_freed_among_many(self) -> None:
        first = enqueue_many(unique(Unique(HOUR)).bind(shop) for shop in range(3))
        over(first[1])

        jobs = enqueue_many(unique(Unique(HOUR)).bind(shop) for shop in range(3))

        assert [job.is_duplicate for job in jobs] == [True, False, True]

    def test_the_number_of_statements_does_not_grow(
        self, django_assert_max_num_queries: Any
    ) -> None:
        enqueue_many(unique().bind(shop) for shop in range(50))

        with django_assert_max_num_queries(6):
            jobs = enqueue_many(unique().bind(shop) for shop in range(100))

        assert sum(job.is_duplicate for job in jobs) == 50

    def test_calls_of_one_key_that_disagree_are_each_taken_at_their_word(self) -> None:
        def ruled(on_conflict: Any) -> Task[..., Any]:
            key = lambda shop, note="": shop  # noqa: E731
            return unique(Unique("queued", key=key, on_conflict=on_conflict))

        first = enqueue(ruled("return"), 1, "old")

        _, second = enqueue_many([ruled("return").bind(1), ruled("replace").bind(1, "new")])
        with pytest.raises(BulkItemError) as refused:
            enqueue_many([ruled("return").bind(1), ruled("reject").bind(1)])

        assert second == first
        assert refused.value.index == 1
        first.refresh()
        assert first.args == [1, "new"]


@pytest.mark.django_db
class RetryTests:
    def ended(self) -> Job:
        first = enqueue(unique(delay=HOUR), 1)
        cancel_job(first)
        return first

    def test_a_retried_job_is_unique_again(self) -> None:
        first = self.ended()

        retry_job(first)

        assert enqueue(unique(), 1) == first

    def test_unless_another_is_by_now(self) -> None:
        first = self.ended()
        second = enqueue(unique(), 1)

        assert retry_job(first).state == "READY"

        assert enqueue(unique(), 1) == second
        assert get_job(first.pk).unique_key is None

    def test_a_queued_one_that_was_claimed_is_not(self) -> None:
        fails = task(path="fails", unique=QUEUED)(lambda: 1 // 0)
        first = enqueue(fails)
        run_jobs()
        second = enqueue(fails)

        retry_job(first)

        assert enqueue(fails) == second

    def test_of_two_retried_together_one_is(self) -> None:
        ended = [self.ended(), self.ended()]
        jobs = Job.objects.filter(pk__in=[job.pk for job in ended])

        assert retry_jobs(jobs).changed == 2

        assert enqueue(unique(), 1) in ended
        assert jobs.filter(unique_key__isnull=False).count() == 1


@pytest.mark.django_db
class RefusalTests:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"during": "running"},
            {"during": timedelta(0)},
            {"during": timedelta(seconds=-1)},
            {"during": timedelta(days=40_000)},
            {"during": None},
            {"during": 60},
            {"during": "queued", "on_conflict": "ignore"},
            {"during": "queued", "key": "order"},
        ],
    )
    def test_a_rule_that_cannot_be_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Unique"):
            Unique(**wrong)

    def test_an_asynchronous_key_is_refused(self) -> None:
        async def key(shop: int) -> int:
            return shop

        with pytest.raises(ValueError, match="asynchronous"):
            Unique("queued", key=key)

    def test_another_thing_than_a_rule_is_refused(self) -> None:
        with pytest.raises(InvalidOptionError, match="must be a Unique"):
            rebuild.using(unique="queued")

    def test_together_with_an_idempotency_key_it_is_refused(self) -> None:
        with pytest.raises(InvalidOptionError, match="idempotency key"):
            enqueue(unique(idempotency_key="k"), 1)

        assert not Job.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("on_conflict", ["return", "replace"])
@pytest.mark.parametrize("how", ["alone", "among many"])
def test_a_job_claimed_between_two_looks_is_not_the_answer(
    monkeypatch: pytest.MonkeyPatch, on_conflict: Any, how: str
) -> None:
    called = unique(Unique("queued", on_conflict=on_conflict))
    first = enqueue(called, 1)
    find = enqueueing.find_unique

    def find_then_claim(*args: Any) -> Any:
        found = find(*args)
        claimed(first)
        return found

    monkeypatch.setattr(enqueueing, "find_unique", find_then_claim)

    with transaction.atomic():
        second = enqueue(called, 1) if how == "alone" else enqueue_many([called.bind(1)])[0]

    assert (second == first, second.is_duplicate) == (False, False)


@pytest.mark.django_db
def test_a_rollback_leaves_no_key() -> None:
    with rolled_back():
        enqueue(unique(), 1)

    assert not enqueue(unique(), 1).is_duplicate


@pytest.mark.django_db
def test_a_conflict_leaves_the_callers_transaction_usable() -> None:
    enqueue(unique(), 1)
    rejecting = unique(Unique("unfinished", on_conflict="reject"))

    with transaction.atomic():
        Account.objects.create(name="before")
        with pytest.raises(NotUniqueError):
            enqueue(rejecting, 1)
        assert enqueue(unique(), 1).is_duplicate
        Account.objects.create(name="after")

    assert Account.objects.count() == 2
    assert not connection.needs_rollback
