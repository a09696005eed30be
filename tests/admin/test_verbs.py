"""Retry and cancel of one job: what they do, and what is recorded and said."""

import re
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_durable import enqueue
from django_durable.models import Job, JobState
from django_durable.testing import crash_after, run_jobs
from tests.admin import tasks
from tests.admin.acting import RETRYABLE, entries, messages_of, state_of
from tests.admin.conftest import ClientFactory
from tests.admin.rows import job_in, page_url, text_of, verb_url

pytestmark = pytest.mark.django_db


class RetryTests:
    @pytest.mark.parametrize("state", JobState)
    def test_makes_failed_cancelled_and_blocked_jobs_ready(
        self, admin_client: Client, state: JobState
    ) -> None:
        job = job_in(state)

        response = admin_client.post(verb_url("retry", job), follow=True)

        assert state_of(job) == ("READY" if state in RETRYABLE else state)
        done = "Retried."
        refused = "Not retried: only failed, cancelled and blocked jobs are."
        assert messages_of(response) == [done if state in RETRYABLE else refused]
        assert entries() == ([(str(job.pk), done)] if state in RETRYABLE else [])

    def test_leads_back_to_the_job_with_the_filters_of_the_list(self, admin_client: Client) -> None:
        job = job_in("FAILED")
        filters = "?_changelist_filters=state%3DFAILED"

        page = admin_client.get(page_url(job) + filters).content.decode()
        response = admin_client.post(verb_url("retry", job) + filters)

        assert f'action="{verb_url("retry", job)}{filters}"' in page
        assert response["Location"] == page_url(job) + filters

    def test_goes_on_after_the_mended_step(self, admin_client: Client) -> None:
        job = enqueue(tasks.fail, "o-1")
        run_jobs()
        tasks.CODE.fails = False

        admin_client.post(verb_url("retry", job))
        run_jobs()

        assert state_of(job) == "SUCCESSFUL"

    def test_runs_an_interrupted_step_again_only_if_told_to(self, admin_client: Client) -> None:
        job = interrupted_job()
        assert "Run the interrupted step again" in text_of(admin_client.get(page_url(job)))

        admin_client.post(verb_url("retry", job))
        run_jobs()
        assert state_of(job) == "FAILED"
        admin_client.post(verb_url("retry", job), {"rerun_interrupted": "on"})
        run_jobs()

        assert state_of(job) == "SUCCESSFUL"
        assert [message for _, message in entries()] == [
            "Retried.",
            "Retried. The interrupted step may run again.",
        ]

    @pytest.mark.parametrize(
        "names", ["check_address", "check_address#2", " x \r\n check_address "]
    )
    def test_allows_new_steps_of_a_blocked_job(self, admin_client: Client, names: str) -> None:
        job = blocked_job()
        assert "New steps that may run" in text_of(admin_client.get(page_url(job)))

        admin_client.post(verb_url("retry", job), {"allow_new_steps": names})
        run_jobs()

        assert "check_address" in Job.objects.get(pk=job.pk).allowed_steps
        assert state_of(job) == "FAILED"  # past the new step, at the interrupted one
        assert "New steps allowed: " in entries()[0][1]

    def test_a_blocked_job_whose_step_is_not_allowed_is_blocked_again(
        self, admin_client: Client
    ) -> None:
        job = blocked_job()

        admin_client.post(verb_url("retry", job))
        run_jobs()

        assert state_of(job) == "WAITING"

    def test_refuses_names_that_cannot_be_stored(self, admin_client: Client) -> None:
        job = job_in("WAITING")

        response = admin_client.post(
            verb_url("retry", job), {"allow_new_steps": "a\x00b"}, follow=True
        )

        assert messages_of(response) == ["Null characters are not allowed."]
        assert state_of(job) == "WAITING"

    def test_offers_only_the_options_that_fit(self, admin_client: Client) -> None:
        page = text_of(admin_client.get(page_url(job_in("FAILED"))))

        assert "Run the interrupted step again" not in page
        assert "New steps that may run" not in page


