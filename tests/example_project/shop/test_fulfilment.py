"""The job that fulfils an order, with crashes at every step, and what undoes it."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, User

from django_durable import answer_approval, cancel_job
from django_durable.models import Approval, Job, JobState
from django_durable.testing import crash_after, run_jobs
from example_project.shop.bank import Card
from example_project.shop.carrier import Address
from example_project.shop.models import (
    BankCall,
    Charge,
    Mail,
    Order,
    Product,
    Refund,
    Shipment,
)
from example_project.shop.orders import cancel_order, record_payment
from example_project.shop.tasks.fulfilment import DECIDE_WITHIN, MANAGERS, PAY_WITHIN
from tests.example_project.conftest import PAUSE, MakeOrder

pytestmark = pytest.mark.django_db

STEPS = ["accept_order", "charge_card", "reserve_stock", "create_shipment", "send_mail"]
BANK = ""
"""As a card: the customer pays on the bank's page."""


def pay(order: Order, number: str = "ch_page") -> None:
    """What the webhook does."""
    Charge.objects.create(
        number=number, idempotency_key=number, reference=order.number, amount=order.total
    )
    record_payment(order.number, number)


class FulfilOrderTests:
    def test_charges_reserves_ships_and_writes_once(self, make_order: MakeOrder) -> None:
        order = make_order()

        (job,) = run_jobs()

        assert job.return_value == Order.State.SHIPPED
        assert_fulfilled_once(order, bank_calls=1)

    @pytest.mark.parametrize("step", STEPS)
    def test_goes_on_behind_the_step_after_which_it_died(
        self, make_order: MakeOrder, step: str
    ) -> None:
        order = make_order()

        with crash_after(step):
            run_jobs()
        run_jobs()

        assert_fulfilled_once(order, bank_calls=1)

    def test_ends_with_an_apology_if_the_card_is_declined(self, make_order: MakeOrder) -> None:
        order = make_order(card=Card.DECLINED)

        (job,) = run_jobs()

        order.refresh_from_db()
        assert (job.state, order.state) == (JobState.SUCCESSFUL, Order.State.DECLINED)
        assert Mail.objects.get(order=order).subject == f"About your order {order.number}"
        assert not Charge.objects.exists()
        assert not order.stock_movements.exists()

    def test_asks_a_bank_that_did_not_answer_again_with_the_same_key(
        self, make_order: MakeOrder
    ) -> None:
        order = make_order(card=Card.FLAKY)

        (job,) = run_jobs()
        assert job.state == JobState.SCHEDULED
        run_jobs(ahead=PAUSE)

        assert_fulfilled_once(order, bank_calls=2)
        assert BankCall.objects.values("idempotency_key").distinct().count() == 1


def assert_fulfilled_once(order: Order, *, bank_calls: int) -> None:
    order.refresh_from_db()
    order.product.refresh_from_db()
    assert order.state == Order.State.SHIPPED
    assert Charge.objects.get().amount == order.total
    assert BankCall.objects.count() == bank_calls
    assert order.stock_movements.get().quantity == -order.quantity
    assert order.product.stock == 5 - order.quantity
    assert Shipment.objects.get().tracking in Mail.objects.get().body


