"""Corners that are easily cut: each once was."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_durable import cancel_job, retry_job, step, task
from django_durable.testing import run_jobs
from tests.builders import crashed_job, ended_job, resumed_job, statements

pytestmark = pytest.mark.django_db


@task
def nothing() -> None: ...


class RetryTests:
    def test_an_operator_may_rerun_an_interrupted_step_of_a_cancelled_job(self) -> None:
        """Its checkpoint is still STARTED, not FAILED."""
        letter = step(name="letter", at_most_once=True)(lambda: "sent")
        job = cancel_job(crashed_job(task(path="post")(lambda: letter()), after="letter"))

        retry_job(resumed_job(job), rerun_interrupted=True)

        assert resumed_job(job).state == "SUCCESSFUL"


class RunTests:
    def test_the_queries_of_run_jobs_can_be_counted(self) -> None:
        """Nothing in a run throws away what ``assertNumQueries`` counts."""
        nothing.enqueue()

        with CaptureQueriesContext(connection) as captured, statements() as sent:
            run_jobs()

        assert len(captured) == len(sent)

    def test_an_endless_message_is_cut(self) -> None:
        def complain() -> None:
            raise ValueError("x" * 5_000_000)

        assert len(ended_job(task(path="complaining")(complain)).error or "") < 1_000_000
