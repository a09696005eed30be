"""Fork and restart on the page of a job: what they make, refuse, record and offer."""

import html
import json
import re
from uuid import uuid4

import pytest
from django.test import Client

from django_durable import enqueue
from django_durable.models import Checkpoint, Job, JobState
from django_durable.testing import run_jobs
from tests.admin import tasks
from tests.admin.acting import entries, messages_of
from tests.admin.conftest import ClientFactory
from tests.admin.rows import job_in, make_checkpoint, page_url, rewritten, text_of, verb_url

pytestmark = pytest.mark.django_db


def failed_job() -> Job:
    """A job with the checkpoints load and charge, which failed."""
    job = enqueue(tasks.fail, "o-1")
    run_jobs()
    return Job.objects.get(pk=job.pk)


def made_of(source: Job) -> Job:
    return Job.objects.get(forked_from_id=source.pk)


def call(*args: object, **kwargs: object) -> str:
    return json.dumps({"args": args, "kwargs": kwargs})


class ForkTests:
    def test_makes_a_job_that_keeps_what_came_before_and_leads_to_it(
        self, admin_client: Client
    ) -> None:
        source = failed_job()

        response = admin_client.post(verb_url("fork", source), {"from_step": "charge"}, follow=True)

        fork = made_of(source)
        assert response.redirect_chain[-1][0] == page_url(fork)
        assert messages_of(response) == [f"Forked from job {source.pk} at charge."]
        assert [row.identity for row in Checkpoint.objects.filter(job_id=fork.pk)] == ["load"]
        assert "Forked from: admin.fail" in text_of(response)

    def test_is_recorded_on_both_jobs(self, admin_client: Client) -> None:
        source = failed_job()

        admin_client.post(verb_url("fork", source), {"from_step": "charge"})

        fork = made_of(source)
        assert entries() == [
            (str(source.pk), f"Forked at charge as job {fork.pk}."),
            (str(fork.pk), f"Forked from job {source.pk} at charge."),
        ]

    @pytest.mark.parametrize(
        ("step", "said"),
        [
            ("nothing", "Those it has: load, charge."),
            ("", "This field is required."),
            ("a\x00b", "Null characters are not allowed."),
        ],
    )
    def test_a_wrong_step_is_refused(self, admin_client: Client, step: str, said: str) -> None:
        source = failed_job()

        response = admin_client.post(verb_url("fork", source), {"from_step": step}, follow=True)

        assert said in messages_of(response)[0]
        assert response.redirect_chain[-1][0] == page_url(source)
        assert Job.objects.count() == 1
        assert entries() == []

    def test_each_checkpoint_offers_to_fork_there(self, admin_client: Client) -> None:
        source = failed_job()
        make_checkpoint(source, 0, identity="fork/x", kind="fork")
        make_checkpoint(source, 9, identity="compensation@1/load")

        page = admin_client.get(page_url(source)).content.decode()

        assert re.findall(r'form="durable-fork" name="from_step" value="([^"]*)"', page) == [
            "load", "charge",
        ]  # fmt: skip
        form = re.search(r'(?s)<form id="durable-fork" method="post".*?</form>', page)
        assert form
        assert verb_url("fork", source) in form[0]
        assert "csrfmiddlewaretoken" in form[0]


