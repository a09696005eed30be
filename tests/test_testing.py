"""What users' own tests stand on: run_jobs, crash_after, assert_enqueued."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from django_durable import current_job, enqueue, gather, step, task
from django_durable.models import Job, Worker
from django_durable.retry import draw
from django_durable.testing import assert_enqueued, crash_after, run_jobs
from tests.builders import HOUR, ended_job, policy, resumed_job
from tests.scheduled import database_now
from tests.testapp.models import Account, Charge
from tests.testapp.tasks import fulfil


@task
def greet(name: str, greeting: str = "Hello") -> str:
    return f"{greeting} {name}"


@task
def greet_account(account: Account) -> str:
    return account.name


@task
def chain(n: int) -> int:
    if n:
        enqueue(chain, n - 1)
    return n


@pytest.mark.django_db
class RunJobsTests:
    def test_nothing_due_is_nothing_done(self) -> None:
        greet.using(delay=HOUR).enqueue("Ada")

        assert run_jobs() == []

    def test_jobs_come_back_fresh_and_in_their_order(self) -> None:
        jobs = [greet.enqueue(name) for name in ("Ada", "Bob")]

        done = run_jobs()

        assert done == jobs
        assert [job.state for job in done] == ["SUCCESSFUL"] * 2
        assert [job.return_value for job in done] == ["Hello Ada", "Hello Bob"]

    def test_what_jobs_enqueue_is_run_too(self) -> None:
        chain.enqueue(3)

        assert [job.return_value for job in run_jobs()] == [3, 2, 1, 0]

    def test_every_queue_is_served(self) -> None:
        for queue_name in ("a", "b", "c"):
            greet.using(queue_name=queue_name).enqueue("x")

        assert {job.queue_name for job in run_jobs()} == {"a", "b", "c"}

    @pytest.mark.parametrize(("ahead", "ran"), [(HOUR / 2, 0), (HOUR, 1)])
    def test_ahead_moves_due_times_back(self, ahead: timedelta, ran: int) -> None:
        greet.using(delay=HOUR).enqueue("Ada")

        assert len(run_jobs(ahead=ahead)) == ran

    def test_a_job_that_runs_twice_in_one_call_comes_back_once(self) -> None:
        tries = iter([True, False])

        def body() -> None:
            if next(tries):
                raise OSError

        job = task(path="twice", retry=policy(2, initial_delay=timedelta(0)))(body).enqueue()

        assert run_jobs() == [job]
        assert Job.objects.get().state == "SUCCESSFUL"

    @pytest.mark.parametrize("where", ["task", "step", "branch"])
    def test_a_wait_with_jitter_is_as_long_as_it_can_be(self, where: str) -> None:
        spread = policy(2, jitter=True)

        def fail() -> None:
            raise OSError("no line")

        failing = step(name="failing", retry=spread)(fail)
        body = {"task": fail, "step": lambda: failing(), "branch": lambda: gather(failing)}[where]
        on_task = {"retry": spread} if where == "task" else {}
        before = database_now()

        job = ended_job(task(path="waiting_with_jitter", **on_task)(body))

        assert job.state == "SCHEDULED"
        assert before <= job.due_at - HOUR <= database_now()
        assert draw.get()() < 1

    def test_a_failure_does_not_raise_here(self) -> None:
        job = ended_job(task(path="failing")(lambda: 1 // 0))

        assert (job.state, job.errors[0].exception_class) == ("FAILED", ZeroDivisionError)

    def test_on_commit_callbacks_run_after_each_job_only_its_own(self) -> None:
        seen: list[str] = []
        transaction.on_commit(lambda: seen.append("the test's own"))

        @task(path="telling")
        def telling(name: str) -> None:
            transaction.on_commit(lambda: seen.append(name))
            seen.append(f"body of {name}")

        telling.enqueue("a")
        telling.enqueue("b")
        run_jobs()

        assert seen == ["body of a", "a", "body of b", "b"]

    def test_a_callback_may_enqueue(self) -> None:
        @task(path="telling")
        def telling() -> None:
            transaction.on_commit(lambda: enqueue(greet, "later"))

        telling.enqueue()

        assert [job.task_path for job in run_jobs()] == ["telling", greet.path]

    def test_no_live_worker_is_left_behind(self) -> None:
        ended_job(greet, "Ada")

        assert [worker.is_live for worker in Worker.objects.all()] == [False]

    def test_the_callers_context_is_left_alone(self) -> None:
        ended_job(greet, "Ada")

        assert current_job() is None


@pytest.mark.django_db
class CrashAfterTests:
    def test_the_run_ends_there_and_the_next_one_goes_on(self) -> None:
        job = fulfil.enqueue("o1", amount=3)
        other = greet.enqueue("Ada")

        with crash_after("charge"):
            run_jobs()
        job.refresh()
        other.refresh()
        assert (job.state, other.state) == ("RUNNING", "READY")

        run_jobs()
        job.refresh()
        assert (job.return_value, Charge.objects.count()) == ("o1 paid 3", 2)

    @pytest.mark.parametrize("name", ["count#2", "count"])
    def test_a_name_or_an_identity_says_where(self, name: str) -> None:
        count = step(name="count")(lambda: Charge.objects.create(order_ref="x").pk)
        job = task(path="counting")(lambda: [count(), count(), count()]).enqueue()

        with crash_after(name):
            run_jobs()

        assert Charge.objects.count() == (2 if name == "count#2" else 1)
        assert resumed_job(job).state == "SUCCESSFUL"

    @pytest.mark.parametrize("name", ["gather/1/charge", "charge"])
    def test_a_step_of_a_branch_has_its_name_too(self, name: str) -> None:
        charge = step(name="charge")(lambda ref: Charge.objects.create(order_ref=ref).pk)
        job = task(path="testing.charging")(
            lambda: gather(lambda: charge("a"), lambda: charge("b"))
        ).enqueue()

        with crash_after(name):
            run_jobs()

        assert Charge.objects.count() == (2 if name == "gather/1/charge" else 1)
        assert resumed_job(job).state == "SUCCESSFUL"
        assert Charge.objects.count() == 2

    def test_a_step_that_is_never_saved_is_an_error_of_the_test(self) -> None:
        fulfil.enqueue("o1")

        with (
            pytest.raises(AssertionError, match='No step "chrage" was saved'),
            crash_after("chrage"),
        ):
            run_jobs()

    def test_may_be_repeated_until_poison(self) -> None:
        job = fulfil.enqueue("o1")
        with crash_after("charge"):
            run_jobs()
        with crash_after("reserve"):
            run_jobs()

        job = resumed_job(job)

        assert (job.state, job.lease_token, Charge.objects.count()) == ("SUCCESSFUL", 3, 2)


@pytest.mark.django_db
class AssertEnqueuedTests:
    def test_without_arguments_gives_the_newest_job(self) -> None:
        greet.enqueue("Ada")
        newest = greet.enqueue("Bob")

        assert assert_enqueued(greet) == newest

    def test_with_arguments_gives_the_call_with_just_these(self) -> None:
        job = greet.enqueue("Ada", greeting="Hi")
        greet.enqueue("Bob")

        assert assert_enqueued(greet, "Ada", "Hi") == job
        assert assert_enqueued(greet, greeting="Hi", name="Ada") == job

    def test_compares_instances_by_key(self) -> None:
        account = Account.objects.create(name="a")
        job = greet_account.enqueue(account)

        assert assert_enqueued(greet_account, account) == job

    def test_none_at_all_is_an_assertion_error(self) -> None:
        with pytest.raises(AssertionError, match=r"No job of tests\.test_testing\.greet was"):
            assert_enqueued(greet)

    def test_other_arguments_are_an_assertion_error_that_lists_the_calls(self) -> None:
        greet.enqueue("Ada")
        greet.enqueue("Bob", greeting="Hi")

        with pytest.raises(AssertionError) as caught:
            assert_enqueued(greet, "Cy")

        assert "'Cy'" in str(caught.value).splitlines()[0]
        assert all(part in str(caught.value) for part in ("'Ada'", "'Bob'", "'Hi'"))


class Notes:
    """The same in both of Django's kinds of test case."""

    def run_through(self: Any) -> None:
        seen: list[str] = []
        job = fulfil.enqueue("o1", amount=3)
        transaction.on_commit(lambda: seen.append("mine"))
        with crash_after("charge"):
            run_jobs()
        (done,) = run_jobs()

        self.assertEqual((done, done.return_value), (job, "o1 paid 3"))
        self.assertEqual(Charge.objects.count(), 2)
        assert_enqueued(fulfil, "o1", amount=3)


class DjangoTestCaseTests(Notes, TestCase):
    def test_works_inside_the_transaction_of_the_test(self) -> None:
        self.run_through()

    def test_leaves_nothing_to_the_next_test(self) -> None:
        self.assertEqual(Job.objects.count(), 0)

    def test_captured_callbacks_can_enqueue(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            transaction.on_commit(lambda: greet.enqueue("Ada"))

        self.assertEqual([job.return_value for job in run_jobs()], ["Hello Ada"])


class DjangoTransactionTestCaseTests(Notes, TransactionTestCase):
    def test_works_with_real_commits(self) -> None:
        self.run_through()
