"""Customers at the shop's own pages, on a running server."""

import time
from typing import Any

import pytest
from django.core.management import call_command

from django_durable.models import Job
from django_durable.testing import run_jobs
from example_project.demo.customers import (
    Crowd,
    Purchase,
    Receipt,
    Way,
    buy,
    find_products,
    pay_at_bank,
    plan_purchases,
)
from example_project.demo.errors import DemoError
from example_project.shop.models import Order


def wait_for_receipts(crowd: Crowd) -> list[Receipt]:
    while (receipts := crowd.receipts()) is None:
        time.sleep(0.01)
    return receipts


class PlanTests:
    def test_spreads_orders_over_the_products_and_clicks_twice_on_some(self) -> None:
        purchases = plan_purchases(["/a/", "/b/"], orders=10, double_clicks=3, ways={})

        assert [purchase.page for purchase in purchases] == ["/a/", "/b/"] * 5
        assert sum(purchase.clicks for purchase in purchases) == 13
        assert {purchase.quantity for purchase in purchases} <= {1, 2, 3}
        assert {purchase.way for purchase in purchases} == {Way.CARD}

    def test_lets_those_come_first_who_order_in_a_special_way(self) -> None:
        ways = {Way.BANK: 2, Way.NOWHERE: 1}

        purchases = plan_purchases(["/a/"], orders=5, double_clicks=0, ways=ways)

        assert [purchase.way for purchase in purchases] == [
            Way.BANK,
            Way.BANK,
            Way.NOWHERE,
            Way.CARD,
            Way.CARD,
        ]

    def test_lets_forty_customers_come_again_two_of_whom_no_mail_reaches(self) -> None:
        purchases = plan_purchases(["/a/"], orders=100, double_clicks=0, ways={})

        emails = {purchase.email for purchase in purchases}
        assert len(emails) == 40
        assert len([email for email in emails if email.endswith(".invalid")]) == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("example_project.urls")
class CustomerTests:
    @pytest.fixture
    def port(self, live_server: Any) -> int:
        call_command("open_shop", password="secret", verbosity=0)
        return int(live_server.thread.port)

    def test_buy_what_the_shop_offers(self, port: int) -> None:
        page, *_ = pages = find_products(port)

        receipt = buy(port, Purchase(number=7, page=page, quantity=3, clicks=2))

        order = Order.objects.get()
        assert len(pages) == 8
        assert receipt == Receipt(pages=(order.get_absolute_url(),) * 2)
        assert (order.quantity, order.email) == (3, "customer7@example.com")
        assert Job.objects.count() == 1

    @pytest.mark.parametrize(
        ("way", "column", "value"),
        [
            (Way.BANK, "card", ""),
            (Way.DISCOUNT, "discount_wish", "I drink it every day."),
            (Way.NOWHERE, "address", "1 Nowhere Road"),
        ],
    )
    def test_buy_in_their_own_way(self, port: int, way: Way, column: str, value: str) -> None:
        page, *_ = find_products(port)

        buy(port, Purchase(number=1, page=page, quantity=1, clicks=1, way=way))

        assert Order.objects.values_list(column, flat=True).get() == value

    def test_pay_at_the_bank(self, port: int) -> None:
        page, *_ = find_products(port)
        buy(port, Purchase(number=1, page=page, quantity=1, clicks=1, way=Way.BANK))
        run_jobs()
        order = Order.objects.get()

        assert pay_at_bank(port, [order.get_absolute_url()]) == 1

        order.refresh_from_db()
        assert order.payment.startswith("ch_")

    def test_come_in_a_crowd(self, port: int) -> None:
        purchases = plan_purchases(find_products(port), orders=12, double_clicks=4, ways={})

        with Crowd(port, purchases) as crowd:
            receipts = wait_for_receipts(crowd)

        assert len({page for receipt in receipts for page in receipt.pages}) == 12
        assert Order.objects.count() == Job.objects.count() == 12

    def test_tell_what_the_shop_answered_instead(self, port: int) -> None:
        missing = Purchase(number=1, page="/products/spoon/", quantity=1, clicks=1)
        too_many = Purchase(number=1, page=find_products(port)[0], quantity=99, clicks=1)

        with pytest.raises(DemoError, match="GET /products/spoon/ with 404"):
            buy(port, missing)
        with Crowd(port, [too_many]) as crowd, pytest.raises(DemoError, match="with 422"):
            wait_for_receipts(crowd)
