"""Doing things to jobs in the admin, and looking at what came of it."""

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_durable.models import Job, JobState
from tests.admin.rows import list_url, page_url, text_of

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


def page_of(client: Client, job: Job, **params: str) -> str:
    return text_of(client.get(page_url(job), params))


def queries_of(client: Client, job: Job) -> list[str]:
    ContentType.objects.get_for_model(Job)  # cached by the process from then on
    with CaptureQueriesContext(connection) as captured:
        assert client.get(page_url(job)).status_code == 200
    return [query["sql"] for query in captured.captured_queries]
