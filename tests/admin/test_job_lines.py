"""The attempts and checkpoints on a job's page, and what the page costs."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client

from django_durable import enqueue
from django_durable.testing import run_jobs
from tests.admin import tasks
from tests.admin.acting import page_of, queries_of
from tests.admin.rows import (
    job_in,
    make_attempt,
    make_checkpoint,
    make_worker,
    page_url,
    text_of,
)

pytestmark = pytest.mark.django_db


class AttemptTests:
    def test_lists_runs_that_ended_badly_oldest_first(self, admin_client: Client) -> None:
        job = enqueue(tasks.try_again, "o-1")
        run_jobs()
        run_jobs(ahead=timedelta(hours=2))

        lines = admin_client.get(page_url(job)).context["attempts"].rows

        assert [line.number for line in lines] == [1, 2]
        assert "failed, tried again" in lines[0].outcome
        assert "<details><summary>tests.admin.tasks.DeclinedError: o-1</summary>" in lines[0].error
        assert "Traceback (most recent call last)" in lines[0].error

    def test_shows_one_whose_worker_was_lost(self, admin_client: Client) -> None:
        job = job_in("READY")
        make_attempt(job, outcome="LOST", error=None, claimed_at=None)

        (line,) = admin_client.get(page_url(job)).context["attempts"].rows

        assert "worker lost" in line.outcome
        assert (line.claimed, line.duration, line.error) == ("-", "-", None)

    def test_long_errors_are_cut_in_the_database(self, admin_client: Client) -> None:
        job = job_in("READY")
        make_attempt(job, error='{"type":"shop.Big","message":"%s"}' % ("y" * 500_000))

        page = page_of(admin_client, job)

        assert "shop.Big: yyy" in page
        assert "(500032 characters in all)" in page
        assert len(page) < 50_000

    def test_shows_the_latest_if_there_are_many(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_durable.admin.details.MOST_ROWS", 2)
        job = job_in("READY")
        for number in (1, 2, 3):
            make_attempt(job, attempt=number)

        response = admin_client.get(page_url(job))

        assert [line.number for line in response.context["attempts"].rows] == [2, 3]
        assert "There are earlier ones." in text_of(response)


class CheckpointTests:
    def test_are_listed_in_the_order_of_their_calls(self, admin_client: Client) -> None:
        job = job_in("RUNNING")
        for seq, identity in ((3, "a"), (1, "c"), (2, "b")):
            make_checkpoint(job, seq, identity=identity)

        lines = admin_client.get(page_url(job)).context["checkpoints"].lines

        assert [line.identity for line in lines] == ["c", "b", "a"]
        assert [line.duration for line in lines] == ["2.0 s"] * 3

    def test_show_kind_state_tries_value_and_error(self, admin_client: Client) -> None:
        job = enqueue(tasks.retry_step, "o-1")
        run_jobs()
        make_checkpoint(job, 2, kind="at_most_once", value='{"paid":3}')

        page = page_of(admin_client, job)

        assert "1 call_bank tried again later plain 1 20" in page
        assert "TimeoutError: the bank is closed" in page
        assert "Next try at 20" in page
        assert "2 step#2 successful at most once 1 20" in page
        assert '{"paid": 3}' in page

    def test_of_kinds_and_states_of_a_later_version_are_shown_as_they_are(
        self, admin_client: Client
    ) -> None:
        job = job_in("RUNNING")
        make_checkpoint(job, 1, kind="sleep")

        assert "step#1 successful sleep" in page_of(admin_client, job)

    def test_have_pages(self, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("django_durable.admin.details.CHECKPOINTS_PER_PAGE", 2)
        job = job_in("RUNNING")
        for seq in range(1, 6):
            make_checkpoint(job, seq)

        first = page_of(admin_client, job)
        last = page_of(admin_client, job, checkpoints="3")

        assert "step#2" in first
        assert "step#3" not in first
        assert "5 checkpoints" in first
        assert "step#5" in last
        assert "step#2" in page_of(admin_client, job, checkpoints="nonsense")

    def test_long_values_are_cut_in_the_database(self, admin_client: Client) -> None:
        job = job_in("RUNNING")
        make_checkpoint(job, 1, value='"%s"' % ("x" * 500_000))
        error = '{"type":"shop.Big","message":"%s","traceback":""}' % ("y" * 500_000)
        make_checkpoint(job, 2, state="FAILED", value=None, error=error)

        page = page_of(admin_client, job)

        *_, sql = (sql for sql in queries_of(admin_client, job) if "durable_checkpoint" in sql)
        assert 'LEFT(("durable_checkpoint"."value")::text, 2000)' in sql
        assert 'LEFT(("durable_checkpoint"."error")::text, 30000)' in sql
        assert "(500002 characters in all)" in page
        assert "shop.Big: yyy" in page
        assert "(500047 characters in all)" in page
        assert len(page) < 50_000


class CostTests:
    def test_the_number_of_queries_does_not_depend_on_the_rows(self, admin_client: Client) -> None:
        job = job_in("RUNNING", parent_id=uuid4(), origin="x")
        few = queries_of(admin_client, job)
        for number in range(1, 20):
            make_checkpoint(job, number)
            make_attempt(job, attempt=number, worker_id=make_worker().pk)
            job_in("READY", parent_id=job.pk, origin=f"enqueue#{number}")

        many = queries_of(admin_client, job)

        # session, user, job; progress; attempts; checkpoints' count; children; keys; worker; parent
        assert len(few) == 10
        # and once there are any: the attempts' workers; the checkpoints
        assert len(many) == 12

    def test_lists_are_read_no_further_than_they_are_shown(self, admin_client: Client) -> None:
        sent = queries_of(admin_client, job_in("READY"))

        assert sum(sql.endswith("LIMIT 51") for sql in sent) == 3  # attempts, children, keys

    def test_an_odd_row_costs_no_more(self, admin_client: Client) -> None:
        # a ready one's page reads whether its queue is paused
        assert len(queries_of(admin_client, job_in("READY", task_path="shop.gone"))) == 9