class RestartTests:
    @pytest.mark.parametrize("state", JobState)
    def test_makes_a_job_of_the_same_call(self, admin_client: Client, state: JobState) -> None:
        source = job_in(state)

        response = admin_client.post(verb_url("restart", source), follow=True)

        made = made_of(source)
        assert (made.state, made.arguments) == ("READY", source.arguments)
        assert response.redirect_chain[-1][0] == page_url(made)
        assert entries() == [
            (str(source.pk), f"Restarted as job {made.pk}."),
            (str(made.pk), f"A restart of job {source.pk}."),
        ]

    def test_takes_the_edited_arguments(self, admin_client: Client) -> None:
        source = job_in("FAILED")

        admin_client.post(verb_url("restart", source), {"arguments": f"\r\n{call('o-2')}\r\n"})

        assert made_of(source).args == ["o-2"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "does not decode"),
            (call(), "missing a required argument"),
            ('{"args": [{"$model": ["auth.user", 0]}], "kwargs": {}}', "auth.user 0 does not"),
            ("\x00", "Null characters are not allowed."),
        ],
    )
    def test_wrong_arguments_are_named(self, admin_client: Client, text: str, said: str) -> None:
        source = job_in("FAILED")

        response = admin_client.post(verb_url("restart", source), {"arguments": text}, follow=True)

        assert said in messages_of(response)[0]
        assert Job.objects.count() == 1
        assert entries() == []

    def test_shows_the_stored_arguments_for_editing(self, admin_client: Client) -> None:
        source = job_in("FAILED")

        page = admin_client.get(page_url(source)).content.decode()

        (text,) = re.findall(r'(?s)<textarea name="arguments"[^>]*>(.*?)</textarea>', page)
        assert json.loads(html.unescape(text)) == json.loads(source.arguments)

    def test_arguments_too_long_to_edit_are_left_out(self, admin_client: Client) -> None:
        source = rewritten(job_in("FAILED"), arguments=call("x" * 30_000))

        page = admin_client.get(page_url(source)).content.decode()

        (text,) = re.findall(r'(?s)<textarea name="arguments"[^>]*>(.*?)</textarea>', page)
        assert text.strip() == ""

    def test_a_task_unknown_here_can_only_be_restarted_as_it_was(
        self, admin_client: Client
    ) -> None:
        source = rewritten(job_in("FAILED"), task_path="shop.gone")

        page = admin_client.get(page_url(source)).content.decode()
        admin_client.post(verb_url("restart", source))

        assert 'name="arguments"' not in page
        assert made_of(source).task_path == "shop.gone"


class BothTests:
    @pytest.mark.parametrize("verb", ["fork", "restart"])
    def test_say_that_a_job_is_gone(self, admin_client: Client, verb: str) -> None:
        url = verb_url(verb, Job(pk=uuid4()))

        response = admin_client.post(url, {"from_step": "load"}, follow=True)

        assert "There is no such job: it was pruned, or never was." in messages_of(response)

    @pytest.mark.parametrize("verb", ["fork", "restart"])
    def test_are_not_done_by_a_link(self, admin_client: Client, verb: str) -> None:
        assert admin_client.get(verb_url(verb, job_in("READY"))).status_code == 405
        assert Job.objects.count() == 1

    @pytest.mark.parametrize("verb", ["fork", "restart"])
    @pytest.mark.parametrize("held", [(), ("view_job", "retry_job", "cancel_job"), ("fork_job",)])
    def test_are_refused_without_the_permission_and_that_is_recorded(
        self,
        staff_client: ClientFactory,
        caplog: pytest.LogCaptureFixture,
        verb: str,
        held: tuple[str, ...],
    ) -> None:
        source = failed_job()
        caplog.clear()

        response = staff_client(*held).post(verb_url(verb, source), {"from_step": "charge"})

        assert response.status_code == 403
        assert Job.objects.count() == 1
        (record,) = (r for r in caplog.records if r.name == "django_durable")
        assert record.getMessage() == f"Refused: user ida may not {verb} job {source.pk}."
        assert record.__dict__["permission"] == "durable.fork_job"

    @pytest.mark.parametrize("verb", ["fork", "restart"])
    def test_need_one_permission_beside_seeing_jobs(
        self, staff_client: ClientFactory, verb: str
    ) -> None:
        source = failed_job()
        client = staff_client("view_job", "fork_job")

        assert client.post(verb_url(verb, source), {"from_step": "charge"}).status_code == 302

        assert made_of(source)

    def test_are_offered_to_the_permitted_only(self, staff_client: ClientFactory) -> None:
        source = failed_job()

        page = staff_client("view_job", "retry_job").get(page_url(source)).content.decode()

        assert "durable-fork" not in page
        assert verb_url("restart", source) not in page

    @pytest.mark.parametrize("verb", ["fork", "restart"])
    def test_are_not_done_from_another_site(self, staff_client: ClientFactory, verb: str) -> None:
        client = staff_client("view_job", "fork_job", enforce_csrf_checks=True)

        assert client.post(verb_url(verb, failed_job())).status_code == 403
