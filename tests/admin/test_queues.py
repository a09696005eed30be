"""The pages of queues: how long each is, pausing, limits."""

import html
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from django_durable import enqueue, pause_queue, task
from django_durable.engine import queues
from django_durable.models import Job, Queue, Worker
from tests.admin.acting import entries, messages_of, page_of
from tests.admin.conftest import ClientFactory
from tests.admin.rows import job_in, list_url, make_worker, rewritten, text_of
from tests.admin.tasks import succeed

pytestmark = pytest.mark.django_db

URL = list_url(Queue)
ODD = ["a/b", "a b", "<script>", "x_2Fy", "Ärger 😀", "add", "%2F", "?", "'\"", "a\nb"]


def url(name: str, verb: str = "change") -> str:
    return reverse(f"admin:durable_queue_{verb}", args=[quote(name)])


def row(name: str = "q") -> Queue:
    return Queue.objects.get(pk=name)


def paused_names() -> list[str]:
    rows = Queue.objects.filter(paused_at__isnull=False).order_by("name")
    return [queue.name for queue in rows]


def selected(client: Client, action: str, *names: str, **more: str) -> HttpResponse:
    data: dict[str, Any] = {"action": action, "index": "0", "_selected_action": names}
    return client.post(URL, data | more, follow=True)


class ListTests:
    def test_renders_without_a_row(self, admin_client: Client) -> None:
        assert "default" in text_of(admin_client.get(URL))  # as tasks name it

    def test_shows_every_queue_that_somebody_knows(
        self, admin_client: Client, settings: Any
    ) -> None:
        @task(path="admin.of_a_queue", queue_name="declared")
        def declared() -> None: ...

        enqueue(succeed.using(queue_name="ready"), "o-1")
        rewritten(job_in("RUNNING"), queue_name="run")
        rewritten(job_in("WAITING"), queue_name="waits")
        Queue.objects.bulk_create([Queue(name="stored", concurrency=2)])

        settings.DURABLE = {"QUEUES": ["set", "ready"]}
        rows = admin_client.get(URL).context["cl"].result_list

        names = {queue.name for queue in rows}
        assert {"set", "ready", "declared", "run", "waits", "stored"} <= names

    def test_counts_what_is_ready_runs_and_is_scheduled(self, admin_client: Client) -> None:
        call = succeed.using(queue_name="q")
        for _ in range(3):
            enqueue(call, "o-1")
        rewritten(enqueue(call, "o"), due_at=timezone.now() - timedelta(hours=2, seconds=30))
        enqueue(call.using(delay=timedelta(hours=1)), "o-1")
        rewritten(job_in("RUNNING"), queue_name="q")
        queues.bound_queue(
            "default", "q", {"concurrency": 5, "rate": 100, "period": timedelta(minutes=1)}
        )

        page = text_of(admin_client.get(URL))

        assert "q - 4 2 h 0 min 1 1 5 at once, 100 in 1 min 0 s" in page

    def test_a_paused_one_has_a_badge(self, admin_client: Client) -> None:
        pause_queue("q")
        pause_queue("over", until=timezone.now() + timedelta(hours=1))
        Queue.objects.filter(name="over").update(
            paused_at=timezone.now() - timedelta(hours=2),
            resume_at=timezone.now() - timedelta(hours=1),
        )

        page = text_of(admin_client.get(URL))

        assert "q paused 0" in page
        assert "over - 0" in page

    def test_the_number_of_queries_does_not_depend_on_the_rows(self, admin_client: Client) -> None:
        counts = []
        for n in range(2):
            for i in range(4):
                enqueue(succeed.using(queue_name=f"q{n}{i}"), "o-1")
                pause_queue(f"q{n}{i}")
            with CaptureQueriesContext(connection) as captured:
                admin_client.get(URL)
            counts.append(len(captured))

        assert counts[0] == counts[1] <= 8

    def test_many_queues_have_many_pages(self, admin_client: Client) -> None:
        Queue.objects.bulk_create([Queue(name=f"q{n:03}") for n in range(150)])

        page = admin_client.get(URL, {"p": "2"})

        assert "q149" in text_of(page)
        assert admin_client.get(URL, {"p": "99"}).status_code == 302


