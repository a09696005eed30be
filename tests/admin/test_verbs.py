"""Retry and cancel: who may, what it does, what is recorded and said."""

import logging
import re
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve

from django_durable import enqueue, jobs
from django_durable.admin import verbs
from django_durable.models import Job, JobState
from django_durable.testing import crash_after, run_jobs
from tests.admin import tasks
from tests.admin.conftest import ClientFactory
from tests.admin.rows import job_in, list_url, make_checkpoint, page_url, text_of, verb_url

pytestmark = pytest.mark.django_db

RETRYABLE = {JobState.FAILED, JobState.CANCELLED, JobState.WAITING}


def act(client: Client, verb: str, *selected: Job, **more: str) -> HttpResponse:
    """Run a list's action on jobs; the page that follows."""
    data = {
        "action": f"{verb}_selected",
        "index": "0",
        "_selected_action": [j.pk for j in selected],
    }
    filters = more.pop("filters", "")
    return client.post(f"{list_url()}{filters}", data | more, follow=True)


def messages_of(response: HttpResponse) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def entries() -> list[tuple[str | None, str]]:
    """Object and message of each entry in the admin's log, oldest first."""
    rows = LogEntry.objects.order_by("pk")
    return [(row.object_id, row.get_change_message()) for row in rows]


def state_of(job: Job) -> str:
    return Job.objects.get(pk=job.pk).state


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


