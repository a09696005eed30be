"""The pages of idempotency keys."""

from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_durable import enqueue, once
from django_durable.models import IdempotencyKey
from tests.admin import tasks
from tests.admin.conftest import ClientFactory
from tests.admin.rows import list_url, page_url, text_of

pytestmark = pytest.mark.django_db

URL = list_url(IdempotencyKey)


def keyed(key: str) -> IdempotencyKey:
    """The key of a new job."""
    job = enqueue(tasks.succeed.using(idempotency_key=key), "o-1")
    return IdempotencyKey.objects.get(job_id=job.pk)


def recorded(key: str, scope: str = "stripe") -> IdempotencyKey:
    """The key of a result of once()."""
    once(key, lambda: {"paid": 3}, scope=scope)
    return IdempotencyKey.objects.get(key=key, scope=f"once/{scope}")


def listed(client: Client, **params: str) -> list[str]:
    response = client.get(URL, params)
    assert response.status_code == 200
    return [key.key for key in response.context["cl"].result_list]


class ListTests:
    def test_renders_without_a_row(self, admin_client: Client) -> None:
        assert "0 idempotency keys" in text_of(admin_client.get(URL))

    def test_shows_what_each_names(self, admin_client: Client) -> None:
        key = keyed("order-17")
        recorded("evt-1")

        page = text_of(admin_client.get(URL))

        assert f"order-17 admin.succeed {key.job_id}" in page
        assert "evt-1 once/stripe a result of once()" in page
        assert "in 6 d 23 h" in page

    def test_is_searched_by_the_whole_key(self, admin_client: Client) -> None:
        keyed("order-17")
        keyed("order-170")

        assert listed(admin_client, q="order-17") == ["order-17"]
        assert listed(admin_client, q=" order-17\t") == ["order-17"]
        assert listed(admin_client, q="order") == []
        assert len(listed(admin_client, q="  ")) == 2
        assert listed(admin_client, q="a\x00b") != []  # refused with a message, not searched for

    def test_finds_keys_with_blanks_around_them(self, admin_client: Client) -> None:
        keyed(" order-17")

        assert listed(admin_client, q=" order-17") == [" order-17"]

    def test_is_searched_by_scope_and_key_as_they_are_shown(self, admin_client: Client) -> None:
        recorded("a: b")
        key = recorded("evt-1")
        recorded("evt-1", scope="paypal")

        assert listed(admin_client, q="once/stripe: evt-1") == ["evt-1"]
        assert listed(admin_client, q=str(key)) == ["evt-1"]
        assert len(listed(admin_client, q="evt-1")) == 2
        assert listed(admin_client, q="a: b") == ["a: b"]

    def test_is_narrowed_by_scope(self, admin_client: Client) -> None:
        keyed("order-17")
        recorded("evt-1")

        assert listed(admin_client, scope="once/stripe") == ["evt-1"]
        assert listed(admin_client, scope="nonsense") == []
        assert listed(admin_client, scope="a\x00b") == []

    def test_is_sorted_by_age_whatever_is_asked(self, admin_client: Client) -> None:
        for key in ("b", "c", "a"):
            keyed(key)

        assert listed(admin_client, o="1") == ["a", "c", "b"]
        assert "sortable" not in admin_client.get(URL).content.decode()

    def test_other_lookups_are_refused(self, admin_client: Client) -> None:
        assert admin_client.get(URL, {"value__contains": "x"}).status_code == 400

    def test_the_number_of_queries_does_not_depend_on_the_rows(self, admin_client: Client) -> None:
        def queries() -> list[str]:
            with CaptureQueriesContext(connection) as captured:
                admin_client.get(URL)
            return [query["sql"] for query in captured.captured_queries]

        keyed("order-0")
        few = queries()
        for number in range(1, 20):
            keyed(f"order-{number}")

        # session, user, the bounded count, the page
        assert len(queries()) == len(few) == 4
        assert "LIMIT 10001" in few[2]
        assert '"value"' not in few[3]


class PageTests:
    def test_leads_to_the_job(self, admin_client: Client) -> None:
        key = keyed("order-17")

        page = admin_client.get(page_url(key)).content.decode()

        assert f'<a href="/admin/durable/job/{key.job_id}/change/">admin.succeed ' in page

    def test_says_that_the_job_is_pruned(self, admin_client: Client) -> None:
        key = keyed("order-17")
        gone = uuid4()
        IdempotencyKey.objects.update(job_id=gone)

        assert f"{gone} (pruned)" in text_of(admin_client.get(page_url(key)))

    def test_shows_the_result_of_once(self, admin_client: Client) -> None:
        page = text_of(admin_client.get(page_url(recorded("evt-1"))))

        assert '{"paid": 3}' in page
        assert "none: it guards a call of once()" in page

    def test_shows_odd_keys_escaped(self, admin_client: Client) -> None:
        key = keyed("<b>&' ")

        page = admin_client.get(page_url(key)).content.decode()

        assert "&lt;b&gt;&amp;&#x27; " in page
        assert "<b>&" not in page

    def test_nothing_can_be_added_edited_or_deleted(self, admin_client: Client) -> None:
        page = page_url(keyed("order-17"))

        assert admin_client.post(page, {"key": "x"}).status_code == 403
        assert admin_client.post(page.replace("change", "delete")).status_code == 403
        assert admin_client.get(f"{URL}add/").status_code == 403

    def test_needs_the_permission_to_see_keys(self, staff_client: ClientFactory) -> None:
        page = page_url(keyed("order-17"))
        stranger, viewer = (
            staff_client(name, username=name) for name in ("view_job", "view_idempotencykey")
        )

        assert [stranger.get(url).status_code for url in (URL, page)] == [403, 403]
        assert [viewer.get(url).status_code for url in (URL, page)] == [200, 200]