class PaymentTests:
    def test_the_order_waits_for_it_and_then_goes_on(self, make_order: MakeOrder) -> None:
        order = make_order(card=BANK)
        (job,) = run_jobs()
        assert job.state == JobState.WAITING
        order.refresh_from_db()
        assert order.state == Order.State.UNPAID

        pay(order)
        run_jobs()

        order.refresh_from_db()
        assert (order.state, order.payment) == (Order.State.SHIPPED, "ch_page")
        assert not BankCall.objects.exists()

    def test_an_order_that_is_not_paid_in_time_is_closed(self, make_order: MakeOrder) -> None:
        order = make_order(card=BANK)
        run_jobs()

        (job,) = run_jobs(ahead=PAY_WITHIN + timedelta(seconds=1))

        order.refresh_from_db()
        assert (job.state, order.state) == (JobState.SUCCESSFUL, Order.State.EXPIRED)
        assert "not paid in time" in Mail.objects.get(order=order).body
        assert not order.stock_movements.exists()

    def test_a_payment_in_the_last_moment_counts(self, make_order: MakeOrder) -> None:
        order = make_order(card=BANK)
        run_jobs()
        with crash_after("event:paid"):
            run_jobs(ahead=PAY_WITHIN + timedelta(seconds=1))

        pay(order)
        run_jobs()

        order.refresh_from_db()
        assert order.state == Order.State.SHIPPED

    def test_a_payment_that_comes_later_is_given_back(self, make_order: MakeOrder) -> None:
        order = make_order(card=BANK)
        run_jobs()
        run_jobs(ahead=PAY_WITHIN + timedelta(seconds=1))

        pay(order)
        run_jobs()

        order.refresh_from_db()
        assert order.state == Order.State.EXPIRED
        assert Refund.objects.get().charge.number == "ch_page"

    def test_a_second_payment_is_given_back(self, make_order: MakeOrder) -> None:
        order = make_order(card=BANK)
        run_jobs()

        pay(order)
        pay(order, number="ch_again")
        run_jobs()

        order.refresh_from_db()
        assert (order.state, order.payment) == (Order.State.SHIPPED, "ch_page")
        assert Refund.objects.get().charge.number == "ch_again"


class DiscountTests:
    @pytest.fixture
    def order(self, make_order: MakeOrder, manager: User) -> Order:
        """An order that waits for a manager."""
        order = make_order(discount_wish="I buy\nevery week.")
        run_jobs()
        return order

    def test_a_manager_is_asked_about_the_order(self, order: Order) -> None:
        question = Approval.objects.get()

        assert question.title == f"{order.number}, € 32.00: “I buy every week.”"
        assert (question.group_name, question.subject_key) == (MANAGERS, str(order.pk))
        assert not Charge.objects.exists()

    def test_a_granted_one_lowers_the_price(self, order: Order, manager: User) -> None:
        answer_approval(Approval.objects.get(), manager, approved=True, data={"percent": "15"})
        with crash_after("set_price"):
            run_jobs()
        run_jobs()

        order.refresh_from_db()
        assert (order.state, order.total, order.discount) == ("SHIPPED", Decimal("27.20"), 15)
        assert order.discount_answer == "15 % less, granted by mia."
        assert Charge.objects.get().amount == Decimal("27.20")

    def test_one_that_is_not_granted_does_not(self, order: Order, manager: User) -> None:
        reason = {"reason": "Prices are low."}
        answer_approval(Approval.objects.get(), manager, approved=False, data=reason)
        run_jobs()

        order.refresh_from_db()
        assert (order.state, order.total, order.discount) == ("SHIPPED", Decimal("32.00"), 0)
        assert order.discount_answer == "Not granted. Prices are low."

    def test_without_an_answer_the_order_goes_on(self, order: Order) -> None:
        run_jobs(ahead=DECIDE_WITHIN + timedelta(seconds=1))

        order.refresh_from_db()
        assert (order.state, order.total) == ("SHIPPED", Decimal("32.00"))
        assert order.discount_answer == "Nobody had the time to decide."

    def test_too_much_cannot_be_granted(self, order: Order, manager: User) -> None:
        with pytest.raises(ValueError, match="30"):
            answer_approval(Approval.objects.get(), manager, approved=True, data={"percent": "31"})

    def test_an_order_without_managers_fails(self, make_order: MakeOrder, manager: User) -> None:
        Group.objects.all().delete()
        make_order(discount_wish="I buy every week.")

        (job,) = run_jobs()

        assert job.state == JobState.SCHEDULED  # until somebody makes the group


