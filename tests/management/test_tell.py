"""``durable send``, ``emit`` and ``wake``; and what ``explain`` and ``show`` say of waits."""

from datetime import timedelta
from typing import Any

from django.test import TestCase

from django_durable import sleep, task, wait_for_event
from django_durable.engine.states import FOREVER
from tests.builders import HOUR, ended_job, resumed_job
from tests.management.console import refused, typed

NEVER = f"{FOREVER:%Y-%m-%d}"


@task
def waits_for(name: str, timeout: timedelta | None = None) -> Any:
    event = wait_for_event(name, timeout=timeout)
    return None if event is None else event.payload


@task
def waits_for_key(key: str) -> Any:
    event = wait_for_event(key=key)
    return None if event is None else event.payload


@task
def sleeps(duration: timedelta) -> str:
    sleep(duration)
    return "awake"


class SendTests(TestCase):
    def test_the_job_gets_the_payload(self) -> None:
        job = ended_job(waits_for, "approved")
        text = typed("send", str(job.pk), "approved", "--payload", '{"by": "anna"}')
        assert f'Sent event "approved" to job {job.pk}, which is READY.' in text
        assert resumed_job(job).return_value == {"by": "anna"}

    def test_a_repeated_send_with_a_key_is_one(self) -> None:
        job = ended_job(waits_for, "approved")
        for _ in range(2):
            typed("send", str(job.pk), "approved", "--idempotency-key", "k")
        assert resumed_job(job).state == "SUCCESSFUL"

    def test_refusals(self) -> None:
        job = ended_job(sleeps, timedelta(0))
        assert "cannot be sent an event: it is SUCCESSFUL" in refused("send", str(job.pk), "a")
        assert "There is no job" in refused("send", "1234", "a")
        assert "no JSON value" in refused("send", str(job.pk), "a", "--payload", "{")
        assert "must not contain '/'" in refused("send", str(job.pk), "a/b")


class EmitTests(TestCase):
    def test_everybody_who_waits_gets_it(self) -> None:
        job = ended_job(waits_for_key, "rates/1")
        typed("emit", "rates/1", "--payload", "[1, 2]")
        assert resumed_job(job).return_value == [1, 2]


class WakeTests(TestCase):
    def test_a_sleeping_job_goes_on(self) -> None:
        job = ended_job(sleeps, HOUR)
        assert "READY" in typed("wake", str(job.pk))
        assert resumed_job(job).return_value == "awake"

    def test_a_scheduled_job_goes_on(self) -> None:
        job = sleeps.using(delay=HOUR).enqueue(timedelta(0))
        typed("wake", str(job.pk))
        assert resumed_job(job).return_value == "awake"

    def test_what_neither_sleeps_nor_is_scheduled_is_refused(self) -> None:
        job = ended_job(waits_for, "approved")
        assert "cannot be woken: it is WAITING" in refused("wake", str(job.pk))
        assert resumed_job(job).state == "WAITING"


class WordsTests(TestCase):
    def test_a_wait_is_said_with_its_times_and_its_cure(self) -> None:
        job = ended_job(waits_for, "approved", HOUR)
        text = typed("explain", str(job.pk))
        assert 'It waits for event "approved" since ' in text
        assert "times out " in text
        assert f"manage.py durable send {job.pk} approved" in text
        shown = typed("show", str(job.pk))
        assert 'waits for event "approved" since ' in shown
        assert NEVER not in shown

    def test_an_untimed_wait_names_no_year_9999(self) -> None:
        job = ended_job(waits_for_key, "rates/1")
        text = typed("explain", str(job.pk))
        assert "manage.py durable emit rates/1" in text
        assert NEVER not in text + typed("show", str(job.pk)) + typed("list")