class PageTests:
    @pytest.mark.parametrize("name", ODD)
    def test_odd_names_render(self, admin_client: Client, name: str) -> None:
        Queue.objects.bulk_create([Queue(name=name, reason="<b>", paused_at=timezone.now())])
        rewritten(job_in("READY"), queue_name=name)

        assert f'href="{url(name)}"' in html.unescape(admin_client.get(URL).content.decode())
        page = admin_client.get(url(name))
        assert page.status_code == 200
        assert "<b>" not in page.content.decode()
        admin_client.post(url(name, "resume"))
        assert paused_names() == []

    def test_a_queue_without_a_row_has_one(self, admin_client: Client) -> None:
        assert "Its jobs are started." in text_of(admin_client.get(url("nobody.knows")))
        assert not Queue.objects.exists()

    @pytest.mark.parametrize("name", ["a b", "\x00", "-x", "x" * 101])
    def test_what_can_be_no_queue_has_none(self, admin_client: Client, name: str) -> None:
        assert admin_client.get(url(name)).status_code == 302

    def test_tells_the_pause(self, admin_client: Client) -> None:
        until = timezone.now() + timedelta(hours=2, minutes=59, seconds=30)
        pause_queue("q", until=until, reason="the server moves")

        page = text_of(admin_client.get(url("q")))

        assert "paused since" in page
        assert "in 2 h 59 min ; the server moves" in page

    def test_any_name_is_reached_by_the_form(self, admin_client: Client) -> None:
        add = reverse("admin:durable_queue_add")
        assert admin_client.get(add).status_code == 200

        response = admin_client.post(add, {"name": "later"})
        assert response.headers["Location"] == url("later")
        assert "a queue name has 1 to 100" in text_of(admin_client.post(add, {"name": "a b"}))

    def test_the_history_is_there(self, admin_client: Client) -> None:
        admin_client.post(url("q", "pause"), {"reason": "moves"})

        assert "paused: moves" in text_of(admin_client.get(url("q", "history")))


class PauseTests:
    def test_pauses_and_resumes(self, admin_client: Client) -> None:
        response = admin_client.post(url("q", "pause"), {"reason": "moves"}, follow=True)
        assert messages_of(response) == ["q: paused: moves"]
        assert (paused_names(), row().reason) == (["q"], "moves")

        response = admin_client.post(url("q", "resume"), follow=True)
        assert messages_of(response) == ["q: resumed."]
        assert paused_names() == []
        assert entries() == [("q", "paused: moves"), ("q", "resumed.")]

    def test_until_a_time_in_the_zone_of_the_user(
        self, admin_client: Client, settings: Any
    ) -> None:
        settings.TIME_ZONE = "Europe/Berlin"
        admin_client.post(url("q", "pause"), {"until": "2999-06-01T12:00"})

        until = row().resume_at
        assert until is not None
        assert until.isoformat() == "2999-06-01T10:00:00+00:00"
        assert 'value="2999-06-01T12:00"' in admin_client.get(url("q")).content.decode()
        assert entries() == [("q", "paused until 2999-06-01 12:00:00.")]

    @pytest.mark.parametrize(
        ("posted", "said"),
        [
            ({"until": "2001-01-01T00:00"}, "that time has passed"),
            ({"until": "soon"}, "Enter a valid date/time"),
            ({"reason": "x" * 501}, "at most 500 characters"),
        ],
    )
    def test_bad_input_is_refused_in_the_form(
        self, admin_client: Client, posted: dict[str, str], said: str
    ) -> None:
        response = admin_client.post(url("q", "pause"), posted)

        assert said in text_of(response)
        assert (paused_names(), entries()) == ([], [])

    def test_a_queue_that_the_settings_do_not_name(
        self, admin_client: Client, settings: Any
    ) -> None:
        settings.DURABLE = {"QUEUES": ["orders"]}

        assert "names orders" in text_of(admin_client.post(url("q", "pause")))
        assert not Queue.objects.exists()

    def test_selected_ones(self, admin_client: Client) -> None:
        response = selected(admin_client, "pause_selected", "a", "b", reason="moves")
        assert messages_of(response) == ["a: paused: moves", "b: paused: moves"]
        assert paused_names() == ["a", "b"]

        selected(admin_client, "resume_selected", "b")
        assert paused_names() == ["a"]
        response = selected(admin_client, "pause_selected", "c", until="soon")
        assert messages_of(response) == ["c: Enter a valid date/time."]


