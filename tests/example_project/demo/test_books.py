"""The queries behind the proof, on a database in which jobs ran."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_durable import answer_approval, enqueue
from django_durable.models import Approval
from django_durable.testing import crash_after, run_jobs
from example_project.demo.books import Books, Invoices, Refunds, Sales, Stock, Waits, read_books
from example_project.shop.carrier import Address
from example_project.shop.models import (
    BankNotice,
    Charge,
    Invoice,
    Mail,
    Order,
    Product,
    Refund,
    StockMovement,
)
from example_project.shop.tasks import bill_customers
from tests.example_project.conftest import MakeOrder

pytestmark = pytest.mark.urls("example_project.urls")


@pytest.fixture
def order(make_order: MakeOrder) -> Order:
    """On its way, in spite of a crash."""
    order = make_order()
    with crash_after("charge_card"):
        run_jobs()
    run_jobs()
    return order


@pytest.fixture
def undone(make_order: MakeOrder) -> Order:
    """Undone, in spite of a crash."""
    order = make_order(address=Address.UNKNOWN)
    with crash_after("compensation@1/reserve_stock"):
        run_jobs()
    run_jobs()
    return order


def pay(order: Order) -> None:
    Client().post(f"{order.get_absolute_url()}pay/")


class BooksTests:
    def test_of_an_order_that_was_fulfilled(self, session: Any, order: Order) -> None:
        assert read_books(session) == Books(
            sales=Sales(
                orders=1,
                shipped=1,
                undone=0,
                at_their_price=1,
                jobs=1,
                jobs_successful=1,
                jobs_failed=0,
                claims=2,
                attempts=1,
                charge_calls=1,
                charges=1,
                charged_once=1,
                shipments=1,
                mails=1,
                mailed_once=1,
            ),
            stock=Stock(movements=1, moved_once=1, opening=5, sold=2, left=3, wrong_shelves=0),
            waits=Waits(notices=0, paid=0, events_taken=0, decided=0, granted=0, discounted=0),
            refunds=Refunds(calls=0, refunds=0, refunded_once=0),
            invoices=Invoices(invoices=0, right=0, missed=1, failed=0, summaries=0),
        )

    def test_of_an_order_that_was_undone(self, session: Any, undone: Order) -> None:
        books = read_books(session)

        assert (books.sales.shipped, books.sales.undone, books.sales.jobs_failed) == (0, 1, 1)
        assert (books.sales.charged_once, books.sales.mailed_once) == (1, 1)
        assert books.stock == Stock(
            movements=2, moved_once=1, opening=5, sold=0, left=5, wrong_shelves=0
        )
        assert books.refunds == Refunds(calls=1, refunds=1, refunded_once=1)

    def test_of_an_order_that_was_paid_by_webhook(
        self, session: Any, make_order: MakeOrder
    ) -> None:
        order = make_order(card="")
        run_jobs()
        pay(order)
        told = BankNotice.objects.count()
        BankNotice.objects.create(event="evt_again")
        run_jobs()

        books = read_books(session)

        assert books.waits.notices == told + 1
        assert (books.waits.paid, books.waits.events_taken) == (1, 1)
        assert (books.sales.charged_once, books.sales.charge_calls) == (1, 0)

    @pytest.mark.parametrize(("approved", "count"), [(True, 1), (False, 0)])
    def test_of_an_order_about_whose_price_was_decided(
        self, session: Any, make_order: MakeOrder, manager: User, approved: bool, count: int
    ) -> None:
        make_order(discount_wish="I drink it every day.")
        run_jobs()
        data = {"percent": "7"}
        answer_approval(Approval.objects.get(), manager, approved=approved, data=data)
        run_jobs()

        books = read_books(session)

        assert (books.waits.decided, books.waits.granted) == (1, count)
        assert (books.waits.discounted, books.sales.at_their_price) == (count, 1)
        assert books.sales.charged_once == 1

    def test_of_the_invoices(self, session: Any, make_order: MakeOrder) -> None:
        for email in ("ada@example.com", "ada@example.com", "bob@example.invalid"):
            make_order(email=email, quantity=1)
        run_jobs()
        enqueue(bill_customers)
        run_jobs()

        found = read_books(session).invoices

        assert found == Invoices(invoices=1, right=1, missed=0, failed=1, summaries=1)


class WrongBooksTests:
    """What happened twice, or not at all, is seen."""

    def test_two_charges_mails_and_movements(self, session: Any, order: Order) -> None:
        charge, mail = Charge.objects.get(), Mail.objects.get()
        charge.pk, charge.number, charge.idempotency_key = None, "ch_2", "another"
        charge.save()
        mail.pk = None
        mail.save()
        StockMovement.record(order.product, -2, order=order)

        books = read_books(session)

        assert (books.sales.charges, books.sales.charged_once) == (2, 0)
        assert (books.sales.mails, books.sales.mailed_once) == (2, 0)
        assert (books.stock.movements, books.stock.moved_once) == (2, 0)

    def test_a_charge_of_another_amount(self, session: Any, order: Order) -> None:
        Charge.objects.update(amount=1)

        assert read_books(session).sales.charged_once == 0

    def test_a_price_that_nobody_decided(self, session: Any, order: Order) -> None:
        Order.objects.update(total=1)

        assert read_books(session).sales.at_their_price == 0

    def test_a_second_refund_and_stock_put_back_twice(self, session: Any, undone: Order) -> None:
        Refund.objects.create(charge=Charge.objects.get(), idempotency_key="another")
        StockMovement.record(undone.product, 2, order=undone)

        books = read_books(session)

        assert (books.refunds.refunds, books.refunds.refunded_once) == (2, 0)
        assert books.stock.moved_once == 0

    def test_an_invoice_over_something_else(self, session: Any, order: Order) -> None:
        enqueue(bill_customers)
        run_jobs()
        assert read_books(session).invoices.right == 1

        Invoice.objects.update(total=1)

        assert read_books(session).invoices.right == 0

    def test_a_shelf_that_differs_from_its_movements(self, session: Any, product: Product) -> None:
        Product.objects.update(stock=4)

        assert read_books(session).stock.wrong_shelves == 1