class UndoTests:
    """An order that cannot be fulfilled, or is cancelled, leaves everything as it was."""

    def test_an_unknown_address_undoes_charge_and_stock(self, make_order: MakeOrder) -> None:
        order = make_order(address=Address.UNKNOWN)

        (job,) = run_jobs()

        assert job.state == JobState.FAILED
        assert_undone(order, Order.State.RETURNED)
        assert "cannot find 1 Nowhere Road" in Mail.objects.get().body

    @pytest.mark.parametrize(
        "step",
        [
            "note_trouble",
            "compensation@1/reserve_stock",
            "compensation@1/charge_card",
            "compensation@1/accept_order",
        ],
    )
    def test_undoing_goes_on_where_it_died(self, make_order: MakeOrder, step: str) -> None:
        order = make_order(address=Address.UNKNOWN)

        with crash_after(step):
            run_jobs()
        run_jobs()

        assert_undone(order, Order.State.RETURNED)

    def test_an_empty_shelf_returns_the_money(self, make_order: MakeOrder) -> None:
        order = make_order(quantity=6)

        run_jobs()

        order.refresh_from_db()
        order.product.refresh_from_db()
        assert (order.state, order.product.stock) == (Order.State.RETURNED, 5)
        assert Refund.objects.get().charge == Charge.objects.get()
        assert "There are not 6 of Rain Cup left." in Mail.objects.get().body

    @pytest.mark.parametrize("step", ["charge_card", "reserve_stock", "create_shipment"])
    def test_a_cancelled_order_is_undone_from_where_it_was(
        self, make_order: MakeOrder, step: str
    ) -> None:
        order = make_order()
        with crash_after(step):
            run_jobs()

        assert cancel_order(order)
        (job,) = run_jobs()

        assert job.state == JobState.CANCELLED
        assert_undone(order, Order.State.CANCELLED)
        assert all(parcel.recalled_at for parcel in Shipment.objects.all())
        assert Mail.objects.get().body.startswith(f"You cancelled order {order.number}.")

    def test_a_payment_is_returned_if_the_order_is_cancelled_before_it_is_looked_at(
        self, make_order: MakeOrder
    ) -> None:
        order = make_order(card=BANK)
        run_jobs()

        pay(order)
        assert cancel_order(order)
        run_jobs()

        assert_undone(order, Order.State.CANCELLED)

    def test_an_order_that_nobody_began_is_cancelled_at_once(self, make_order: MakeOrder) -> None:
        order = make_order()

        assert cancel_order(order)

        order.refresh_from_db()
        assert order.state == Order.State.CANCELLED
        assert Job.objects.get().state == JobState.CANCELLED

    def test_an_order_that_is_on_its_way_cannot_be_cancelled(self, make_order: MakeOrder) -> None:
        order = make_order()
        run_jobs()

        assert not cancel_order(order)
        assert not cancel_order(Order.objects.get())

        order.refresh_from_db()
        assert (order.state, order.cancel_asked_at) == (Order.State.SHIPPED, None)

    def test_a_cancelled_order_takes_no_payment(self, make_order: MakeOrder) -> None:
        order = make_order(card=BANK)
        run_jobs()
        cancel_order(order)

        pay(order)
        run_jobs()

        order.refresh_from_db()
        assert (order.state, order.payment) == (Order.State.CANCELLED, "")
        assert Refund.objects.get().charge.number == "ch_page"

    def test_nobody_can_pay_while_the_staff_cancels(self, make_order: MakeOrder) -> None:
        order = make_order(card=BANK)
        (job,) = run_jobs()
        cancel_job(job)
        with crash_after("compensation@1/ask_for_payment"):
            run_jobs()

        pay(order)
        run_jobs()

        order.refresh_from_db()
        assert (order.state, order.payment) == (Order.State.RETURNED, "")
        assert Refund.objects.get().charge.number == "ch_page"


def assert_undone(order: Order, state: str) -> None:
    """What was done for the order is undone, each thing once."""
    order.refresh_from_db()
    assert order.state == state
    assert Refund.objects.get().charge == Charge.objects.get()
    assert sum(movement.quantity for movement in order.stock_movements.all()) == 0
    assert Product.objects.get().stock == 5
    assert Mail.objects.count() == 1
