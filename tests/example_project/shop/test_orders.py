"""Placing orders, and the job that fulfils them, with crashes at every step."""

import uuid
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from django_durable import enqueue
from django_durable.models import Checkpoint, Job, JobState
from django_durable.testing import assert_enqueued, crash_after, run_jobs
from example_project.shop.bank import Card
from example_project.shop.models import (
    BankCall,
    Charge,
    DailyReport,
    Mail,
    Order,
    OutOfStock,
    Product,
    Shipment,
    StockMovement,
)
from example_project.shop.orders import STAGES, Wish, find_progress, list_stages, place_order
from example_project.shop.tasks import fulfil_order, nightly_report

pytestmark = pytest.mark.django_db


def make_wish(product: Product, *, quantity: int = 2, card: str = Card.GOOD) -> Wish:
    return Wish(
        key=uuid.uuid4(), product=product, quantity=quantity, email="ada@example.com", card=card
    )


def make_order(product: Product, *, quantity: int = 2, card: str = Card.GOOD) -> Order:
    return place_order(make_wish(product, quantity=quantity, card=card))


class PlaceOrderTests:
    def test_writes_the_order_and_enqueues_its_job(self, product: Product) -> None:
        order = make_order(product)

        job = assert_enqueued(fulfil_order, order)
        assert (job.subject_type, job.subject_key) == ("shop.order", str(order.pk))
        assert (order.state, order.total) == (Order.State.PLACED, Decimal("32.00"))

    def test_makes_one_order_and_one_job_of_a_form_that_is_sent_twice(
        self, product: Product
    ) -> None:
        wish = make_wish(product)

        assert place_order(wish) == place_order(wish)

        assert Order.objects.count() == 1
        assert Job.objects.count() == 1

    def test_leaves_nothing_if_the_transaction_is_rolled_back(self, product: Product) -> None:
        with transaction.atomic():
            make_order(product)
            transaction.set_rollback(True)

        assert not Order.objects.exists()
        assert not Job.objects.exists()


class FulfilOrderTests:
    def test_charges_reserves_ships_and_writes_once(self, product: Product) -> None:
        order = make_order(product)

        (job,) = run_jobs()

        assert job.return_value == Order.State.SHIPPED
        assert_fulfilled_once(order, bank_calls=1)

    @pytest.mark.parametrize("step", STAGES)
    def test_goes_on_behind_the_step_after_which_it_died(self, product: Product, step: str) -> None:
        order = make_order(product)

        with crash_after(step):
            run_jobs()
        run_jobs()

        assert_fulfilled_once(order, bank_calls=1)

    def test_ends_with_an_apology_if_the_card_is_declined(self, product: Product) -> None:
        order = make_order(product, card=Card.DECLINED)

        (job,) = run_jobs()

        order.refresh_from_db()
        assert (job.state, order.state) == (JobState.SUCCESSFUL, Order.State.DECLINED)
        assert Mail.objects.get(order=order).subject == f"About your order {order.number}"
        assert not Charge.objects.exists()
        assert not order.stock_movements.exists()

    def test_returns_the_money_if_the_shelf_is_empty(self, product: Product) -> None:
        order = make_order(product, quantity=6)

        run_jobs()

        order.refresh_from_db()
        product.refresh_from_db()
        assert order.state == Order.State.SOLD_OUT
        assert Charge.objects.get().refunded_at is not None
        assert product.stock == 5
        assert Mail.objects.count() == 1

    def test_returns_the_money_once_if_it_died_after_that(self, product: Product) -> None:
        order = make_order(product, quantity=6)
        with crash_after("refund"):
            run_jobs()
        refunded_at = Charge.objects.get().refunded_at

        run_jobs()

        order.refresh_from_db()
        assert order.state == Order.State.SOLD_OUT
        assert refunded_at == Charge.objects.get().refunded_at

    def test_asks_a_bank_that_did_not_answer_again_with_the_same_key(
        self, product: Product
    ) -> None:
        order = make_order(product, card=Card.FLAKY)

        (job,) = run_jobs()
        assert job.state == JobState.SCHEDULED
        run_jobs(ahead=timedelta(minutes=1))

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


class StockMovementTests:
    def test_refuses_to_take_more_than_there_is(self, product: Product) -> None:
        with pytest.raises(OutOfStock):
            StockMovement.record(product, -6)

        product.refresh_from_db()
        assert product.stock == 5

    def test_the_database_refuses_a_negative_stock(self, product: Product) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            Product.objects.filter(pk=product.pk).update(stock=-1)


class ProgressTests:
    def test_shows_every_stage_ahead_of_an_order_that_waits(self, product: Product) -> None:
        progress = find_progress(make_order(product))

        assert [stage.title for stage in progress.stages] == list(STAGES.values())
        assert {stage.state for stage in progress.stages} == {"ahead"}
        assert not progress.is_finished

    def test_shows_the_stages_done_and_the_one_at_work(self, product: Product) -> None:
        order = make_order(product)
        with crash_after("charge_card"):
            run_jobs()

        progress = find_progress(order)

        assert [stage.state for stage in progress.stages] == ["done", "working", "ahead", "ahead"]

    def test_shows_a_step_that_is_tried_again(self, product: Product) -> None:
        order = make_order(product, card=Card.FLAKY)
        run_jobs()

        first, second, *_ = find_progress(order).stages

        assert (first.state, second.state) == ("retrying", "ahead")

    def test_shows_only_what_was_done_when_it_is_finished(self, product: Product) -> None:
        order = make_order(product, card=Card.DECLINED)
        run_jobs()

        progress = find_progress(order)

        assert [(stage.title, stage.state) for stage in progress.stages] == [
            ("Charge your card", "failed"),
            ("Write to you", "done"),
        ]
        assert progress.is_finished

    def test_is_finished_once_the_job_is_pruned(self, product: Product) -> None:
        order = make_order(product)
        Job.objects.all()._raw_delete(using="default")

        progress = find_progress(order)

        assert (progress.job, progress.stages, progress.is_finished) == (None, [], True)

    def test_names_a_step_that_it_does_not_know_by_its_identity(self) -> None:
        now = timezone.now()
        unknown = Checkpoint(
            identity="wrap#2", state="SUCCESSFUL", started_at=now, saved_at=now + timedelta(1)
        )

        (stage,) = list_stages("SUCCESSFUL", [unknown])

        assert (stage.title, stage.took) == ("wrap#2", timedelta(1))


class NightlyReportTests:
    def test_adds_up_the_orders_that_were_shipped_that_day(self, product: Product) -> None:
        make_order(product, quantity=2)
        make_order(product, quantity=3)
        make_order(product, card=Card.DECLINED)
        run_jobs()

        enqueue(nightly_report, timezone.now().date())
        run_jobs()

        report = DailyReport.objects.get()
        assert (report.orders, report.revenue) == (2, Decimal("80.00"))

    def test_is_made_anew_when_asked_again(self, product: Product) -> None:
        day = date(2026, 1, 31)

        enqueue(nightly_report, day)
        enqueue(nightly_report, day)
        run_jobs()

        assert DailyReport.objects.get().orders == 0
