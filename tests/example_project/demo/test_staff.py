"""The staff at the shop's own pages, on a running server."""

import time
from typing import Any

import pytest
from django.core.management import call_command

from django_durable.models import Approval, Job
from django_durable.testing import assert_enqueued, run_jobs
from example_project.demo.customers import Way, buy, find_products, plan_purchases
from example_project.demo.errors import DemoError
from example_project.demo.staff import Decided, Errand, Person, decide, send_invoices
from example_project.shop.models import Order
from example_project.shop.tasks import bill_customers

MANAGER = Person(username="manager", password="secret")
CLERK = Person(username="admin", password="secret")


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("example_project.urls")
class StaffTests:
    @pytest.fixture
    def port(self, live_server: Any) -> int:
        call_command("open_shop", password="secret", verbosity=0)
        return int(live_server.thread.port)

    def test_a_manager_decides_yes_and_no_in_turn_and_counts_once(self, port: int) -> None:
        pages = find_products(port)
        wishes = {Way.DISCOUNT: 2}
        for purchase in plan_purchases(pages, orders=2, double_clicks=0, ways=wishes):
            buy(port, purchase)
        run_jobs()

        decided = decide(port, MANAGER)
        run_jobs()

        assert decided == Decided(clicks=4, accepted=2)
        assert sorted(Approval.objects.values_list("approved", flat=True)) == [False, True]
        assert sorted(Order.objects.values_list("discount", flat=True)) == [0, 10]

    def test_a_clerk_sends_the_invoices(self, port: int) -> None:
        page = send_invoices(port, CLERK)

        assert page == f"/office/invoices/{Job.objects.get().pk}/"
        assert_enqueued(bill_customers)

    def test_says_who_was_not_let_in(self, port: int) -> None:
        with pytest.raises(DemoError, match="POST /admin/login/ with 200"):
            send_invoices(port, Person(username="admin", password="wrong"))


def wait_for(errand: Errand[int]) -> int:
    while (result := errand.look()) is None:
        time.sleep(0.01)
    return result


class ErrandTests:
    def test_is_done_in_the_background(self) -> None:
        assert wait_for(Errand(max, 1, 2)) == 2

    def test_raises_what_went_wrong(self) -> None:
        errand = Errand(int, "tea")

        with pytest.raises(ValueError, match="tea"):
            wait_for(errand)
