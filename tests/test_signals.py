"""What receivers are told, and that they change nothing."""

from typing import Any

import pytest
from django.db import transaction

from django_durable import current_job, step, task
from django_durable.models import Job
from django_durable.signals import job_finished, job_started
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    policy,
    receiver_of,
    resumed_job,
)
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db


@step
def count() -> int:
    return Account.objects.count()


@task
def work() -> int:
    return count()


@task(retry=policy(2))
def fail() -> None:
    raise ValueError("always")


class ToldTests:
    @pytest.fixture
    def told(self) -> Any:
        """What the receivers of both signals hear."""
        heard: list[Any] = []

        def started(sender: str, job: Job, **_: Any) -> None:
            heard.append(("started", sender, job.pk, job.state))

        def finished(sender: str, job: Job, state: str, error: Any, **_: Any) -> None:
            heard.append(("finished", sender, job.pk, state, repr(error)))

        with receiver_of(job_started, started), receiver_of(job_finished, finished):
            yield heard

    def test_the_begin_and_the_end(self, told: list[Any]) -> None:
        job = ended_job(work)

        assert told == [
            ("started", work.path, job.pk, "RUNNING"),
            ("finished", work.path, job.pk, "SUCCESSFUL", "None"),
        ]

    def test_a_failure_comes_with_its_error_and_only_at_the_last_attempt(
        self, told: list[Any]
    ) -> None:
        job = ended_job(fail)
        assert [heard[0] for heard in told] == ["started"]

        resumed_job(job, ahead=HOUR)

        assert told[2:] == [("finished", fail.path, job.pk, "FAILED", "ValueError('always')")]

    def test_a_lost_lease_is_not_an_end(self, told: list[Any]) -> None:
        job = crashed_job(work, after="count")
        assert [heard[0] for heard in told] == ["started"]

        resumed_job(job)

        assert [heard[0] for heard in told] == ["started", "started", "finished"]

    def test_the_end_is_told_after_it_is_committed(self) -> None:
        seen: list[str] = []

        def look(job: Job, **_: Any) -> None:
            seen.append(Job.objects.get(pk=job.pk).state)

        with receiver_of(job_finished, look):
            ended_job(work)

        assert seen == ["SUCCESSFUL"]


def raises(**_: Any) -> None:
    raise RuntimeError("a broken receiver")


def breaks_its_transaction(**_: Any) -> None:
    with transaction.atomic():
        Account.objects.create(pk=1, name="a")
        Account.objects.create(pk=1, name="b")


def enqueues_and_steps(sender: str, **_: Any) -> None:
    assert current_job() is None
    count()
    if sender == work.path:
        fail.using(queue_name="told").enqueue()


class FaultyReceiverTests:
    @pytest.mark.parametrize("signal", [job_started, job_finished])
    @pytest.mark.parametrize("receiver", [raises, breaks_its_transaction])
    def test_changes_no_outcome_and_is_logged(
        self, signal: Any, receiver: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        with receiver_of(signal, receiver):
            job = ended_job(work)

        assert (job.state, job.return_value, job.attempt) == ("SUCCESSFUL", 0, 1)
        assert "A receiver of a signal failed" in caplog.text

    @pytest.mark.parametrize("signal", [job_started, job_finished])
    def test_a_receiver_that_exits_changes_no_outcome(self, signal: Any) -> None:
        def leave(**_: Any) -> None:
            raise SystemExit(3)

        with receiver_of(signal, leave):
            job = ended_job(work)

        assert job.state == "SUCCESSFUL"

    def test_a_receiver_that_rewrites_the_job_changes_no_outcome(self) -> None:
        def rewrite(job: Job, **_: Any) -> None:
            job.lease_token = 99

        with receiver_of(job_started, rewrite):
            job = ended_job(work)

        assert job.state == "SUCCESSFUL"

    @pytest.mark.parametrize("signal", [job_started, job_finished])
    def test_does_not_hide_the_others(self, signal: Any) -> None:
        heard: list[Any] = []

        def listen(job: Job, **_: Any) -> None:
            heard.append(job.pk)

        with receiver_of(signal, raises), receiver_of(signal, listen):
            job = ended_job(work)

        assert heard == [job.pk]

    @pytest.mark.parametrize("signal", [job_started, job_finished])
    def test_what_it_calls_is_no_part_of_the_job(self, signal: Any) -> None:
        with receiver_of(signal, enqueues_and_steps):
            job = ended_job(work)

        assert (job.state, list(checkpoints_of(job))) == ("SUCCESSFUL", ["count"])
        assert Job.objects.get(queue_name="told").parent_id is None
