"""Finding, cancelling and retrying jobs, one and many."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from django_durable import (
    acancel_job,
    aget_job,
    aretry_job,
    cancel_job,
    current_job,
    get_job,
    retry_job,
    step,
    task,
)
from django_durable import jobs as verbs
from django_durable.exceptions import JobNotFoundError, JobStateError
from django_durable.jobs import BulkResult, cancel_jobs, retry_jobs
from django_durable.models import Job, JobQuerySet
from django_durable.testing import run_jobs
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    outcomes_of,
    policy,
    resumed_job,
    rewritten_job,
    statements,
)
from tests.testapp.models import Charge
from tests.testapp.tasks import fulfil

pytestmark = pytest.mark.django_db


@step
def note(ref: str) -> None:
    Charge.objects.create(order_ref=ref)


@task
def nothing() -> None: ...


@task
def fail() -> None:
    raise ValueError("always")


@task
def cancel_myself() -> str:
    note("before")
    cancel_job(current_job() or "")
    note("last")
    note("never")
    return "done"


def job_in(state: str) -> Job:
    """A job in a state, brought there as users bring it there where that is possible."""
    builders: dict[str, Callable[[], Job]] = {
        "READY": nothing.enqueue,
        "SCHEDULED": nothing.using(delay=HOUR).enqueue,
        "RUNNING": lambda: crashed_job(fulfil, "o", after="charge"),
        "WAITING": lambda: rewritten_job(
            nothing.enqueue(), state="WAITING", wait_kind="blocked", wait_reason="why"
        ),
        "SUCCESSFUL": lambda: ended_job(nothing),
        "FAILED": lambda: ended_job(fail),
        "CANCELLED": lambda: cancel_job(nothing.enqueue()),
    }
    job = builders[state]()
    assert job.state == state
    return job


class FindTests:
    def test_a_job_is_found_by_its_id_in_any_spelling(self) -> None:
        job = nothing.enqueue()

        assert get_job(job.pk) == get_job(str(job.pk)) == get_job(job.pk.hex.upper()) == job

    @pytest.mark.parametrize("garbage", ["", " ", "nonsense", "123", "\x00", "\ud800", "0" * 33])
    @pytest.mark.parametrize("verb", [get_job, cancel_job, retry_job])
    def test_garbage_is_no_job(self, verb: Any, garbage: Any) -> None:
        with pytest.raises(JobNotFoundError, match="There is no job"):
            verb(garbage)

    @pytest.mark.parametrize("verb", [get_job, cancel_job, retry_job])
    def test_an_unknown_id_is_no_job(self, verb: Any) -> None:
        unknown = uuid4()

        with pytest.raises(JobNotFoundError, match=str(unknown)):
            verb(unknown)


class CancelTests:
    @pytest.mark.parametrize("state", ["READY", "SCHEDULED", "WAITING"])
    def test_one_that_does_not_run_ends_at_once(self, state: str) -> None:
        job = cancel_job(job_in(state))

        assert (job.state, job.status, job.is_finished) == ("CANCELLED", "FAILED", True)
        assert job.finished_at is not None
        assert (job.wait_kind, job.wait_reason) == (None, None)
        assert run_jobs(ahead=HOUR) == []

    def test_a_running_one_is_asked_and_ends_when_it_is_taken_up(self) -> None:
        job = cancel_job(job_in("RUNNING"))
        assert (job.state, job.finished_at) == ("RUNNING", None)
        assert job.cancel_requested_at is not None

        assert resumed_job(job).state == "CANCELLED"
        assert Charge.objects.filter(order_ref="o:reserved").count() == 0

    def test_a_running_body_stops_at_its_next_durable_point_which_is_saved(self) -> None:
        job = ended_job(cancel_myself)

        assert job.state == "CANCELLED"
        assert [row.order_ref for row in Charge.objects.order_by("pk")] == ["before", "last"]
        assert list(checkpoints_of(job)) == ["note", "note#2"]
        assert outcomes_of(job) == ["CANCELLED"]

    @pytest.mark.parametrize("ending", ["returns", "raises", "is tried again"])
    def test_a_running_body_without_another_durable_point_is_cancelled_at_its_end(
        self, ending: str
    ) -> None:
        def body() -> None:
            cancel_job(current_job() or "")
            if ending != "returns":
                raise ValueError

        tries = 2 if ending == "is tried again" else 1
        job = ended_job(task(path="ending", retry=policy(tries))(body))

        assert job.state == "CANCELLED"
        assert resumed_job(job, ahead=HOUR).state == "CANCELLED"

    def test_a_step_that_would_be_tried_again_is_not(self) -> None:
        @step(retry=policy(3))
        def broken() -> None:
            cancel_job(current_job() or "")
            raise OSError

        job = ended_job(task(path="broken")(lambda: broken()))

        assert job.state == "CANCELLED"
        assert job.finished_at is not None

    @pytest.mark.parametrize("state", ["SUCCESSFUL", "FAILED", "CANCELLED"])
    def test_a_finished_one_is_left_alone_and_that_is_said(self, state: str) -> None:
        job = job_in(state)
        before = Job.objects.filter(pk=job.pk).values().get()

        with pytest.raises(JobStateError, match=f"cannot be cancelled: it is {state}. It is fin"):
            cancel_job(job)

        assert Job.objects.filter(pk=job.pk).values().get() == before

    def test_twice_while_running_keeps_the_first_request(self) -> None:
        first = cancel_job(job_in("RUNNING"))

        assert cancel_job(first).cancel_requested_at == first.cancel_requested_at


class RetryTests:
    @pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
    def test_an_ended_one_gets_a_new_attempt(self, state: str) -> None:
        before = job_in(state)

        job = retry_job(before)

        assert (job.state, job.attempt, job.attempt_base) == ("READY", 2, 1)
        assert (job.finished_at, job.cancel_requested_at) == (None, None)
        assert job.due_at <= timezone.now() + timedelta(minutes=1)

    @pytest.mark.parametrize("state", ["READY", "SCHEDULED", "RUNNING", "SUCCESSFUL"])
    def test_any_other_is_refused(self, state: str) -> None:
        job = job_in(state)

        with pytest.raises(JobStateError, match=f"cannot be retried: it is {state}. Only failed"):
            retry_job(job)

        assert get_job(job.pk).attempt == 1

    def test_a_second_retry_is_refused(self) -> None:
        job = retry_job(job_in("FAILED"))

        with pytest.raises(JobStateError):
            retry_job(job)

    def test_max_attempts_counts_anew(self) -> None:
        twice = task(path="twice", retry=policy(2))(lambda: 1 // 0)
        job = resumed_job(ended_job(twice), ahead=HOUR)
        assert (job.state, job.attempt) == ("FAILED", 2)

        retry_job(job)

        states = [resumed_job(job, ahead=HOUR).state for _ in range(2)]
        assert (states, job.attempt) == (["SCHEDULED", "FAILED"], 4)

    def test_it_goes_on_from_the_step_that_failed(self) -> None:
        broken = [True]

        @step
        def fragile() -> None:
            note("fragile")
            if broken:
                raise OSError

        @task(path="three-parts")
        def three_parts() -> None:
            note("before")
            fragile()
            note("after")

        job = ended_job(three_parts)
        broken.clear()

        retry_job(job)

        assert resumed_job(job).state == "SUCCESSFUL"
        assert [row.order_ref for row in Charge.objects.order_by("pk")] == [
            "before", "fragile", "fragile", "after",
        ]  # fmt: skip

    def test_a_failure_that_the_task_went_on_from_replays(self) -> None:
        failing = step(name="failing")(lambda: note("try") or 1 // 0)
        broken = [True]

        @task(path="tolerant")
        def tolerant() -> str:
            try:
                failing()
            except Exception as error:
                caught = type(error).__name__
            note("went on")
            if broken:
                raise ValueError
            return caught

        job = ended_job(tolerant)
        broken.clear()
        retry_job(job)

        assert resumed_job(job).return_value == "StepFailedError"
        assert Charge.objects.filter(order_ref="try").count() == 1

    def test_an_automatic_attempt_runs_the_failed_step_again_too(self) -> None:
        tries = iter([True, False])

        @step
        def fragile() -> str:
            if next(tries):
                raise OSError
            return "at last"

        job = ended_job(task(path="again", retry=policy(2))(lambda: fragile()))
        assert (job.state, checkpoints_of(job)) == ("SCHEDULED", {})

        assert resumed_job(job, ahead=HOUR).return_value == "at last"


class BulkTests:
    def all_states(self) -> JobQuerySet:
        """A job in each state; running ones last, or running the others would end them."""
        for state in ("SUCCESSFUL", "FAILED", "CANCELLED", "RUNNING", "SCHEDULED", "WAITING"):
            job_in(state)
        job_in("READY")
        return Job.objects.all()

    def test_cancelling_reports_both_counts(self) -> None:
        assert cancel_jobs(self.all_states()) == BulkResult(changed=4, unchanged=3)

        assert Job.objects.filter(state="CANCELLED").count() == 4
        assert Job.objects.get(state="RUNNING").cancel_requested_at is not None

    def test_retrying_reports_both_counts(self) -> None:
        assert retry_jobs(self.all_states()) == BulkResult(changed=3, unchanged=4)

        assert not Job.objects.filter(state__in=["FAILED", "CANCELLED", "WAITING"]).exists()
        assert Job.objects.get(state="SUCCESSFUL").attempt == 1

    def test_an_empty_queryset_is_fine(self) -> None:
        assert cancel_jobs(Job.objects.none()) == BulkResult(0, 0)

    def test_a_filter_that_the_verb_itself_changes_is_walked_through_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verbs, "BULK_CHUNK", 3)
        for _ in range(10):
            nothing.enqueue()

        with statements() as sent:
            result = cancel_jobs(Job.objects.ready())

        assert result == BulkResult(10, 0)
        assert sum("update durable_job" in sql for sql in sent) == 4

    def test_rows_outside_the_queryset_are_not_touched(self) -> None:
        other = nothing.using(queue_name="other").enqueue()
        nothing.enqueue()

        cancel_jobs(Job.objects.filter(queue_name="default").order_by("-priority"))

        assert [job.pk for job in Job.objects.ready()] == [other.pk]


class JobAttributeTests:
    @pytest.mark.parametrize(
        ("state", "status"),
        [
            ("READY", "READY"), ("SCHEDULED", "READY"), ("WAITING", "READY"),
            ("RUNNING", "RUNNING"), ("SUCCESSFUL", "SUCCESSFUL"), ("FAILED", "FAILED"),
            ("CANCELLED", "FAILED"),
        ],
    )  # fmt: skip
    def test_status_speaks_djangos_four_words(self, state: str, status: str) -> None:
        assert job_in(state).status == status

    @pytest.mark.parametrize("state", ["READY", "RUNNING", "FAILED", "CANCELLED"])
    def test_only_a_successful_job_has_a_return_value(self, state: str) -> None:
        job = job_in(state)

        with pytest.raises(JobStateError, match="asked for its return value"):
            _ = job.return_value

    def test_errors_are_listed_oldest_first_with_class_and_traceback(self) -> None:
        errors = iter([KeyError("first"), ValueError("second")])

        def body() -> None:
            raise next(errors)

        job = resumed_job(ended_job(task(path="failing", retry=policy(2))(body)), ahead=HOUR)

        assert [error.exception_class for error in job.errors] == [KeyError, ValueError]
        assert [error.message for error in job.errors] == ["'first'", "second"]
        assert "raise next(errors)" in job.errors[0].traceback
        assert len(job.worker_ids) == 2

    def test_refresh_looks_again(self) -> None:
        job = fail.enqueue()
        assert job.errors == []
        run_jobs()

        job.refresh()

        assert (job.state, len(job.errors), job.attempts) == ("FAILED", 1, 1)
        assert error_of(job)["message"] == "always"


class AsyncVerbTests:
    def test_they_do_the_same(self) -> None:
        job = nothing.enqueue()

        async def round_trip() -> list[Any]:
            cancelled = await acancel_job(job)
            retried = await aretry_job(job.pk)
            await job.arefresh()
            return [cancelled.state, retried.state, (await aget_job(str(job.pk))).pk]

        assert async_to_sync(round_trip)() == ["CANCELLED", "READY", job.pk]
        assert job.state == "READY"
