"""The shop's pages, asked by Django's test client."""

import re
from datetime import date

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client

from django_durable.models import Job
from django_durable.testing import assert_enqueued, run_jobs
from example_project.shop.models import DailyReport, Order, Product
from example_project.shop.seed import OPENING_STOCK, WARES
from example_project.shop.tasks import fulfil_order, nightly_report

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]
CSRF = "django.middleware.csrf.CsrfViewMiddleware"


def fill_form(client: Client, product: Product) -> dict[str, str]:
    """What a customer sends: the hidden fields of the product's page, and what they typed."""
    html = client.get(product.get_absolute_url()).content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)"', html))
    return hidden | {"quantity": "2", "email": "ada@example.com", "card": "card_good"}


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


class OfficeTests:
    def test_is_for_the_staff(self, client: Client, product: Product) -> None:
        assert client.get("/office/").status_code == 302
        assert client.post("/office/report/").status_code == 302
        assert not Job.objects.exists()

    def test_shows_orders_and_makes_reports(self, admin_client: Client, product: Product) -> None:
        admin_client.post(order_url(product), fill_form(admin_client, product))
        run_jobs()

        admin_client.post("/office/report/")
        assert_enqueued(nightly_report)
        run_jobs()

        page = admin_client.get("/office/").content.decode()
        assert Order.objects.get().number in page
        assert "€ 32.00" in page
        assert DailyReport.objects.get().orders == 1


class CommandTests:
    def test_open_shop_fills_the_shelves_once_and_gives_the_keys(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("open_shop", password="first")
        call_command("open_shop", password="second")

        assert capsys.readouterr().out.splitlines() == [
            "8 new wares are on the shelves; admin has the keys.",
            "0 new wares are on the shelves; admin has the keys.",
        ]
        stocks = Product.objects.values_list("stock", flat=True)
        assert list(stocks) == [OPENING_STOCK] * len(WARES)
        assert get_user_model().objects.get().check_password("second")

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