class BoundsTests:
    def test_sets_limits_and_takes_them_away(self, admin_client: Client) -> None:
        posted = {"concurrency": "5", "rate": "100", "period": "60"}
        admin_client.post(url("q", "bounds"), posted)
        found = row()
        assert (found.concurrency, found.rate, found.period) == (5, 100, timedelta(minutes=1))
        page = admin_client.get(url("q")).content.decode()
        assert 'value="00:01:00"' in page

        admin_client.post(url("q", "bounds"), {})
        assert row().concurrency is None
        said = "limits: 5 at once, 100 in 1 min 0 s."
        assert entries() == [("q", said), ("q", "limits: none.")]

    @pytest.mark.parametrize(
        ("posted", "said"),
        [
            ({"concurrency": "0"}, "greater than or equal to 1"),
            ({"concurrency": "many"}, "Enter a whole number"),
            ({"rate": "5"}, "a rate and its period are given together"),
            ({"period": "60"}, "a rate and its period are given together"),
            ({"rate": "5", "period": "-60"}, "a positive timedelta"),
            ({"rate": "5", "period": "soon"}, "Enter a valid duration"),
            ({"concurrency": "9999999"}, "less than or equal to 1000000"),
        ],
    )
    def test_bad_input_is_refused_in_the_form(
        self, admin_client: Client, posted: dict[str, str], said: str
    ) -> None:
        response = admin_client.post(url("q", "bounds"), posted)

        assert said in text_of(response)
        assert not Queue.objects.exists()


class PermissionTests:
    def test_who_sees_may_not_change(
        self, staff_client: ClientFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        viewer = staff_client("view_queue")
        pages = [viewer.get(page) for page in (URL, url("q"))]
        assert [page.status_code for page in pages] == [200, 200]
        assert 'name="concurrency"' not in pages[1].content.decode()

        with caplog.at_level(logging.WARNING, "django_durable"):
            posts = [viewer.post(url("q", verb)) for verb in ("pause", "resume", "bounds")]
            posts.append(selected(viewer, "pause_selected", "q"))
            posts.append(viewer.get(reverse("admin:durable_queue_add")))

        assert [post.status_code for post in posts] == [403] * 5
        assert "user ida may not change queue q" in caplog.text
        assert not Queue.objects.exists()

    def test_who_may_not_see_sees_nothing(self, staff_client: ClientFactory) -> None:
        stranger = staff_client("view_job")

        assert [stranger.get(page).status_code for page in (URL, url("q"))] == [403, 403]

    def test_who_may_change_queues_does(self, staff_client: ClientFactory) -> None:
        client = staff_client("view_queue", "change_queue")

        assert client.post(url("q", "pause")).status_code == 302
        assert paused_names() == ["q"]

    @pytest.mark.parametrize("verb", ["pause", "resume", "bounds"])
    def test_verbs_are_post_only(self, admin_client: Client, verb: str) -> None:
        assert admin_client.get(url("q", verb)).status_code == 405


class JobTests:
    def test_the_page_and_the_list_of_jobs_tell_the_pause(self, admin_client: Client) -> None:
        job = enqueue(succeed.using(queue_name="q"), "o-1")
        other = job_in("RUNNING")
        assert "paused" not in page_of(admin_client, job)

        pause_queue("q", until=timezone.now() + timedelta(hours=1), reason="the server moves")

        page = page_of(admin_client, job)
        assert "Its queue is paused since" in page
        assert "It resumes at" in page
        assert "The server moves." in page
        assert "paused" not in page_of(admin_client, other)
        assert text_of(admin_client.get(list_url(Job))).count("queue paused") == 1


class WorkerTests:
    def test_patterns_are_shown_as_told(self, admin_client: Client) -> None:
        make_worker(queues=[], queue_patterns=["mail*", "-mail.bulk"])

        assert "mail*, -mail.bulk" in text_of(admin_client.get(list_url(Worker)))
