"""A history that grows too long is warned of, then fails its job without losing anything."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client, override_settings

from django_durable import Task, enqueue, retry_job, sleep, step
from django_durable.models import Job
from django_durable.testing import run_jobs
from tests.admin.rows import page_url, text_of
from tests.builders import (
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    policy,
    redeployed,
    resumed_job,
)
from tests.management.console import typed

pytestmark = pytest.mark.django_db

DONE: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    DONE.clear()


@step
def work(number: int) -> int:
    DONE.append(number)
    return number


def give_back(number: int) -> None:
    DONE.append(-number)


@step(compensate=give_back)
def take(number: int) -> None:
    DONE.append(number)


def steps(count: int, **options: Any) -> Task[..., Any]:
    def run() -> int:
        return sum(work(number) for number in range(count))

    return redeployed("limits.steps", run, **options)


def limited(**limits: int) -> override_settings:
    return override_settings(DURABLE=limits)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record for record in caplog.records if "checkpoints" in record.getMessage()]
    return [r.getMessage() for r in found if r.levelno == logging.WARNING]


class HardLimitTests:
    def test_a_step_beyond_it_fails_the_job_for_good(self) -> None:
        with limited(MAX_CHECKPOINTS=3):
            job = ended_job(steps(5, retry=policy(4)))

        assert (job.state, job.attempt) == ("FAILED", 1)
        assert DONE == [0, 1, 2]
        error = error_of(job)
        assert error["type"] == "django_durable.exceptions.HistoryTooLongError"
        assert "has 3 checkpoints" in error["message"]
        assert "continue_as()" in error["message"]
        assert "map_task()" in error["message"]

    def test_as_many_as_allowed_are_fine(self) -> None:
        with limited(MAX_CHECKPOINTS=5):
            assert ended_job(steps(5)).state == "SUCCESSFUL"

    def test_nothing_is_lost_and_a_higher_limit_lets_it_go_on(self) -> None:
        with limited(MAX_CHECKPOINTS=3):
            job = ended_job(steps(5))
        assert len(checkpoints_of(job)) == 3

        assert resumed_job(retry_job(job)).state == "SUCCESSFUL"
        assert DONE == [0, 1, 2, 3, 4]

    def test_the_limit_itself_stays_when_it_is_retried_under_it(self) -> None:
        with limited(MAX_CHECKPOINTS=3):
            job = ended_job(steps(5))
            assert resumed_job(retry_job(job)).state == "FAILED"

        assert DONE == [0, 1, 2]

    def test_no_handler_of_the_task_can_go_on_from_it(self) -> None:
        def stubborn() -> str:
            for number in range(5):
                try:
                    work(number)
                except Exception:
                    DONE.append(-1)
            return "went on"

        with limited(MAX_CHECKPOINTS=2):
            job = ended_job(redeployed("limits.stubborn", stubborn))

        assert (job.state, DONE) == ("FAILED", [0, 1])

    def test_even_one_that_catches_everything(self) -> None:
        def stubborn() -> str:
            try:
                work(1)
                work(2)
            except BaseException:
                pass
            return "went on"

        with limited(MAX_CHECKPOINTS=1):
            job = ended_job(redeployed("limits.stubborn", stubborn))

        assert error_of(job)["type"].endswith("HistoryTooLongError")

    def test_a_wait_counts_as_a_step_does(self) -> None:
        def run() -> None:
            work(1)
            sleep(timedelta(hours=1))

        with limited(MAX_CHECKPOINTS=1):
            job = ended_job(redeployed("limits.sleeps", run))

        assert error_of(job)["type"].endswith("HistoryTooLongError")

    def test_a_wait_that_was_begun_can_end(self) -> None:
        def run() -> None:
            work(1)
            sleep(timedelta(hours=1))

        job = ended_job(redeployed("limits.sleeps", run))
        with limited(MAX_CHECKPOINTS=2):
            assert resumed_job(job, ahead=timedelta(hours=2)).state == "SUCCESSFUL"

    def test_what_is_recorded_replays_whatever_the_limit(self) -> None:
        job = crashed_job(steps(3), after="work#3")

        with limited(MAX_CHECKPOINTS=1):
            assert resumed_job(job).state == "SUCCESSFUL"

    def test_steps_are_undone_beyond_it(self) -> None:
        def run() -> None:
            for number in (1, 2, 3):
                take(number)

        with limited(MAX_CHECKPOINTS=2):
            job = ended_job(redeployed("limits.undoes", run))

        assert (job.state, DONE) == ("FAILED", [1, 2, -2, -1])
        assert error_of(job)["type"].endswith("HistoryTooLongError")


class SoftLimitTests:
    def test_is_warned_of_once_in_a_run(self, caplog: pytest.LogCaptureFixture) -> None:
        with limited(WARN_CHECKPOINTS=2):
            job = ended_job(steps(5))

        assert job.state == "SUCCESSFUL"
        (said,) = warnings(caplog)
        assert f"Job {job.pk} (limits.steps) has 2 checkpoints" in said
        assert "more than 10000" in said
        assert "continue_as()" in said

    def test_is_warned_of_in_each_run_that_goes_on(self, caplog: pytest.LogCaptureFixture) -> None:
        def run() -> None:
            for number in range(3):
                work(number)
                sleep(timedelta(hours=1))

        with limited(WARN_CHECKPOINTS=3):
            enqueue(redeployed("limits.loop", run))
            for _ in range(4):
                run_jobs(ahead=timedelta(hours=2))

        assert len(warnings(caplog)) == 2

    def test_a_short_history_is_not_mentioned(self, caplog: pytest.LogCaptureFixture) -> None:
        ended_job(steps(5))

        assert warnings(caplog) == []


class SeenTests:
    """People see it too, while the job is alive."""

    def waiting_job(self) -> Job:
        def run() -> None:
            work(1)
            sleep(timedelta(hours=1))

        return ended_job(redeployed("limits.waits", run))

    def test_on_the_command_line(self) -> None:
        job = self.waiting_job()

        with limited(WARN_CHECKPOINTS=2):
            assert "2 checkpoints; if it needs more than 10000 the job fails." in typed(
                "show", job.pk
            )
            resumed_job(job, ahead=timedelta(hours=2))
            assert "the job fails" not in typed("show", job.pk)
        assert "the job fails" not in typed("show", self.waiting_job().pk)

    def test_on_the_page_of_the_job(self, admin_client: Client) -> None:
        job = self.waiting_job()

        with limited(WARN_CHECKPOINTS=2, MAX_CHECKPOINTS=7):
            page = text_of(admin_client.get(page_url(job)))
        assert "2 checkpoints: if it needs more than 7, the job fails." in page
        assert "the job fails" not in text_of(admin_client.get(page_url(job)))
