"""Verbs that wait, by the engine's own rules in one process."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import TestCase

from django_durable import (
    emit_event,
    send_event,
    sleep,
    sleep_until,
    step,
    task,
    wait_for_event,
    wait_until,
)
from django_durable.exceptions import (
    InvalidOptionError,
    JobStateError,
    NotSerializableError,
    StepInTransactionError,
    TaskDefinitionError,
    WaitInStepError,
    WaitOutsideJobError,
)
from django_durable.models import Job, Message
from django_durable.testing import run_jobs
from tests.builders import HOUR, checkpoints_of, ended_job, error_of, resumed_job

calls: list[str] = []


@step
def note(text: str) -> str:
    calls.append(text)
    return text


@task
def sleeps(duration: timedelta) -> str:
    note("before")
    sleep(duration)
    return note("after")


@task
def waits_for(name: str, timeout: timedelta | None = None) -> Any:
    event = wait_for_event(name, timeout=timeout)
    return "timed out" if event is None else event.payload


@task
def waits_for_key(key: str, timeout: timedelta | None = None) -> Any:
    event = wait_for_event(key=key, timeout=timeout)
    return "timed out" if event is None else event.payload


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


class SleepTests(TestCase):
    def test_a_sleeping_job_holds_nothing_and_goes_on_when_it_is_time(self) -> None:
        job = ended_job(sleeps, HOUR)
        assert (job.state, job.wait_kind) == ("WAITING", "timer")
        assert job.wait_reason == "sleeps for 1:00:00"
        assert job.worker_id is None

        assert resumed_job(job).state == "WAITING"
        assert resumed_job(job, ahead=HOUR).state == "SUCCESSFUL"
        assert calls == ["before", "after"]
        assert checkpoints_of(job)["sleep"].state == "SUCCESSFUL"

    def test_a_wake_up_before_time_starts_nothing_over(self) -> None:
        job = ended_job(sleeps, HOUR)
        deadline = checkpoints_of(job)["sleep"].next_attempt_at
        Job.objects.filter(pk=job.pk).update(
            state="READY", wait_kind=None, due_at=datetime(2020, 1, 1, tzinfo=UTC)
        )
        job = resumed_job(job)
        assert (job.state, job.due_at) == ("WAITING", deadline)
        assert job.wait_deadline_at == deadline

    def test_no_time_at_all_is_no_suspension(self) -> None:
        job = ended_job(sleeps, timedelta(0))
        assert (job.state, job.lease_token) == ("SUCCESSFUL", 1)

    def test_until_a_moment(self) -> None:
        @task(path="tests.until")
        def until(moment: datetime) -> str:
            sleep_until(moment)
            return "done"

        assert ended_job(until, datetime(2020, 1, 1, tzinfo=UTC)).state == "SUCCESSFUL"
        later = ended_job(until, datetime(2098, 1, 1, tzinfo=UTC))
        assert later.due_at == datetime(2098, 1, 1, tzinfo=UTC)


class MailboxTests(TestCase):
    def test_events_are_taken_in_order_each_once(self) -> None:
        @task(path="tests.three")
        def three() -> list[Any]:
            return [wait_for_event("n").payload for _ in range(3)]  # type: ignore[union-attr]

        job = three.enqueue()
        send_event(job, "n", 1)
        send_event(job, "n", None)
        assert resumed_job(job).wait_reason == 'waits for event "n"'
        send_event(job, "n", 3)
        job.refresh()
        assert job.state == "READY"
        assert resumed_job(job).return_value == [1, None, 3]

    def test_the_same_key_is_sent_once(self) -> None:
        job = waits_for.enqueue("n")
        for _ in range(2):
            send_event(job, "n", "x", idempotency_key="k")
        assert resumed_job(job).return_value == "x"

    def test_a_timeout_is_an_outcome_and_a_null_is_not(self) -> None:
        timed_out = ended_job(waits_for, "n", HOUR)
        told = ended_job(waits_for, "n", HOUR)
        send_event(told, "n", None)
        run_jobs(ahead=2 * HOUR)
        told.refresh()
        assert resumed_job(timed_out).return_value == "timed out"
        assert told.return_value is None

    def test_a_finished_or_unknown_job_takes_no_event(self) -> None:
        job = waits_for.enqueue("n")
        Job.objects.filter(pk=job.pk).update(
            state="CANCELLED", finished_at=datetime.now(UTC), worker_id=None
        )
        with pytest.raises(JobStateError, match="cannot be sent an event: it is CANCELLED"):
            send_event(job, "n")

    def test_a_replayed_send_is_no_error_when_its_target_has_ended_or_is_gone(self) -> None:
        @task(path="tests.sends")
        def sends(target: str, naps: int) -> str:
            send_event(target, "n", 1)
            for _ in range(naps):
                sleep(HOUR)
            return "sent"

        for is_gone in (False, True):
            target = waits_for.enqueue("n")
            sender = ended_job(sends, str(target.pk), 1)
            target.refresh()
            assert target.state == "SUCCESSFUL"
            if is_gone:
                Message.objects.filter(job_id=target.pk).delete()
                Job.objects.filter(pk=target.pk).delete()
            assert resumed_job(sender, ahead=HOUR).return_value == "sent"

    def test_a_repeated_key_is_no_error_when_the_job_has_ended(self) -> None:
        job = waits_for.enqueue("n")
        send_event(job, "n", "x", idempotency_key="k")
        assert resumed_job(job).state == "SUCCESSFUL"
        send_event(job, "n", "x", idempotency_key="k")

    def test_what_cannot_be_stored_is_refused(self) -> None:
        job = waits_for.enqueue("n")
        with pytest.raises(NotSerializableError, match="the payload"):
            send_event(job, "n", object())


class BroadcastTests(TestCase):
    def test_all_who_wait_get_it_and_all_who_come_later(self) -> None:
        waiting = [ended_job(waits_for_key, "rates/1") for _ in range(2)]
        emit_event("rates/1", {"eur": 1})
        emit_event("rates/1", {"eur": 2})
        late = waits_for_key.enqueue("rates/1")
        run_jobs()
        for job in [*waiting, late]:
            job.refresh()
            assert job.return_value == {"eur": 1}

    def test_it_times_out(self) -> None:
        job = ended_job(waits_for_key, "never", HOUR)
        assert resumed_job(job, ahead=HOUR).return_value == "timed out"


class ConditionTests(TestCase):
    def test_it_is_asked_until_it_is_true(self) -> None:
        answers = [0, 0, 7]

        @task(path="tests.polls")
        def polls() -> int | None:
            return wait_until(lambda: answers.pop(0), every=HOUR, backoff=2)

        job = ended_job(polls)
        assert (job.state, job.wait_kind) == ("WAITING", "condition")
        assert resumed_job(job, ahead=HOUR).state == "WAITING"
        assert resumed_job(job, ahead=HOUR).state == "WAITING"
        assert resumed_job(job, ahead=HOUR).return_value == 7

    def test_it_times_out(self) -> None:
        @task(path="tests.polls")
        def polls() -> int | None:
            return wait_until(lambda: 0, every=10 * HOUR, timeout=2 * HOUR)

        job = ended_job(polls)
        job = resumed_job(job, ahead=2 * HOUR)
        assert (job.state, job.return_value) == ("SUCCESSFUL", None)


class BadInputTests(TestCase):
    def test_waiting_where_nothing_can_wait(self) -> None:
        with pytest.raises(WaitOutsideJobError, match=r"sleep\(\) was called outside a job"):
            sleep(HOUR)

        @step
        def waiting_step() -> None:
            sleep(HOUR)

        @task(path="tests.in_step")
        def in_step() -> None:
            waiting_step()

        assert WaitInStepError.__name__ in error_of(ended_job(in_step))["message"]

    def test_in_a_transaction(self) -> None:
        from django.db import transaction

        @task(path="tests.in_transaction")
        def in_transaction() -> None:
            with transaction.atomic():
                sleep(HOUR)

        assert StepInTransactionError.__name__ in error_of(ended_job(in_transaction))["type"]

    def test_bad_times_and_names(self) -> None:
        for refused in (
            lambda: sleep(timedelta(-1)),
            lambda: sleep_until(datetime(2030, 1, 1)),  # noqa: DTZ001 (naive on purpose)
            lambda: wait_for_event(),
            lambda: wait_for_event("a", key="b"),
            lambda: wait_for_event("a", timeout=timedelta(-1)),
            lambda: wait_until(bool, every=timedelta(0)),
            lambda: emit_event(" "),
        ):
            with pytest.raises(InvalidOptionError):
                refused()
        with pytest.raises(TaskDefinitionError):
            wait_for_event("a/b")