class CancelTests:
    @pytest.mark.parametrize("state", ["READY", "SCHEDULED", "WAITING"])
    def test_ends_a_job_that_does_not_run(self, admin_client: Client, state: str) -> None:
        job = job_in(state)

        response = admin_client.post(verb_url("cancel", job), follow=True)

        assert state_of(job) == "CANCELLED"
        assert messages_of(response) == ["Cancelled."]
        assert entries() == [(str(job.pk), "Cancelled.")]

    def test_asks_a_running_job_to_stop(self, admin_client: Client) -> None:
        job = job_in("RUNNING")
        asked = "Asked to stop: it ends at its next durable point."

        response = admin_client.post(verb_url("cancel", job), follow=True)

        assert Job.objects.get().cancel_requested_at is not None
        assert messages_of(response) == [asked]
        assert entries() == [(str(job.pk), asked)]
        assert verb_url("cancel", job) not in response.content.decode()

    @pytest.mark.parametrize("state", ["SUCCESSFUL", "FAILED", "CANCELLED"])
    def test_leaves_a_finished_job(self, admin_client: Client, state: str) -> None:
        job = job_in(state)

        response = admin_client.post(verb_url("cancel", job), follow=True)

        assert state_of(job) == state
        assert messages_of(response) == ["Not cancelled: it was finished."]
        assert entries() == []


class OneJobTests:
    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    def test_says_that_a_job_is_gone(self, admin_client: Client, verb: str) -> None:
        url = verb_url(verb, Job(pk=uuid4()))

        response = admin_client.post(url, follow=True)

        assert "There is no such job: it was pruned, or never was." in messages_of(response)
        assert entries() == []

    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    def test_is_not_done_by_a_link(self, admin_client: Client, verb: str) -> None:
        job = job_in("FAILED" if verb == "retry" else "READY")
        before = job.state

        assert admin_client.get(verb_url(verb, job)).status_code == 405
        assert state_of(job) == before

    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    def test_is_not_done_from_another_site(self, staff_client: ClientFactory, verb: str) -> None:
        client = staff_client("view_job", f"{verb}_job", enforce_csrf_checks=True)
        job = job_in("WAITING")

        assert client.post(verb_url(verb, job)).status_code == 403
        client.get(page_url(job))
        token = client.cookies["csrftoken"].value
        assert client.post(verb_url(verb, job), {"csrfmiddlewaretoken": token}).status_code == 302

    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    def test_asks_strangers_to_log_in(self, client: Client, verb: str) -> None:
        job = job_in("WAITING")

        response = client.post(verb_url(verb, job))

        assert response["Location"].startswith("/admin/login/")
        assert state_of(job) == "WAITING"

    def test_each_button_carries_a_token(self, admin_client: Client) -> None:
        page = admin_client.get(page_url(job_in("WAITING"))).content.decode()

        forms = re.findall(
            r'(?s)<form method="post" action="[^"]*/(?:retry|cancel)/".*?</form>', page
        )
        assert len(forms) == 2
        assert all('name="csrfmiddlewaretoken"' in form for form in forms)

    def test_is_undone_if_it_cannot_be_recorded(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = job_in("FAILED")

        def fail(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("the log is full")

        monkeypatch.setattr(LogEntry.objects, "log_actions", fail)
        with pytest.raises(RuntimeError):
            admin_client.post(verb_url("retry", job))

        assert state_of(job) == "FAILED"


def interrupted_job() -> Job:
    """A job whose process died inside an at-most-once step, and which failed for that."""
    job = enqueue(tasks.post, "o-1")
    with crash_after("post_letter"):
        run_jobs()
    run_jobs()
    return job


def blocked_job() -> Job:
    """A job whose code has got a new step before one that is recorded."""
    job = enqueue(tasks.change, "o-1")
    with crash_after("post_letter"):
        run_jobs()
    tasks.CODE.has_new_step = True
    run_jobs()
    assert state_of(job) == "WAITING"
    return job
