"""The pages of limits: what is in use, what the code declares, changing it."""

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

from django_durable import Limit, task
from django_durable.models import Limit as LimitRow
from tests.admin.acting import entries, messages_of
from tests.admin.conftest import ClientFactory
from tests.admin.rows import job_in, list_url, rewritten, text_of

pytestmark = pytest.mark.django_db

LIST = list_url(LimitRow)
MINUTE = timedelta(minutes=1)
ODD = ["a/b", "<script>", "Ärger", "add", "'\""]


def url(name: str, verb: str = "change") -> str:
    return reverse(f"admin:durable_limit_{verb}", args=[quote(name)])


def new_limit(name: str = "crm", **columns: Any) -> LimitRow:
    return LimitRow.objects.bulk_create([LimitRow(name=name, **columns)])[0]


def declared(concurrency: int = 5) -> dict[str, int]:
    return {"concurrency": concurrency, "declared_concurrency": concurrency}


def numbers(name: str = "crm") -> tuple[int | None, int | None, timedelta | None]:
    row = LimitRow.objects.get(pk=name)
    return row.concurrency, row.rate, row.period


def hold(limit_name: str, key: str) -> None:
    rewritten(job_in("RUNNING"), limit_name=limit_name, limit_key=key)


class ListTests:
    def test_renders_without_a_row(self, admin_client: Client) -> None:
        assert "0 limits" in text_of(admin_client.get(LIST))

    def test_shows_numbers_use_declaration_and_tasks(self, admin_client: Client) -> None:
        @task(path="admin.tells_crm", limit=Limit("crm", concurrency=5, key=lambda n: n))
        def tells_crm(n: int) -> None: ...

        new_limit(concurrency=2, rate=100, period=MINUTE, declared_concurrency=5)
        new_limit("mail", **declared(1))
        for key in ("anna", "anna", "bert"):
            hold("crm", key)
        hold("mail", "")

        page = text_of(admin_client.get(LIST))

        assert (
            "crm 2 at once, 100 in 1 min 0 s 3 under 2 keys, at most 2 under anna "
            "changed 5 at once admin.tells_crm (by key)"
        ) in page
        assert "mail 1 at once 1 the same -" in page

    def test_the_number_of_queries_does_not_depend_on_the_rows(self, admin_client: Client) -> None:
        counts = []
        for n in range(2):
            for i in range(4):
                new_limit(f"l{n}{i}")
                hold(f"l{n}{i}", "")
            with CaptureQueriesContext(connection) as captured:
                admin_client.get(LIST)
            counts.append(len(captured))

        assert counts[0] == counts[1] <= 5


class PageTests:
    @pytest.mark.parametrize("name", ODD)
    def test_odd_names_render(self, admin_client: Client, name: str) -> None:
        new_limit(name)

        assert f'href="{url(name)}"' in html.unescape(admin_client.get(LIST).content.decode())
        assert admin_client.get(url(name)).status_code == 200
        admin_client.post(url(name, "bounds"), {"concurrency": "3"})
        assert numbers(name) == (3, None, None)

    @pytest.mark.parametrize("name", ["nobody", "\x00"])
    def test_one_that_is_not_there(self, admin_client: Client, name: str) -> None:
        assert admin_client.get(url(name)).status_code == 302

    def test_changes_and_goes_back(self, admin_client: Client) -> None:
        new_limit(**declared())
        assert "As declared" not in admin_client.get(url("crm")).content.decode()

        posted = {"concurrency": "", "rate": "9", "period": "1:00:00"}
        response = admin_client.post(url("crm", "bounds"), posted, follow=True)
        assert messages_of(response) == ["crm: limited to 9 in 1 h 0 min."]
        assert numbers() == (None, 9, timedelta(hours=1))
        assert "As declared" in response.content.decode()

        response = admin_client.post(url("crm", "declared"), follow=True)
        assert messages_of(response) == ["crm: as the code declares."]
        assert numbers() == (5, None, None)
        said = [("crm", "limited to 9 in 1 h 0 min."), ("crm", "as the code declares.")]
        assert entries() == said

    def test_empty_is_any_number(self, admin_client: Client) -> None:
        new_limit(**declared())
        admin_client.post(url("crm", "bounds"), {})

        assert numbers() == (None, None, None)
        assert entries() == [("crm", "limited to any number.")]

    @pytest.mark.parametrize(
        ("posted", "said"),
        [
            ({"concurrency": "0"}, "greater than or equal to 1"),
            ({"rate": "5"}, "a rate and its period are given together"),
            ({"rate": "5", "period": "999999:00:00"}, "of a year at most"),
        ],
    )
    def test_bad_input_is_refused_in_the_form(
        self, admin_client: Client, posted: dict[str, str], said: str
    ) -> None:
        new_limit(**declared())

        assert said in text_of(admin_client.post(url("crm", "bounds"), posted))
        assert (numbers(), entries()) == ((5, None, None), [])

    def test_one_that_is_gone_cannot_be_changed(self, admin_client: Client) -> None:
        response: HttpResponse = admin_client.post(url("crm", "bounds"), follow=True)

        assert messages_of(response) == ["There is no such limit."]


class PermissionTests:
    def test_who_sees_may_not_change(
        self, staff_client: ClientFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        new_limit(**declared())
        viewer = staff_client("view_limit")
        pages = [viewer.get(page) for page in (LIST, url("crm"))]
        assert [page.status_code for page in pages] == [200, 200]
        assert 'name="concurrency"' not in pages[1].content.decode()

        with caplog.at_level(logging.WARNING, "django_durable"):
            posts = [viewer.post(url("crm", verb)) for verb in ("bounds", "declared")]

        assert [post.status_code for post in posts] == [403, 403]
        assert "user ida may not change limit crm" in caplog.text
        assert numbers() == (5, None, None)

    def test_who_may_change_limits_does(self, staff_client: ClientFactory) -> None:
        new_limit(**declared())
        client = staff_client("view_limit", "change_limit")

        assert client.post(url("crm", "bounds"), {"concurrency": "1"}).status_code == 302
        assert numbers() == (1, None, None)

    def test_rows_are_neither_added_nor_deleted(self, admin_client: Client) -> None:
        new_limit()

        assert admin_client.get(f"{LIST}add/").status_code == 403
        assert admin_client.post(url("crm").replace("change", "delete")).status_code == 403

    @pytest.mark.parametrize("verb", ["bounds", "declared"])
    def test_verbs_are_post_only(self, admin_client: Client, verb: str) -> None:
        assert admin_client.get(url("crm", verb)).status_code == 405
