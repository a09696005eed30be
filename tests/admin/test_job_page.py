"""The page of one job: all that is known of it, whatever state its row is in."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from django_durable import enqueue
from django_durable.models import Checkpoint, IdempotencyKey, Job, JobState, Progress
from django_durable.testing import crash_after, run_jobs
from tests.admin import tasks
from tests.admin.acting import page_of, queries_of
from tests.admin.conftest import ClientFactory
from tests.admin.rows import (
    job_in,
    list_url,
    make_attempt,
    make_checkpoint,
    make_key,
    make_worker,
    page_url,
    rewritten,
    text_of,
)

pytestmark = pytest.mark.django_db


class UniqueTests:
    @pytest.mark.parametrize(
        ("state", "says"),
        [
            ("READY", "until it is finished"),
            ("RUNNING", "until it is finished"),
            ("FAILED", "no more"),
        ],
    )
    def test_says_how_long_it_is_unique(self, admin_client: Client, state: str, says: str) -> None:
        job = job_in(state, unique_key="shop.tasks.count[7]", unique_while="unfinished")

        assert f"{says}: shop.tasks.count[7]" in page_of(admin_client, job)


class ContextTests:
    def test_says_who_enqueued_it_and_how_far_it_has_come(self, admin_client: Client) -> None:
        user = User.objects.create_user("anna")
        context = {"language": "de", "user": {"$model": ["auth.user", user.pk]}}
        job = job_in("RUNNING", context=json.dumps(context))
        told = {"done": 1, "total": 4, "note": "<b>", "saved_at": timezone.now()}
        Progress.objects.bulk_create([Progress(job_id=job.pk, **told)])

        page = page_of(admin_client, job)

        assert "Context: enqueued by anna, de" in page
        assert "Progress: 1 of 4: <b>" in page

    def test_is_silent_where_there_is_nothing_to_say(self, admin_client: Client) -> None:
        page = page_of(admin_client, job_in("RUNNING"))

        assert "Context:" not in page
        assert "Progress:" not in page


class StandingTests:
    @pytest.mark.parametrize("state", JobState)
    def test_renders_every_state(self, admin_client: Client, state: JobState) -> None:
        job = job_in(state)

        assert f"State: {state.label}" in page_of(admin_client, job)

    @pytest.mark.parametrize(
        ("state", "columns", "sentence"),
        [
            ("READY", {}, "Waits for a worker of its queue with a free slot."),
            ("READY", {"lost_count": 1}, "with a free slot, to go on."),
            ("READY", {"lost_count": 2}, "Its worker was lost 2 times in a row"),
            ("READY", {"task_path": "shop.gone"}, "This process knows no such task."),
            ("SCHEDULED", {"wait_reason": "step x failed"}, "Step x failed."),
            ("WAITING", {}, "Blocked: its checkpoints and its code tell different stories."),
            ("WAITING", {}, "Replay mismatch: expected a; found b."),
            ("WAITING", {"wait_reason": None}, "tell different stories. Workers look again"),
            (
                "WAITING",
                {"wait_kind": "event", "wait_reason": "waits for event paid"},
                "Waits for event paid.",
            ),
            ("RUNNING", {}, "Runs since 20"),
            ("RUNNING", {"claimed_at": None}, "running Runs. "),
            ("RUNNING", {"cancel_requested_at": "now"}, "Cancelling was asked for at 20"),
            ("CANCELLED", {"started_at": None}, "Never begun."),
            ("SUCCESSFUL", {}, "after it first began."),
        ],
    )
    def test_says_in_words_where_the_job_stands(
        self, admin_client: Client, state: str, columns: dict[str, object], sentence: str
    ) -> None:
        now = timezone.now()
        job = job_in(state, **{k: now if v == "now" else v for k, v in columns.items()})

        assert sentence in page_of(admin_client, job)

    def test_says_how_long_a_wait_lasts_at_most(self, admin_client: Client) -> None:
        until = timezone.now() + timedelta(days=1)
        job = job_in("WAITING", wait_kind="event", wait_deadline_at=until)

        assert f"At the latest until {until:%Y-%m-%d %H:%M:%S}." in page_of(admin_client, job)

    def test_counts_from_the_clock_of_the_database(self, admin_client: Client) -> None:
        due = timezone.now() + timedelta(hours=2, minutes=59, seconds=30)
        job = job_in("SCHEDULED", due_at=due)
        ahead = rewritten(job, enqueued_at=timezone.now() + timedelta(minutes=1))

        page = page_of(admin_client, ahead)

        assert "in 2 h 59 min" in page

    def test_lists_the_times_that_have_come(self, admin_client: Client) -> None:
        job = job_in("READY", deadline_at=timezone.now() + timedelta(days=3))

        page = page_of(admin_client, job)

        assert "Deadline" in page
        assert "Finished" not in page


class DataTests:
    def test_shows_arguments_and_return_value_as_they_are_stored(
        self, admin_client: Client
    ) -> None:
        job = enqueue(tasks.succeed, "o-1")
        run_jobs()

        page = page_of(admin_client, job)

        assert '{"args": ["o-1"], "kwargs": {}}' in page
        assert '{"ref": "o-1", "lines": [1, 2, 3]}' in page

    def test_indents_what_is_long(self, admin_client: Client) -> None:
        job = job_in("READY", arguments='{"args": ["%s"], "kwargs": {}}' % ("x" * 200))

        page = admin_client.get(page_url(job)).content.decode()

        assert "{\n  &quot;args&quot;: [\n    &quot;xxx" in page

    def test_fetches_no_model_instance(self, admin_client: Client, admin_user: User) -> None:
        job = job_in("READY", arguments='{"args":[{"$model":["auth.user",77]}],"kwargs":{}}')

        assert '{"$model": ["auth.user", 77]}' in page_of(admin_client, job)
        asked = [sql for sql in queries_of(admin_client, job) if "auth_user" in sql]
        assert len(asked) == 1  # who is looking

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("[]", "[]"),
            ("3", "3"),
            ("null", "null"),
            ('"<script>alert(1)</script>"', '"<script>alert(1)</script>"'),
            (r'"\ud800"', '"?"'),
            (r'"a\u0000b"', r"a\u0000b"),
            (r'{"type":"A","message":"m \ud800","traceback":"t \ud800"}', "A: m ?"),
            ("1" * 5000, "1" * 5000),
            ("[" * 3000 + "]" * 3000, "[[["),
            ('{"$model":["no.model",[]]}', '{"$model": ["no.model", []]}'),
        ],
    )
    def test_shows_what_nobody_could_have_enqueued(
        self, admin_client: Client, text: str, shown: str
    ) -> None:
        job = job_in("SUCCESSFUL", arguments=text, encoded_return_value=text, error=text)
        make_checkpoint(job, 1, value=text, error=text)
        make_attempt(job, error=text)

        assert shown in page_of(admin_client, job)

    def test_escapes_everything(self, admin_client: Client) -> None:
        bad = "<script>alert(1)</script>"
        job = job_in(
            "FAILED",
            task_path=bad,
            queue_name=bad,
            arguments=f'"{bad}"',
            error=f'{{"type":"{bad}","message":"{bad}","traceback":"{bad}"}}',
            subject_type=bad,
            subject_key=bad,
        )
        make_checkpoint(job, 1, identity=bad, function=bad, kind=bad, value=f'"{bad}"')
        make_checkpoint(job, 2, state="FAILED", error=f'{{"type":"{bad}","message":"{bad}"}}')
        make_attempt(job, outcome=bad, code_version=bad, worker_id=make_worker(bad).pk)
        IdempotencyKey.objects.bulk_create([make_key(job, scope=bad, key=bad)])

        page = admin_client.get(page_url(job)).content.decode()

        assert bad not in page
        assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 15

    def test_cuts_what_is_too_long_and_says_so(self, admin_client: Client) -> None:
        job = job_in("READY", arguments='"%s"' % ("x" * 30_000))

        page = page_of(admin_client, job)

        assert "(30002 characters in all)" in page
        assert "x" * 20_001 not in page

    def test_shows_the_latest_error_with_its_traceback(self, admin_client: Client) -> None:
        job = enqueue(tasks.fail, "o-1")
        run_jobs()

        page = admin_client.get(page_url(job)).content.decode()

        assert "StepFailedError: Step &quot;charge&quot; failed after 1 attempt(s)" in page
        assert '<pre class="durable-text">Traceback (most recent call last):' in page


class LinkTests:
    def test_leads_to_the_parent_and_to_children(self, admin_client: Client) -> None:
        parent = enqueue(tasks.start_children, 2)
        run_jobs()
        child = Job.objects.filter(parent_id=parent.pk).first()
        assert child is not None

        assert f'href="{page_url(child)}"' in admin_client.get(page_url(parent)).content.decode()
        assert f'href="{page_url(parent)}"' in admin_client.get(page_url(child)).content.decode()

    def test_lists_the_first_children_and_leads_to_all(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_durable.admin.details.MOST_ROWS", 2)
        parent = enqueue(tasks.start_children, 3)
        run_jobs()

        page = admin_client.get(page_url(parent)).content.decode()

        assert page.count("admin.succeed ") == 2
        assert f'href="{list_url()}?parent={parent.pk}"' in page

    def test_says_that_a_parent_is_pruned(self, admin_client: Client) -> None:
        gone = uuid4()
        job = job_in("READY", parent_id=gone, origin="x", forked_from_id=gone)

        assert page_of(admin_client, job).count(f"{gone} (pruned)") == 2

    def test_leads_to_the_worker(self, admin_client: Client) -> None:
        worker = make_worker("web-7")
        job = job_in("RUNNING", worker_id=worker.pk)

        link = f'<a href="{page_url(worker)}">web-7:4711</a>'
        assert link in admin_client.get(page_url(job)).content.decode()

    def test_names_a_worker_whose_row_is_pruned(self, admin_client: Client) -> None:
        job = job_in("RUNNING", worker_id=987654)
        make_attempt(job, outcome="LOST", worker_id=123456)

        assert "Worker: 987654" in page_of(admin_client, job)
        assert "123456" in page_of(admin_client, job)

    def test_leads_to_the_subject_and_to_all_jobs_about_it(
        self, admin_client: Client, admin_user: User
    ) -> None:
        job = enqueue(tasks.succeed.using(subject=admin_user), "o-1")

        page = admin_client.get(page_url(job)).content.decode()

        assert f'<a href="/admin/auth/user/{admin_user.pk}/change/">auth.user:' in page
        assert f"?subject=auth.user%3A{admin_user.pk}" in page

    @pytest.mark.parametrize("label", ["shop.gone", "nonsense", "testapp.charge"])
    def test_names_a_subject_that_has_no_page(self, admin_client: Client, label: str) -> None:
        job = job_in("READY", subject_type=label, subject_key="7")

        assert f"Subject: {label}:7 ( all jobs about it )" in page_of(admin_client, job)

    def test_lists_the_keys(self, admin_client: Client) -> None:
        job = enqueue(tasks.succeed.using(idempotency_key="order-17"), "o-17")

        link = f'<a href="{page_url(IdempotencyKey.objects.get())}">admin.succeed: order-17</a>'
        assert link in admin_client.get(page_url(job)).content.decode()

    def test_leads_to_lists_of_its_task_and_queue(self, admin_client: Client) -> None:
        job = job_in("READY", queue_name="odd & <q>")

        page = admin_client.get(page_url(job)).content.decode()

        assert f'<a href="{list_url()}?task=admin.succeed">' in page
        assert f'<a href="{list_url()}?queue=odd+%26+%3Cq%3E">' in page


class ReadOnlyTests:
    def test_nothing_can_be_added_edited_or_deleted(self, admin_client: Client) -> None:
        job = job_in("READY")
        page = page_url(job)

        assert admin_client.post(page, {"state": "FAILED"}).status_code == 403
        assert admin_client.get(page.replace("change", "delete")).status_code == 403
        assert (
            admin_client.post(page.replace("change", "delete"), {"post": "yes"}).status_code == 403
        )
        assert admin_client.get(f"{list_url()}add/").status_code == 403
        assert admin_client.post(f"{list_url()}add/").status_code == 403
        assert Job.objects.get().state == "READY"

    def test_the_page_has_no_field_to_edit(self, admin_client: Client) -> None:
        page = admin_client.get(page_url(job_in("READY"))).content.decode()

        assert 'name="_save"' not in page
        assert "deletelink" not in page

    def test_a_job_that_is_gone_leads_back(self, admin_client: Client) -> None:
        for key in (uuid4(), "nonsense", "x" * 5000, "%00"):
            response = admin_client.get(f"{list_url()}{key}/change/", follow=True)
            assert "Perhaps it was deleted?" in text_of(response)

    def test_viewers_see_the_page_without_verbs(self, staff_client: ClientFactory) -> None:
        viewer = staff_client("view_job")

        for state in ("FAILED", "WAITING", "READY"):
            assert "durable-verbs" not in viewer.get(page_url(job_in(state))).content.decode()
        assert "Action:" not in text_of(viewer.get(list_url()))

    def test_the_history_has_what_was_done(self, admin_client: Client) -> None:
        job = job_in("FAILED")
        admin_client.post(page_url(job).replace("change", "retry"))

        history = text_of(admin_client.get(page_url(job).replace("change", "history")))

        assert LogEntry.objects.count() == 1
        assert "Retried." in history


class WholeLifeTests:
    def test_an_interrupted_step_is_shown(self, admin_client: Client) -> None:
        job = enqueue(tasks.post, "o-1")
        with crash_after("post_letter"):
            run_jobs()
        run_jobs()

        page = page_of(admin_client, job)

        assert "worker lost" in page
        assert "StepInterrupted" in page
        assert Checkpoint.objects.get().state == "FAILED"
