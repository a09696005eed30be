"""Retry and cancel of many jobs: selected ones, and all that match."""

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve

from django_durable import enqueue, jobs
from django_durable.admin import verbs
from django_durable.models import Job, JobState
from tests.admin import tasks
from tests.admin.acting import RETRYABLE, act, entries, messages_of, state_of
from tests.admin.rows import job_in, list_url, make_checkpoint, page_url, verb_url

pytestmark = pytest.mark.django_db


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
        locks = [index for index, sql in enumerate(sent) if "for no key update" in sql]
        looks = [i for i, sql in enumerate(sent) if '"state"' in sql and sql.startswith("SELECT")]
        assert len(locks) == 2  # of the list's action, and of the verb itself
        assert any(locks[0] < look < locks[1] for look in looks)

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
        of_all = [sql for sql in lists if " IN (" not in sql]  # others look at one chunk
        assert all(" LIMIT " in sql for sql in of_all[:-1])  # the last is the page that follows

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
