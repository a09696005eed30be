"""The pages of workers."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_durable.models import Worker
from tests.admin.conftest import ClientFactory
from tests.admin.rows import job_in, list_url, make_worker, page_url, text_of

pytestmark = pytest.mark.django_db

URL = list_url(Worker)


def worker_in(state: str) -> Worker:
    now = timezone.now()
    columns: dict[str, dict[str, Any]] = {
        "LIVE": {},
        "STOPPING": {"stopping_at": now},
        "SILENT": {"lease_expires_at": now - timedelta(seconds=1)},
        "STOPPED": {"stopping_at": now, "stopped_at": now, "lease_expires_at": now},
        "LOST": {"lost_at": now, "lease_expires_at": now},
    }
    return make_worker(f"host-{state}", **columns[state])


def listed(client: Client, **params: str) -> list[str]:
    response = client.get(URL, params)
    assert response.status_code == 200
    return [worker.hostname for worker in response.context["cl"].result_list]


STATES = {
    "LIVE": "live",
    "STOPPING": "stopping",
    "SILENT": "silent",
    "STOPPED": "stopped",
    "LOST": "lost",
}


class ListTests:
    def test_renders_without_a_row(self, admin_client: Client) -> None:
        assert "0 workers" in text_of(admin_client.get(URL))

    @pytest.mark.parametrize("state", STATES)
    def test_shows_where_each_stands(self, admin_client: Client, state: str) -> None:
        worker_in(state)

        assert f"host-{state}:4711 {STATES[state]} all" in text_of(admin_client.get(URL))

    @pytest.mark.parametrize("state", STATES)
    def test_is_narrowed_by_state(self, admin_client: Client, state: str) -> None:
        for each in STATES:
            worker_in(each)

        assert listed(admin_client, state=state) == [f"host-{state}"]
        assert listed(admin_client, state="nonsense") == []

    def test_counts_the_jobs_that_each_runs(self, admin_client: Client) -> None:
        busy, idle = make_worker("busy"), make_worker("idle")
        for _ in range(3):
            job_in("RUNNING", worker_id=busy.pk)
        job_in("READY")

        page = text_of(admin_client.get(URL))

        assert "busy:4711 live all 3 in 8 slots" in page
        assert "idle:4711 live all 0 in 8 slots" in page
        assert idle.pk != busy.pk

    def test_says_how_long_ago_a_sign_of_life_came(self, admin_client: Client) -> None:
        make_worker(
            heartbeat_at=timezone.now() - timedelta(hours=3, seconds=30), queues=["mail", "a <b>"]
        )

        page = text_of(admin_client.get(URL))

        assert "mail, a <b>" in page
        assert "3 h 0 min ago" in page

    def test_the_number_of_queries_does_not_depend_on_the_rows(self, admin_client: Client) -> None:
        counts = []
        for _ in range(2):
            for _ in range(5):
                job_in("RUNNING", worker_id=make_worker().pk)
            with CaptureQueriesContext(connection) as captured:
                admin_client.get(URL)
            counts.append(len(captured))

        # session, user, the bounded count, the page
        assert counts == [4, 4]


class PageTests:
    @pytest.mark.parametrize("state", STATES)
    def test_renders_every_state(self, admin_client: Client, state: str) -> None:
        assert f"State: {STATES[state]}" in text_of(admin_client.get(page_url(worker_in(state))))

    def test_lists_the_jobs_it_runs(self, admin_client: Client) -> None:
        worker = make_worker()
        job = job_in("RUNNING", worker_id=worker.pk)
        other = job_in("RUNNING")

        page = admin_client.get(page_url(worker)).content.decode()

        assert f'<a href="{page_url(job)}">' in page
        assert str(other.pk) not in page

    def test_nothing_can_be_added_edited_or_deleted(self, admin_client: Client) -> None:
        page = page_url(make_worker())

        assert admin_client.post(page, {"pid": "1"}).status_code == 403
        assert admin_client.post(page.replace("change", "delete")).status_code == 403
        assert admin_client.get(f"{URL}add/").status_code == 403

    def test_needs_the_permission_to_see_workers(self, staff_client: ClientFactory) -> None:
        page = page_url(make_worker())
        stranger, viewer = (
            staff_client(name, username=name) for name in ("view_job", "view_worker")
        )

        assert [stranger.get(url).status_code for url in (URL, page)] == [403, 403]
        assert [viewer.get(url).status_code for url in (URL, page)] == [200, 200]
