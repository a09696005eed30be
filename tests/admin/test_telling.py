"""Sending an event to a job, and waking one, on its page."""

from typing import Any

import pytest
from django.test import Client

from django_durable import enqueue, sleep, task, wait_for_event
from django_durable.models import Job, Message
from django_durable.testing import run_jobs
from tests.admin.acting import entries, messages_of, page_of, state_of
from tests.admin.conftest import ClientFactory
from tests.admin.rows import job_in, page_url, verb_url
from tests.builders import HOUR, ended_job, resumed_job

pytestmark = pytest.mark.django_db


@task(path="admin.asks")
def asks() -> Any:
    event = wait_for_event("approved", timeout=HOUR)
    return None if event is None else event.payload


@task(path="admin.naps")
def naps() -> str:
    sleep(HOUR)
    return "awake"


class SendTests:
    def test_the_event_it_waits_for_is_offered_and_sent(self, admin_client: Client) -> None:
        job = ended_job(asks)
        page = admin_client.get(page_url(job)).content.decode()
        assert 'value="approved"' in page
        assert 'Waits for event "approved"' in page_of(admin_client, job).replace("&quot;", '"')

        sent = {"name": "approved", "payload": '{"by": "anna"}'}
        response = admin_client.post(verb_url("send", job), sent, follow=True)

        assert messages_of(response) == ["Sent event approved."]
        assert entries() == [(str(job.pk), "Sent event approved.")]
        assert resumed_job(job).return_value == {"by": "anna"}

    @pytest.mark.parametrize(
        ("posted", "said"),
        [
            ({"name": "", "payload": ""}, "This field is required."),
            ({"name": "a/b", "payload": ""}, "must not contain '/'"),
            ({"name": "a", "payload": "{"}, "The payload is no JSON value"),
        ],
    )
    def test_what_cannot_be_sent_is_refused_with_the_reason(
        self, admin_client: Client, posted: dict[str, str], said: str
    ) -> None:
        job = ended_job(asks)
        response = admin_client.post(verb_url("send", job), posted, follow=True)
        (message,) = messages_of(response)
        assert said in message
        assert entries() == []
        assert not Message.objects.exists()

    def test_a_finished_job_is_refused_and_not_offered(self, admin_client: Client) -> None:
        job = job_in("SUCCESSFUL")
        assert verb_url("send", job) not in admin_client.get(page_url(job)).content.decode()
        response = admin_client.post(verb_url("send", job), {"name": "a"}, follow=True)
        assert "cannot be sent an event: it is SUCCESSFUL" in messages_of(response)[0]


class WakeTests:
    def test_a_sleeping_job_goes_on(self, admin_client: Client) -> None:
        job = ended_job(naps)
        assert verb_url("wake", job) in admin_client.get(page_url(job)).content.decode()

        response = admin_client.post(verb_url("wake", job), follow=True)

        assert messages_of(response) == ["Woken: it goes on at once."]
        assert resumed_job(job).return_value == "awake"

    def test_a_scheduled_job_goes_on(self, admin_client: Client) -> None:
        job = enqueue(naps.using(delay=HOUR))
        admin_client.post(verb_url("wake", job))
        assert state_of(job) == "READY"

    def test_another_wait_is_not_ended_so(self, admin_client: Client) -> None:
        job = ended_job(asks)
        assert verb_url("wake", job) not in admin_client.get(page_url(job)).content.decode()
        response = admin_client.post(verb_url("wake", job), follow=True)
        assert "cannot be woken: it is WAITING" in messages_of(response)[0]
        assert state_of(job) == "WAITING"


class PermissionTests:
    @pytest.mark.parametrize("verb", ["send", "wake"])
    def test_a_viewer_is_refused(self, staff_client: ClientFactory, verb: str) -> None:
        client, job = staff_client("view_job"), ended_job(naps)
        assert verb_url(verb, job) not in client.get(page_url(job)).content.decode()
        assert client.post(verb_url(verb, job), {"name": "a"}).status_code == 403
        assert state_of(job) == "WAITING"

    @pytest.mark.parametrize("verb", ["send", "wake"])
    def test_a_get_changes_nothing(self, admin_client: Client, verb: str) -> None:
        job = ended_job(naps)
        assert admin_client.get(verb_url(verb, job)).status_code == 405
        assert state_of(job) == "WAITING"

    def test_the_permission_suffices(self, staff_client: ClientFactory) -> None:
        job = ended_job(naps)
        staff_client("view_job", "send_event").post(verb_url("wake", job))
        assert state_of(job) == "READY"


def test_many_children_can_be_cancelled_while_their_parent_waits(admin_client: Client) -> None:
    from tests.admin.acting import act
    from tests.test_composing import double

    @task(path="admin.parent")
    def parent() -> str:
        try:
            double.using(delay=HOUR).start(1).result()
        except Exception as error:
            return type(error).__name__
        return "?"

    job = ended_job(parent)
    act(admin_client, "cancel", *Job.objects.filter(parent_id=job.pk))
    run_jobs()
    assert resumed_job(job).return_value == "ChildFailedError"