class PermissionTests:
    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    @pytest.mark.parametrize("held", [("view_job",), ("view_job", "other"), ("this",), ()])
    def test_a_single_verb_is_refused_and_recorded(
        self,
        staff_client: ClientFactory,
        caplog: pytest.LogCaptureFixture,
        verb: str,
        held: tuple[str, ...],
    ) -> None:
        names = {"this": f"{verb}_job", "other": "cancel_job" if verb == "retry" else "retry_job"}
        client = staff_client(*(names.get(name, name) for name in held))
        job = job_in("WAITING")

        assert client.post(verb_url(verb, job)).status_code == 403

        assert state_of(job) == "WAITING"
        assert refusals(caplog) == [f"Refused: user ida may not {verb} job {job.pk}."]

    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    @pytest.mark.parametrize("across", ["0", "1"])
    def test_an_action_is_refused_and_recorded(
        self,
        staff_client: ClientFactory,
        caplog: pytest.LogCaptureFixture,
        verb: str,
        across: str,
    ) -> None:
        other = "cancel_job" if verb == "retry" else "retry_job"
        for number, held in enumerate([(), (other,)]):
            client = staff_client("view_job", *held, username=f"user-{number}")
            job = job_in("WAITING")

            assert act(client, verb, job, select_across=across).status_code == 403
            assert state_of(job) == "WAITING"

        assert refusals(caplog) == [
            f"Refused: user user-{number} may not {verb} selected jobs." for number in (0, 1)
        ]

    def test_refusals_carry_the_user_and_the_permission(
        self, staff_client: ClientFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        staff_client("view_job").post(verb_url("retry", job_in("FAILED")))

        (record,) = (r for r in caplog.records if r.name == "django_durable")
        assert record.levelno == logging.WARNING
        assert record.__dict__["user_id"] == User.objects.get().pk
        assert record.__dict__["permission"] == "durable.retry_job"

    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    def test_the_permission_of_the_verb_suffices(
        self, staff_client: ClientFactory, verb: str
    ) -> None:
        client = staff_client("view_job", f"{verb}_job")
        job, other = job_in("WAITING"), job_in("WAITING")

        client.post(verb_url(verb, job))
        act(client, verb, other)

        after = "READY" if verb == "retry" else "CANCELLED"
        assert [state_of(job), state_of(other)] == [after, after]

    def test_only_permitted_verbs_are_offered(self, staff_client: ClientFactory) -> None:
        client = staff_client("view_job", "cancel_job")
        job = job_in("WAITING")

        form = client.get(list_url()).context["action_form"]
        page = client.get(page_url(job)).content.decode()

        assert [name for name, _ in form.fields["action"].choices if name] == ["cancel_selected"]
        assert f'action="{verb_url("cancel", job)}"' in page
        assert verb_url("retry", job) not in page
        assert "New steps that may run" not in page

    def test_deleting_is_not_offered(self, admin_client: Client) -> None:
        job = job_in("READY")
        form = admin_client.get(list_url()).context["action_form"]

        act_delete = {"action": "delete_selected", "index": "0", "_selected_action": [job.pk]}
        admin_client.post(list_url(), act_delete | {"post": "yes"})

        names = [name for name, _ in form.fields["action"].choices if name]
        assert names == ["retry_selected", "cancel_selected"]
        assert Job.objects.exists()


class ManyJobsTests:
    def test_retries_those_that_fit_and_counts_both(self, admin_client: Client) -> None:
        selected = {state: job_in(state) for state in JobState}
        spared = job_in("FAILED")

        response = act(admin_client, "retry", *selected.values())

        for state, job in selected.items():
            assert state_of(job) == ("READY" if state in RETRYABLE else state)
        assert state_of(spared) == "FAILED"
        assert messages_of(response) == [
            "3 jobs were retried.",
            "4 jobs were left as they were: only failed, cancelled and blocked jobs are retried.",
        ]

    def test_cancels_those_that_fit_and_counts_both(self, admin_client: Client) -> None:
        selected = [job_in(state) for state in JobState]

        response = act(admin_client, "cancel", *selected)

        assert Job.objects.filter(state="CANCELLED").count() == 4
        assert messages_of(response) == [
            "4 jobs were cancelled; those that run were asked to stop.",
            "3 jobs were left as they were: they are finished.",
        ]

    def test_records_what_became_of_each_if_they_are_few(self, admin_client: Client) -> None:
        ready, running, ended = job_in("READY"), job_in("RUNNING"), job_in("FAILED")

        act(admin_client, "cancel", ready, running, ended)

        assert dict(entries()) == {
            str(ready.pk): "Cancelled.",
            str(running.pk): "Asked to stop: it ends at its next durable point.",
            str(ended.pk): "Not cancelled: it was finished.",
        }

    def test_looks_at_few_under_the_lock_of_the_change(self, admin_client: Client) -> None:
        job = job_in("FAILED")

        with CaptureQueriesContext(connection) as captured:
            act(admin_client, "retry", job)

        sent = [query["sql"] for query in captured.captured_queries]
        locks = [index for index, sql in enumerate(sent) if "FOR NO KEY UPDATE" in sql]
        verb = next(index for index, sql in enumerate(sent) if "for no key update" in sql)
        assert len(locks) == 1
        assert locks[0] < verb

    def test_records_one_entry_if_they_are_many(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verbs, "FEW", 2)
        for state in ("FAILED", "FAILED", "CANCELLED", "READY"):
            first = job_in(state)

        act(admin_client, "retry", first, select_across="1", filters="?queue=orders")

        (entry,) = LogEntry.objects.all()
        assert entry.object_repr == "retry: all jobs of ?queue=orders"
        assert entry.object_id is None
        assert entry.get_change_message() == (
            "3 jobs were retried. "
            "1 job was left as it was: only failed, cancelled and blocked jobs are retried."
        )

    def test_an_entry_for_many_is_there_if_the_action_breaks(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verbs, "FEW", 0)
        job = job_in("FAILED")

        def broken(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("the connection is gone")

        monkeypatch.setattr(jobs, "_in_chunks", broken)
        with pytest.raises(RuntimeError):
            act(admin_client, "retry", job)

        assert entries() == [(None, "Began, and did not end.")]

    def test_all_matching_means_those_of_the_filters_on_every_page(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_durable.admin.jobs.JobAdmin.list_per_page", 2)
        matching = [job_in("FAILED") for _ in range(5)]
        other = job_in("CANCELLED")

        act(admin_client, "retry", matching[0], select_across="1", filters="?state=FAILED")

        assert {state_of(job) for job in matching} == {"READY"}
        assert state_of(other) == "CANCELLED"

    def test_all_matching_goes_in_chunks_and_never_loads_all_ids(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs, "BULK_CHUNK", 2)
        monkeypatch.setattr(verbs, "FEW", 2)
        several = [job_in("FAILED") for _ in range(5)]

        with CaptureQueriesContext(connection) as captured:
            act(admin_client, "retry", several[0], select_across="1")

        sent = [query["sql"] for query in captured.captured_queries]
        lists = [sql for sql in sent if sql.startswith('SELECT "durable_job"."id"')]
        assert Job.objects.filter(state="READY").count() == 5
        assert sum("for no key update" in sql for sql in sent) == 3
        assert all(" LIMIT " in sql for sql in lists[:-1])  # the last one is the page that follows

    def test_jobs_enqueued_meanwhile_are_spared(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs, "BULK_CHUNK", 1)
        monkeypatch.setattr(verbs, "FEW", 1)
        first, _ = job_in("READY"), job_in("READY")

        def enqueue_more(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if "for no key update" in sql:
                enqueue(tasks.succeed, "meanwhile")
            return execute(sql, params, many, context)

        with connection.execute_wrapper(enqueue_more):
            act(admin_client, "cancel", first, select_across="1")

        assert Job.objects.filter(state="CANCELLED").count() == 2
        assert Job.objects.filter(state="READY").count() == 2

    def test_nothing_selected_changes_nothing(self, admin_client: Client) -> None:
        job = job_in("FAILED")

        response = act(admin_client, "retry")

        assert "Items must be selected" in messages_of(response)[0]
        assert state_of(job) == "FAILED"

    def test_selected_jobs_that_are_gone_are_said_so(self, admin_client: Client) -> None:
        response = act(admin_client, "retry", Job(pk=uuid4()))

        assert messages_of(response) == ["None of the selected jobs is there any more."]

    @pytest.mark.parametrize("selected", ["nonsense", "", "1", "a\x00b"])
    def test_a_selection_that_is_no_job_is_refused(
        self, admin_client: Client, selected: str
    ) -> None:
        job = job_in("FAILED")
        data = {"action": "retry_selected", "index": "0", "_selected_action": [job.pk, selected]}

        assert admin_client.post(list_url(), data).status_code == 400
        assert state_of(job) == "FAILED"

    def test_works_on_what_was_searched_for(self, admin_client: Client) -> None:
        job, other = job_in("FAILED"), job_in("FAILED")

        response = act(admin_client, "retry", job, select_across="1", filters=f"?q={job.pk}")

        assert [state_of(job), state_of(other)] == ["READY", "FAILED"]
        assert messages_of(response) == ["1 job was retried."]

    def test_leaves_a_row_edited_into_nonsense_alone(self, admin_client: Client) -> None:
        odd = job_in("FAILED", arguments="[]", error="3", task_path="shop.gone")
        make_checkpoint(odd, 1, state="FAILED", error="3")

        act(admin_client, "retry", odd, job_in("FAILED"))

        assert Job.objects.filter(state="READY").count() == 2


@pytest.mark.django_db(transaction=True)
class CommitTests:
    @pytest.fixture
    def _atomic_requests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    @pytest.mark.usefixtures("_atomic_requests")
    def test_each_chunk_is_committed_even_where_requests_are_transactions(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs, "BULK_CHUNK", 1)
        monkeypatch.setattr(verbs, "FEW", 1)
        first, second = job_in("FAILED"), job_in("FAILED")
        retry = jobs.outcomes.retry_jobs

        def break_at_second(alias: Any, ids: Any, **options: Any) -> Any:
            if second.pk in ids:
                raise RuntimeError("the connection is gone")
            return retry(alias, ids, **options)

        monkeypatch.setattr(jobs.outcomes, "retry_jobs", break_at_second)
        with pytest.raises(RuntimeError):
            act(admin_client, "retry", first, second)

        assert [state_of(first), state_of(second)] == ["READY", "FAILED"]
        assert entries() == [(None, "Began, and did not end.")]

    def test_only_the_list_stands_outside_of_transactions(self) -> None:
        job = Job(pk=uuid4())

        assert "default" in resolve(list_url()).func._non_atomic_requests
        assert not hasattr(resolve(page_url(job)).func, "_non_atomic_requests")
        assert not hasattr(resolve(verb_url("retry", job)).func, "_non_atomic_requests")

    def test_two_people_at_once_do_it_once(self, admin_client: Client) -> None:
        job = job_in("FAILED")
        with transaction.atomic():
            jobs.retry_job(job)

        response = admin_client.post(verb_url("retry", job), follow=True)

        assert Job.objects.get().attempt == 2
        assert messages_of(response) == [
            "Not retried: only failed, cancelled and blocked jobs are."
        ]


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "django_durable"]


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
