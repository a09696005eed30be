"""The shop's pages for customers, asked by Django's test client; and its commands."""

import json
import re
from datetime import date
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from django_durable.models import Job, Message
from django_durable.testing import assert_enqueued, run_jobs
from example_project.shop import bank
from example_project.shop.bank import Card
from example_project.shop.carrier import Address
from example_project.shop.models import Charge, Order, Product
from example_project.shop.seed import OPENING_STOCK, WARES
from example_project.shop.tasks import fulfil_order, nightly_report
from example_project.shop.tasks.fulfilment import MANAGERS
from tests.example_project.conftest import MakeOrder

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]
WEBHOOK = "/bank/payments/"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"


def fill_form(client: Client, product: Product) -> dict[str, str]:
    """What a customer sends: the hidden fields of the product's page, and what they typed."""
    html = client.get(product.get_absolute_url()).content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)"', html))
    typed = {"quantity": "2", "email": "ada@example.com", "address": Address.KNOWN}
    return hidden | typed | {"card": Card.GOOD}


def order_url(product: Product) -> str:
    return f"{product.get_absolute_url()}order/"


class ProductPagesTests:
    def test_list_what_there_is(self, client: Client, product: Product) -> None:
        page = client.get("/")

        assert product.name in page.content.decode()
        assert "5 in stock" in page.content.decode()

    def test_say_that_a_product_is_sold_out(self, client: Client, product: Product) -> None:
        Product.objects.update(stock=0)

        page = client.get(product.get_absolute_url())

        assert "sold out" in page.content.decode()


class OrderProductTests:
    def test_leads_to_the_page_of_an_order_that_has_a_job(
        self, client: Client, product: Product
    ) -> None:
        answer = client.post(order_url(product), fill_form(client, product))

        order = Order.objects.get()
        assert answer.headers["Location"] == order.get_absolute_url()
        assert_enqueued(fulfil_order, order)

    def test_leads_to_the_same_page_after_a_double_click(
        self, client: Client, product: Product
    ) -> None:
        form = fill_form(client, product)

        first = client.post(order_url(product), form)
        second = client.post(order_url(product), form)

        assert first.headers["Location"] == second.headers["Location"]
        assert Job.objects.count() == 1

    def test_shows_what_is_wrong_with_a_form(self, client: Client, product: Product) -> None:
        form = fill_form(client, product) | {"email": "nobody", "quantity": "0"}

        page = client.post(order_url(product), form)

        assert page.status_code == 422
        assert "Enter a valid email address." in page.content.decode()
        assert not Order.objects.exists()

    def test_refuses_a_form_from_elsewhere(self, product: Product, settings: object) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, CSRF]
        client = Client(enforce_csrf_checks=True)
        form = fill_form(client, product)

        accepted = client.post(order_url(product), form)
        refused = client.post(order_url(product), form | {"csrfmiddlewaretoken": "x"})

        assert (accepted.status_code, refused.status_code) == (302, 403)

    def test_is_not_done_by_following_a_link(self, client: Client, product: Product) -> None:
        assert client.get(order_url(product)).status_code == 405


class OrderPageTests:
    def test_shows_the_steps_and_asks_for_more_until_it_is_finished(
        self, client: Client, product: Product
    ) -> None:
        client.post(order_url(product), fill_form(client, product))
        order = Order.objects.get()
        before = client.get(order.get_absolute_url()).content.decode()

        run_jobs()
        after = client.get(f"{order.get_absolute_url()}progress/")

        assert "received" in before
        assert "data-finished" not in before
        assert "on its way" in after.content.decode()
        assert "data-finished" in after.content.decode()
        assert after.headers["Cache-Control"] == "no-store"

    def test_leads_to_the_job_in_the_admin(self, client: Client, product: Product) -> None:
        client.post(order_url(product), fill_form(client, product))

        page = client.get(Order.objects.get().get_absolute_url())

        assert f"/admin/durable/job/{Job.objects.get().pk}/change/" in page.content.decode()


