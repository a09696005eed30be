"""Atomic tasks: the whole body and the job's outcome are one commit."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from django_durable import step, task
from django_durable.models import Job
from django_durable.testing import run_jobs
from tests.builders import HOUR, ended_job, error_of, policy, resumed_job
from tests.engine.test_atomic import charge, raised_by_server
from tests.sessions import second_session
from tests.testapp.models import Charge
from tests.testapp.tasks import fulfil


def outcome_task(body: Callable[[], Any], **options: Any) -> Any:
    """A task whose whole body is one transaction."""
    return task(path="whole", atomic=True, **options)(body)


@pytest.mark.django_db(transaction=True)
class AtomicTaskTests:
    def test_outcome_and_business_rows_appear_together(self) -> None:
        seen: list[tuple[int, str]] = []

        def look() -> None:
            with second_session() as session:
                found = session.execute(
                    "select (select count(*) from testapp_charge), state from durable_job"
                ).fetchone()
            assert found is not None
            seen.append(found)

        def body() -> int:
            key = charge()
            look()
            transaction.on_commit(look)
            return key

        job = ended_job(outcome_task(body))

        assert seen == [(0, "RUNNING"), (1, "SUCCESSFUL")]
        assert job.return_value == Charge.objects.get().pk

    def test_an_error_takes_the_writes_back_and_is_tried_again(self) -> None:
        fail = iter([True, False])

        def body() -> None:
            charge()
            if next(fail):
                raise OSError

        job = ended_job(outcome_task(body, retry=policy(2)))
        assert (job.state, job.attempt, Charge.objects.count()) == ("SCHEDULED", 2, 0)

        assert resumed_job(job, ahead=HOUR).state == "SUCCESSFUL"
        assert Charge.objects.count() == 1

    @pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
    def test_serialization_failures_are_repeated_at_once(self, sqlstate: str) -> None:
        planned = iter([raised_by_server(sqlstate)])

        def body() -> None:
            charge()
            next(planned, lambda: None)()

        job = ended_job(outcome_task(body))

        assert (job.state, job.attempt, Charge.objects.count()) == ("SUCCESSFUL", 1, 1)

    def test_a_return_value_that_cannot_be_stored_fails_it(self) -> None:
        job = ended_job(outcome_task(lambda: object() if charge() else None))

        assert (job.state, Charge.objects.count()) == ("FAILED", 0)
        assert "what it returned is lost" in error_of(job)["message"]

    def test_cancelling_takes_the_writes_back(self) -> None:
        def body() -> None:
            charge()
            with second_session() as session:
                session.execute("update durable_job set cancel_requested_at = now()")

        job = ended_job(outcome_task(body))

        assert (job.state, Charge.objects.count()) == ("CANCELLED", 0)

    def test_a_lost_lease_takes_the_writes_back(self) -> None:
        def body() -> None:
            charge()
            with second_session() as session:
                session.execute("update durable_job set lease_token = lease_token + 1")

        outcome_task(body).enqueue()
        run_jobs()

        assert Charge.objects.count() == 0

    def test_a_callback_that_raises_changes_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        def body() -> int:
            transaction.on_commit(lambda: 1 // 0)
            return charge()

        with caplog.at_level(logging.ERROR):
            job = ended_job(outcome_task(body, retry=policy(3)))

        assert (job.state, job.attempt) == ("SUCCESSFUL", 1)
        assert "committed, then raised" in caplog.text

    def test_jobs_enqueued_inside_belong_to_the_commit(self) -> None:
        fail = iter([True, False])

        def body() -> None:
            fulfil.using(queue_name="children").enqueue("child")
            if next(fail):
                raise OSError

        job = ended_job(outcome_task(body, retry=policy(2)))
        assert Job.objects.filter(queue_name="children").count() == 0

        resumed_job(job, ahead=HOUR)

        assert Job.objects.filter(queue_name="children", parent_id=job.pk).count() == 1

    def test_a_step_in_it_is_refused(self) -> None:
        inner = step(name="inner")(charge)

        job = ended_job(outcome_task(lambda: inner()))

        assert error_of(job)["type"] == "django_durable.exceptions.StepInTransactionError"
        assert Charge.objects.count() == 0
