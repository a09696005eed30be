"""The pages of schedules: the list, the form, the verbs, who may do what."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from django_durable import Cron, pause_schedule
from django_durable.models import Job, Schedule, Tick
from tests.admin.acting import entries, messages_of
from tests.admin.conftest import ClientFactory
from tests.admin.rows import list_url, text_of
from tests.builders import redeployed
from tests.scheduled import (
    HOURLY,
    boot,
    due_since,
    fire,
    hourly_but_now,
    jobs_of,
    minute_but_now,
    names,
    new_schedule,
    rewrite,
    row_of,
    worker_of,
)
from tests.testapp.durable_stories import quick

pytestmark = pytest.mark.django_db
URL = list_url(Schedule)
ADD = reverse("admin:durable_schedule_add")
NOW = timedelta(seconds=1)


def url_of(name: str, verb: str = "change") -> str:
    return reverse(f"admin:durable_schedule_{verb}", args=[quote(name)])


def filled(**values: Any) -> dict[str, Any]:
    """What the form posts."""
    usual = {
        "name": "tea",
        "task_path": quick.path,
        "cron": "0 6 * * 1-5",
        "timezone": "Europe/Berlin",
        "arguments": '{"args": ["a"], "kwargs": {}}',
        "missed": "one",
        "overlap": "skip",
        "jitter": "",
    }
    return usual | values


class ListTests:
    def test_renders_without_a_row(self, admin_client: Client) -> None:
        assert "0 schedules" in text_of(admin_client.get(URL))

    def test_shows_where_each_stands(self, admin_client: Client) -> None:
        cron = hourly_but_now()
        new_schedule("tea", cron=cron, tz="Europe/Berlin")
        due_since("tea", NOW)
        fire()
        new_schedule("milk")
        pause_schedule("milk")
        new_schedule("odd")
        rewrite("odd", task_path="elsewhere.task")
        new_schedule("bad")
        rewrite("bad", problem="it is bad")

        page = text_of(admin_client.get(URL))

        assert f"tea stories.quick active {cron} Europe/Berlin" in page
        assert "enqueued" in page
        assert "milk stories.quick paused" in page
        assert "odd elsewhere.task unknown task" in page
        assert "bad stories.quick problem" in page

    def test_is_narrowed_by_state(self, admin_client: Client) -> None:
        new_schedule("tea")
        new_schedule("milk")
        pause_schedule("milk")

        def listed(state: str) -> list[str]:
            response = admin_client.get(URL, {"state": state})
            return [row.name for row in response.context["cl"].result_list]

        assert listed("due") == ["tea"]
        assert listed("paused") == ["milk"]
        assert listed("retired") == listed("problem") == listed("nonsense") == []

    def test_the_number_of_queries_does_not_depend_on_the_rows(self, admin_client: Client) -> None:
        counts = []
        for round_number in range(2):
            for n in range(3):
                new_schedule(f"s{round_number}{n}")
            with CaptureQueriesContext(connection) as captured:
                admin_client.get(URL)
            counts.append(len(captured))

        assert counts[0] == counts[1]

    @pytest.mark.parametrize(
        ("action", "said"), [("run", "Enqueued job"), ("pause", "Paused."), ("resume", "Resumed")]
    )
    def test_actions_act_on_each(self, admin_client: Client, action: str, said: str) -> None:
        for name in ("tea", "milk"):
            new_schedule(name)
        data = {"action": f"{action}_selected", "_selected_action": ["tea", "milk"]}

        response = admin_client.post(URL, data, follow=True)

        assert [said in message for message in messages_of(response)] == [True, True]
        assert sorted(str(name) for name, _ in entries()) == ["milk", "tea"]


class PageTests:
    def test_shows_next_times_and_latest_ticks(self, admin_client: Client) -> None:
        minute = minute_but_now()
        new_schedule("tea", cron=f"{minute} 6 * * *", tz="Europe/Berlin")
        due_since("tea", NOW)
        fire()
        (job,) = jobs_of()

        page = text_of(admin_client.get(url_of("tea")))

        assert page.count(f"06:{minute:02}:00 CE") == 5
        assert f"ready …{str(job.pk)[-12:]}" in page
        assert "Made by: an operator" in page

    def test_shows_at_most_twenty_ticks(self, admin_client: Client) -> None:
        new_schedule("tea", missed="none", cron="* * * * *")
        due_since("tea", timedelta(hours=2))
        fire()
        assert Tick.objects.count() > 20

        response = admin_client.get(url_of("tea"))

        assert len(response.context["ticks"]) == 20

    @pytest.mark.parametrize("name", ["tea", "a/b c?d", "ü <b>", "x_y/pause"])
    def test_any_name_has_its_page_and_verbs(self, admin_client: Client, name: str) -> None:
        new_schedule(name)

        assert admin_client.get(url_of(name)).status_code == 200
        response = admin_client.post(url_of(name, "pause"), follow=True)

        assert messages_of(response) == [f"{name}: Paused."]
        assert row_of(name).paused_at is not None

    def test_a_row_edited_by_hand_has_its_page(self, admin_client: Client) -> None:
        new_schedule("tea")
        rewrite("tea", cron="nonsense", timezone="Mars", problem="it is bad", arguments="[]")

        assert "it is bad" in text_of(admin_client.get(url_of("tea")))

    def test_a_job_s_page_names_its_schedule(self, admin_client: Client) -> None:
        new_schedule("tea")
        due_since("tea", NOW)
        fire()
        (job,) = jobs_of()

        page = admin_client.get(reverse("admin:durable_job_change", args=[job.pk]))

        assert url_of("tea") in page.content.decode()
        assert "tea , for 20" in text_of(page)


class FormTests:
    def test_a_schedule_is_made(self, admin_client: Client) -> None:
        response = admin_client.post(ADD, filled(jitter="00:00:30"), follow=True)

        assert response.status_code == 200
        row = row_of()
        assert (row.cron, row.timezone, row.task_path) == (
            "0 6 * * 1-5",
            "Europe/Berlin",
            quick.path,
        )
        assert (row.arguments, row.jitter) == (
            '{"args":["a"],"kwargs":{}}',
            timedelta(seconds=30),
        )
        assert row.next_tick_at is not None
        assert row.declared is None
        assert [name for name, _ in entries()] == ["tea"]

    @pytest.mark.parametrize(
        ("values", "field", "said"),
        [
            ({"cron": "99 * * * *"}, "cron", "Bad minute"),
            ({"cron": "0 0 31 2 *"}, "cron", "Bad day-of-month"),
            ({"cron": "0 0 * 2 MON#5"}, "cron", "no time within"),
            ({"cron": "*" * 201}, "cron", "at most 200"),
            ({"timezone": "Mars"}, "timezone", "no such time zone"),
            ({"timezone": "../../etc/passwd"}, "timezone", "no such time zone"),
            ({"arguments": "["}, "arguments", "JSON"),
            ({"arguments": "[]"}, "arguments", "args"),
            ({"arguments": '{"args": [], "kwargs": {}}'}, "arguments", "missing a required"),
            ({"task_path": "os.system"}, "task_path", "not one of the available"),
            ({"missed": "some"}, "missed", "not one of the available"),
            ({"missed": "all", "overlap": "cancel"}, "overlap", "each time matters"),
            ({"jitter": "2 00:00:00"}, "jitter", "of a day at most"),
            ({"name": ""}, "name", "required"),
            ({"name": "a\x00b"}, "name", "Null characters"),
        ],
    )
    def test_what_does_not_fit_is_refused_at_its_field(
        self, admin_client: Client, values: dict[str, Any], field: str, said: str
    ) -> None:
        response = admin_client.post(ADD, filled(**values))

        assert response.status_code == 200
        errors = response.context["adminform"].form.errors
        assert said in str(errors[field])
        assert names() == []
        assert entries() == []

    def test_a_taken_name_is_refused(self, admin_client: Client) -> None:
        new_schedule("tea")

        response = admin_client.post(ADD, filled())

        assert "of that name already" in str(response.context["adminform"].form.errors["name"])

    def test_a_schedule_is_changed(self, admin_client: Client) -> None:
        new_schedule("tea", cron=HOURLY)
        before = row_of()

        admin_client.post(url_of("tea"), filled(timezone="UTC", cron="30 4 * * *"), follow=True)

        row = row_of()
        assert (row.cron, row.timezone) == ("30 4 * * *", "UTC")
        assert row.next_tick_at != before.next_tick_at
        assert "Cron expression" in entries()[0][1]

    def test_an_unchanged_form_leaves_the_next_tick(self, admin_client: Client) -> None:
        new_schedule("tea")
        tick = due_since("tea", NOW)
        form = admin_client.get(url_of("tea")).context["adminform"].form
        data = {name: form.get_initial_for_field(f, name) for name, f in form.fields.items()}

        admin_client.post(url_of("tea"), {k: "" if v is None else v for k, v in data.items()})

        assert row_of().next_tick_at == tick

    def test_name_and_task_stay(self, admin_client: Client) -> None:
        new_schedule("tea")

        admin_client.post(url_of("tea"), filled(name="milk", task_path="tests.other"))

        assert names() == ["tea"]
        assert row_of().task_path == quick.path

    def test_the_next_times_of_what_is_typed(self, admin_client: Client) -> None:
        url = reverse("admin:durable_schedule_preview")

        good = admin_client.get(url, {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}).json()
        bad = admin_client.get(url, {"cron": "30 2 31 2 *", "timezone": "Europe/Berlin"}).json()
        none = admin_client.get(url).json()

        assert len(good["times"]) == 5
        assert "Bad day-of-month" in bad["problem"]
        assert "problem" in none

    def test_a_declared_one_is_not_deleted_and_an_operator_s_is(self, admin_client: Client) -> None:
        redeployed("scheduled.admin", lambda: None, schedule=Cron("0 * * * *"))
        boot(worker_of("v1"))
        new_schedule("tea")

        def deleted(name: str) -> int:
            return admin_client.post(url_of(name, "delete"), {"post": "yes"}).status_code

        assert deleted("scheduled.admin") == 403
        assert deleted("tea") == 302
        assert names() == ["scheduled.admin"]

    def test_selected_ones_are_deleted(self, admin_client: Client) -> None:
        for name in ("tea", "milk"):
            new_schedule(name)
        data = {"action": "delete_selected", "_selected_action": ["tea", "milk"], "post": "yes"}

        admin_client.post(URL, data)

        assert names() == []


class VerbTests:
    def test_run_pause_and_resume_are_recorded(self, admin_client: Client) -> None:
        new_schedule("tea")

        for verb in ("run", "pause", "resume"):
            assert admin_client.post(url_of("tea", verb)).status_code == 302

        assert len(jobs_of()) == 1
        assert [message.split()[0] for _, message in entries()] == [
            "Enqueued",
            "Paused.",
            "Resumed:",
        ]

    def test_a_range_is_made_up_after_a_dry_run(self, admin_client: Client) -> None:
        new_schedule("tea", cron=HOURLY)
        until = timezone.now().replace(minute=30, second=0, microsecond=0) - timedelta(hours=2)
        data = {
            "since": (until - timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%S"),
            "until": until.strftime("%Y-%m-%dT%H:%M:%S"),
        }

        tried = admin_client.post(url_of("tea", "backfill"), data | {"dry_run": "on"}, follow=True)
        assert "3 would be enqueued. Nothing was done." in messages_of(tried)[0]
        assert not Job.objects.exists()
        assert entries() == []

        done = admin_client.post(url_of("tea", "backfill"), data, follow=True)
        assert "3 were enqueued." in messages_of(done)[0]
        assert len(jobs_of()) == 3
        assert len(entries()) == 1

    def test_a_bad_range_is_refused(self, admin_client: Client) -> None:
        new_schedule("tea")

        for data in (
            {},
            {"since": "x", "until": "y"},
            {"since": "2030-01-01", "until": "2020-01-01"},
        ):
            response = admin_client.post(url_of("tea", "backfill"), data, follow=True)
            assert response.context["messages"]
        assert not Job.objects.exists()

    def test_verbs_are_posted(self, admin_client: Client) -> None:
        new_schedule("tea")

        for verb in ("run", "pause", "resume", "backfill"):
            assert admin_client.get(url_of("tea", verb)).status_code == 405

    def test_a_schedule_that_is_gone_is_a_message(self, admin_client: Client) -> None:
        response = admin_client.post(url_of("coffee", "run"), follow=True)

        assert "there is no such schedule" in messages_of(response)[0]


class PermissionTests:
    def statuses(self, client: Client) -> dict[str, int]:
        def posted(verb: str, data: Any = None) -> int:
            return client.post(url_of("tea", verb), data or {}).status_code

        return {
            "list": client.get(URL).status_code,
            "page": client.get(url_of("tea")).status_code,
            "add": client.post(ADD, filled(name="new")).status_code,
            "change": posted("change", filled(timezone="UTC", cron="1 * * * *")),
            "pause": posted("pause"),
            "resume": posted("resume"),
            "run": posted("run"),
            "backfill": posted("backfill"),
            "preview": client.get(reverse("admin:durable_schedule_preview")).status_code,
            "delete": posted("delete", {"post": "yes"}),
        }

    @pytest.mark.parametrize(
        ("names", "allowed"),
        [
            ((), set()),
            (("view_schedule",), {"list", "page"}),
            (("change_schedule",), {"list", "page"}),  # as everywhere in Django's admin
            (("view_schedule", "add_schedule"), {"list", "page", "add", "preview"}),
            (
                ("view_schedule", "change_schedule"),
                {"list", "page", "change", "pause", "resume", "preview"},
            ),
            (("view_schedule", "run_schedule"), {"list", "page", "run", "backfill"}),
            (("view_schedule", "delete_schedule"), {"list", "page", "delete"}),
        ],
    )
    def test_each_thing_needs_its_own(
        self, staff_client: ClientFactory, names: tuple[str, ...], allowed: set[str]
    ) -> None:
        new_schedule("tea")

        statuses = self.statuses(staff_client(*names))

        assert {what for what, status in statuses.items() if status != 403} == allowed

    def test_a_forbidden_action_does_nothing(self, staff_client: ClientFactory) -> None:
        new_schedule("tea")
        client = staff_client("view_schedule")

        client.post(URL, {"action": "run_selected", "_selected_action": ["tea"]})

        assert not Job.objects.exists()
