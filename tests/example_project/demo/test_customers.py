"""Customers at the shop's own pages, on a running server."""

import time
from typing import Any

import pytest
from django.core.management import call_command

from django_durable.models import Job
from example_project.demo.customers import (
    Crowd,
    Purchase,
    Receipt,
    buy,
    find_products,
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
        purchases = plan_purchases(["/a/", "/b/"], orders=10, double_clicks=3)

        assert [purchase.page for purchase in purchases] == ["/a/", "/b/"] * 5
        assert sum(purchase.clicks for purchase in purchases) == 13
        assert {purchase.quantity for purchase in purchases} <= {1, 2, 3}


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("example_project.urls")
class CustomerTests:
    @pytest.fixture
    def port(self, live_server: Any) -> int:
        call_command("open_shop", password="secret", verbosity=0)
        return int(live_server.thread.port)

    def test_buy_what_the_shop_offers(self, port: int) -> None:
        page, *_ = pages = find_products(port)

        receipt = buy(port, Purchase(number=1, page=page, quantity=3, clicks=2))

        order = Order.objects.get()
        assert len(pages) == 8
        assert receipt == Receipt(pages=(order.get_absolute_url(),) * 2)
        assert (order.quantity, order.email) == (3, "customer1@example.com")
        assert Job.objects.count() == 1

    def test_come_in_a_crowd(self, port: int) -> None:
        purchases = plan_purchases(find_products(port), orders=12, double_clicks=4)

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
