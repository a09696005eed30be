"""Atomic steps and atomic tasks: writes and checkpoint, or outcome, are one commit."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import IntegrityError, OperationalError, connection, transaction

from django_durable import cancel_job, step, task
from django_durable.models import Checkpoint, Job
from django_durable.testing import run_jobs
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    policy,
    resumed_job,
)
from tests.sessions import second_session
from tests.testapp.models import Account, Charge
from tests.testapp.tasks import fulfil

BOTH = "select (select count(*) from testapp_charge), (select count(*) from durable_checkpoint)"


def charge(ref: str = "a") -> int:
    return Charge.objects.create(order_ref=ref).pk


def rows_seen_outside() -> tuple[int, int]:
    """How many charges and checkpoints another session sees."""
    with second_session() as session:
        found = session.execute(BOTH).fetchone()
    assert found is not None
    return found


def raised_by_server(sqlstate: str) -> Callable[[], None]:
    """Statements that the server fails with a code."""

    def fail() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"do $$ begin raise sqlstate '{sqlstate}'; end $$")

    return fail


def atomic_task(body: Callable[[], Any], **options: Any) -> Any:
    """A task with one atomic step of this body."""
    only = step(name="only", atomic=True, **options)(body)
    return task(path="atomic-only")(lambda: only())


@pytest.mark.django_db(transaction=True)
class CommitTests:
    def test_checkpoint_and_business_row_appear_together(self) -> None:
        seen: list[tuple[int, int]] = []

        def body() -> int:
            key = charge()
            seen.append(rows_seen_outside())
            return key

        job = ended_job(atomic_task(body))

        assert seen == [(0, 0)]
        assert rows_seen_outside() == (1, 1)
        assert job.state == "SUCCESSFUL"
        assert checkpoints_of(job)["only"].kind == "atomic"

    def test_an_error_takes_the_writes_back(self) -> None:
        def body() -> None:
            charge()
            raise ValueError("no stock")

        job = ended_job(atomic_task(body))

        assert job.state == "FAILED"
        assert Charge.objects.count() == 0
        assert checkpoints_of(job)["only"].state == "FAILED"

    def test_a_value_that_cannot_be_stored_takes_the_writes_back(self) -> None:
        def body() -> object:
            charge()
            return object()

        job = ended_job(atomic_task(body))

        assert job.state == "FAILED"
        assert Charge.objects.count() == 0
        assert "cannot be stored" in error_of(job)["message"]

    def test_a_swallowed_database_error_takes_everything_back(self) -> None:
        def body() -> None:
            charge()
            try:
                raised_by_server("22012")()
            except Exception:
                return

        job = ended_job(atomic_task(body))

        assert job.state == "FAILED"
        assert Charge.objects.count() == 0

    def test_it_is_not_run_again_after_a_crash(self) -> None:
        job = resumed_job(crashed_job(fulfil, "o1", after="reserve"))

        assert job.state == "SUCCESSFUL"
        assert Charge.objects.filter(order_ref="o1:reserved").count() == 1

    def test_a_step_may_be_tried_again(self) -> None:
        attempts = iter([True, False])

        def body() -> int:
            key = charge()
            if next(attempts):
                raise OSError
            return key

        job = ended_job(atomic_task(body, retry=policy(2)))

        assert (job.state, Charge.objects.count()) == ("SCHEDULED", 0)
        assert resumed_job(job, ahead=HOUR).state == "SUCCESSFUL"
        assert Charge.objects.count() == 1

    def test_jobs_enqueued_inside_belong_to_the_commit(self) -> None:
        fail = iter([True, False])

        def body() -> None:
            fulfil.using(queue_name="children").enqueue("child")
            if next(fail):
                raise OSError

        job = ended_job(atomic_task(body, retry=policy(2)))
        assert Job.objects.filter(queue_name="children").count() == 0

        resumed_job(job, ahead=HOUR)

        assert Job.objects.filter(queue_name="children", parent_id=job.pk).count() == 1

    def test_plain_steps_inside_belong_to_it(self) -> None:
        inner = step(name="inner")(charge)

        def body() -> None:
            inner()
            raise ValueError

        job = ended_job(atomic_task(body))

        assert Charge.objects.count() == 0
        assert list(checkpoints_of(job)) == ["only"]


@pytest.mark.django_db(transaction=True)
class RepetitionTests:
    @pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
    @pytest.mark.parametrize("failures", [1, 5])
    def test_serialization_failures_and_deadlocks_are_repeated_at_once(
        self, sqlstate: str, failures: int
    ) -> None:
        fail = raised_by_server(sqlstate)
        planned = iter([fail] * failures)

        def body() -> None:
            charge()
            next(planned, lambda: None)()

        job = ended_job(atomic_task(body))

        assert (job.state, job.attempt) == ("SUCCESSFUL", 1)
        assert checkpoints_of(job)["only"].attempt == 1
        assert Charge.objects.count() == 1

    def test_but_not_for_ever(self) -> None:
        job = ended_job(atomic_task(raised_by_server("40001")))

        assert job.state == "FAILED"
        assert "OperationalError" in (checkpoints_of(job)["only"].error or "")

    def test_other_database_errors_are_the_bodys_own(self) -> None:
        bodies: list[int] = []

        def body() -> None:
            bodies.append(charge())
            raised_by_server("23514")()

        assert ended_job(atomic_task(body)).state == "FAILED"
        assert len(bodies) == 1


@pytest.mark.django_db(transaction=True)
class OnCommitTests:
    def test_callbacks_run_once_after_the_commit(self) -> None:
        seen: list[tuple[int, int]] = []

        def body() -> None:
            charge()
            transaction.on_commit(lambda: seen.append(rows_seen_outside()))

        ended_job(atomic_task(body))

        assert seen == [(1, 1)]

    def test_one_that_raises_changes_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        def complain() -> None:
            raise OperationalError("the mail server, not the database")

        def body() -> int:
            transaction.on_commit(complain)
            charge()
            return 7

        job = ended_job(atomic_task(body))

        assert (job.state, job.attempt) == ("SUCCESSFUL", 1)
        assert Charge.objects.count() == 1
        assert "committed, then raised" in caplog.text

    def test_one_of_a_failed_body_never_runs(self) -> None:
        seen: list[int] = []

        def body() -> None:
            transaction.on_commit(lambda: seen.append(1))
            raise ValueError

        ended_job(atomic_task(body))

        assert seen == []


@pytest.mark.django_db(transaction=True)
class TakenOverTests:
    def test_a_body_whose_job_was_taken_over_commits_nothing(self) -> None:
        def body() -> None:
            charge()
            with second_session() as session:
                session.execute("update durable_job set lease_token = lease_token + 1")

        job = atomic_task(body).enqueue()
        run_jobs()

        assert (Charge.objects.count(), Checkpoint.objects.count()) == (0, 0)
        assert Job.objects.get(pk=job.pk).finished_at is None

    def test_a_recorded_value_is_adopted_and_the_writes_are_taken_back(self) -> None:
        bodies: list[int] = []

        def body() -> str:
            charge()
            bodies.append(1)
            with second_session() as session:
                session.execute(
                    "insert into durable_checkpoint (job_id, identity, seq, kind, state, function,"
                    " attempt, value, lease_token, started_at, saved_at) select id, 'only', 1,"
                    " 'atomic', 'SUCCESSFUL', '', 1, '\"first\"', 1, now(), now() from durable_job"
                )
            return "second"

        job = ended_job(atomic_task(body))

        assert job.return_value == "first"
        assert (len(bodies), Charge.objects.count()) == (1, 0)

    def test_an_error_at_the_commit_is_the_bodys_own(self) -> None:
        """A foreign key that is looked at when the transaction commits."""

        def body() -> None:
            Permission.objects.create(name="x", codename="x", content_type_id=12345)

        job = ended_job(atomic_task(body, raises=(IntegrityError,)))

        assert error_of(job)["type"] == "django.db.utils.IntegrityError"
        assert (job.state, checkpoints_of(job)["only"].state) == ("FAILED", "FAILED")


@pytest.mark.django_db
class InsideTestCaseTests:
    """Where the test's own transaction is around everything, it works the same."""

    def test_an_error_takes_only_the_steps_writes_back(self) -> None:
        Account.objects.create(name="before")

        def body() -> None:
            charge()
            raise ValueError

        job = ended_job(atomic_task(body))

        assert job.state == "FAILED"
        assert (Charge.objects.count(), Account.objects.count()) == (0, 1)

    def test_callbacks_run_after_the_job(self) -> None:
        seen: list[str] = []
        job = atomic_task(lambda: transaction.on_commit(lambda: seen.append("ran"))).enqueue()
        assert seen == []

        run_jobs()

        assert seen == ["ran"]
        assert Job.objects.get(pk=job.pk).state == "SUCCESSFUL"

    def test_a_cancelled_job_keeps_its_last_step(self) -> None:
        def body() -> int:
            Job.objects.update(cancel_requested_at="2030-01-01T00:00Z")
            return charge()

        job = ended_job(atomic_task(body))

        assert (job.state, Charge.objects.count()) == ("CANCELLED", 1)
        assert checkpoints_of(job)["only"].state == "SUCCESSFUL"
        with pytest.raises(Exception, match="It is finished"):
            cancel_job(job)
