"""A job that is woken for one thing leaves the times of others as they are."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import TestCase

from django_durable import (
    cancel_job,
    gather,
    retry_job,
    send_event,
    step,
    task,
    wait_for_event,
    wait_until,
    wake_job,
)
from django_durable.testing import run_jobs
from tests.builders import HOUR, ended_job, outcomes_of, policy, resumed_job

MINUTE = timedelta(minutes=1)
calls: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@step(retry=policy(3))
def refuses() -> None:
    calls.append("try")
    raise ConnectionError("not yet")


def looks() -> bool:
    calls.append("look")
    return False


def wait_for_many() -> None:
    for _ in range(100):
        wait_for_event("go")


@task(path="tests.retries_beside_events")
def retries_beside_events() -> Any:
    return gather(refuses, wait_for_many, return_exceptions=True)


@task(path="tests.looks_beside_events")
def looks_beside_events() -> Any:
    return gather(lambda: wait_until(looks, every=MINUTE, backoff=2), wait_for_many)


class PauseTests(TestCase):
    def test_a_steps_next_try_keeps_its_time(self) -> None:
        job = ended_job(retries_beside_events)
        due_at = job.due_at
        for _ in range(3):
            send_event(job, "go")
            run_jobs()

        job.refresh()
        assert calls == ["try"]
        assert outcomes_of(job) == ["STEP_RETRYING"]
        assert job.due_at == due_at
        assert "(try 1 of 3) and is tried again" in (job.wait_reason or "")

    def test_it_is_tried_when_its_time_has_come(self) -> None:
        job = ended_job(retries_beside_events)
        send_event(job, "go")
        run_jobs()
        run_jobs(ahead=HOUR)
        run_jobs(ahead=HOUR)

        assert calls == ["try"] * 3
        assert outcomes_of(job) == ["STEP_RETRYING"] * 2

    def test_whoever_wakes_the_job_lets_it_be_tried(self) -> None:
        job = ended_job(retries_beside_events)
        wake_job(job)
        run_jobs()

        assert calls == ["try"] * 2

    def test_so_does_who_retries_it(self) -> None:
        job = ended_job(retries_beside_events)
        cancel_job(job)
        retry_job(job)
        run_jobs()

        assert calls == ["try"] * 2

    def test_a_condition_is_looked_at_in_its_own_time(self) -> None:
        job = ended_job(looks_beside_events)
        due_at = job.due_at
        for _ in range(3):
            send_event(job, "go")
            run_jobs()
        job.refresh()
        assert calls == ["look"]
        assert job.due_at == due_at

        job = resumed_job(job, ahead=MINUTE)
        assert calls == ["look"] * 2
        assert job.due_at - due_at > MINUTE