class PaymentPagesTests:
    @pytest.fixture
    def order(self, client: Client, make_order: MakeOrder) -> Order:
        """An order that waits for its payment."""
        order = make_order(card="")
        run_jobs()
        return order

    def test_paying_at_the_bank_wakes_the_order(self, client: Client, order: Order) -> None:
        page = client.get(order.get_absolute_url()).content.decode()
        assert "waiting for your payment" in page

        answer = client.post(f"{order.get_absolute_url()}pay/")
        run_jobs()

        assert answer.headers["Location"] == order.get_absolute_url()
        order.refresh_from_db()
        assert order.state == Order.State.SHIPPED

    def test_an_event_that_the_bank_tells_twice_counts_once(self, order: Order) -> None:
        first, second = self.tell(order), self.tell(order)

        assert (first.status_code, second.status_code) == (204, 204)
        assert Message.objects.count() == 1
        assert not Job.objects.exclude(subject_key=str(order.pk)).exists()

    def test_what_the_bank_did_not_sign_is_refused(self, order: Order) -> None:
        answer = self.tell(order, signature="0" * 64)

        assert answer.status_code == 403
        assert not Message.objects.exists()

    def test_nothing_is_remembered_of_an_event_that_failed(self, order: Order) -> None:
        with (
            patch("example_project.shop.orders.send_event", side_effect=RuntimeError),
            pytest.raises(RuntimeError),
        ):
            self.tell(order)
        order.refresh_from_db()
        assert order.payment == ""

        self.tell(order)

        assert Message.objects.count() == 1

    def tell(self, order: Order, signature: str = "") -> Any:
        event = {"id": "evt_1", "reference": order.number, "charge": "ch_1"}
        body = json.dumps(event).encode()
        headers = {bank.SIGNATURE: signature or bank.sign(body)}
        client = Client(enforce_csrf_checks=True)
        return client.post(WEBHOOK, body, content_type="application/json", headers=headers)

    def test_an_order_that_is_paid_is_not_sent_to_the_bank(
        self, client: Client, make_order: MakeOrder
    ) -> None:
        order = make_order()

        client.post(f"{order.get_absolute_url()}pay/")

        assert not Charge.objects.exists()


class CancelTests:
    def test_cancels_an_order_that_is_open(self, client: Client, make_order: MakeOrder) -> None:
        order = make_order(card="")
        run_jobs()

        answer = client.post(f"{order.get_absolute_url()}cancel/", follow=True)
        run_jobs()

        assert "You cancelled this order" in answer.content.decode()
        order.refresh_from_db()
        assert order.state == Order.State.CANCELLED

    def test_says_that_it_is_too_late(self, client: Client, make_order: MakeOrder) -> None:
        order = make_order()
        run_jobs()

        answer = client.post(f"{order.get_absolute_url()}cancel/", follow=True)

        assert "It is too late to cancel this order." in answer.content.decode()


class CommandTests:
    def test_open_shop_fills_the_shelves_once_and_gives_the_keys(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("open_shop", password="first")
        call_command("open_shop", password="second")

        assert capsys.readouterr().out.splitlines() == [
            "8 new wares are on the shelves; admin and manager have the keys.",
            "0 new wares are on the shelves; admin and manager have the keys.",
        ]
        stocks = Product.objects.values_list("stock", flat=True)
        assert list(stocks) == [OPENING_STOCK] * len(WARES)
        admin, manager = User.objects.order_by("username")
        assert admin.check_password("second")
        assert manager.check_password("second")
        assert (admin.is_superuser, manager.is_superuser) == (True, False)
        assert manager.groups.get().name == MANAGERS

    def test_make_nightly_report_enqueues_one_job_for_a_day(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("make_nightly_report", day=date(2026, 1, 31))
        call_command("make_nightly_report", day=date(2026, 1, 31))

        job = assert_enqueued(nightly_report, date(2026, 1, 31))
        assert Job.objects.count() == 1
        assert capsys.readouterr().out.splitlines() == [
            f"The report of 2026-01-31 is enqueued: job {job.pk}.",
            f"The report of 2026-01-31 was enqueued before: job {job.pk}.",
        ]
