"""The demo's queries, on a database in which jobs ran and lost their worker."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from django_durable.models import Attempt, Checkpoint, Job, JobState, Worker
from django_durable.testing import crash_after, run_jobs
from example_project.demo.evidence import (
    count_unsaved_charges,
    read_books,
    read_clock,
    read_loss,
    take_snapshot,
)
from example_project.shop.bank import Card
from example_project.shop.models import Charge, Mail, Order, Product, StockMovement
from example_project.shop.orders import Wish, place_order


@pytest.fixture
def session(db: None) -> Any:
    """The session of the test's transaction, as psycopg has it."""
    connection.ensure_connection()
    return connection.connection


@pytest.fixture
def order(product: Product) -> Order:
    wish = Wish(
        key=uuid.uuid4(), product=product, quantity=2, email="ada@example.com", card=Card.GOOD
    )
    return place_order(wish)


def lose_worker_after(step: str) -> Worker:
    """Run until that step is saved, then declare the worker lost."""
    with crash_after(step):
        run_jobs()
    worker_id = Job.objects.get().worker_id
    Worker.objects.filter(pk=worker_id).update(lost_at=Now(), stopped_at=None)
    return Worker.objects.get(pk=worker_id)


class SnapshotTests:
    def test_counts_orders_jobs_and_what_each_worker_runs(self, session: Any, order: Order) -> None:
        worker = lose_worker_after("reserve_stock")

        snapshot = take_snapshot(session)

        assert snapshot.orders == {"PACKING": 1}
        assert snapshot.jobs == {"RUNNING": 1}
        assert snapshot.finished == 0
        boot = snapshot.boot_of(worker.pid)
        assert boot is not None
        assert (boot.worker_id, boot.running, boot.is_lost) == (worker.pk, 1, True)

    def test_finds_the_latest_registration_of_a_process(self, session: Any, order: Order) -> None:
        lose_worker_after("charge_card")
        run_jobs()

        boot = take_snapshot(session).boot_of(0)

        assert boot is not None
        assert not boot.is_lost
        assert take_snapshot(session).boot_of(1) is None
        assert take_snapshot(session).finished == 1


class UnsavedChargesTests:
    def test_counts_jobs_between_the_charge_and_its_checkpoint(
        self, session: Any, order: Order
    ) -> None:
        worker = lose_worker_after("charge_card")
        assert count_unsaved_charges(session, worker.pk) == 0

        Checkpoint.objects.all()._raw_delete(using="default")

        assert count_unsaved_charges(session, worker.pk) == 1


class LossTests:
    def test_follows_the_jobs_to_the_next_claim(self, session: Any, order: Order) -> None:
        struck_at = read_clock(session)
        worker = lose_worker_after("charge_card")
        run_jobs()

        loss = read_loss(session, worker.pk, struck_at)

        assert (loss.is_lost, loss.jobs, loss.late_writes) == (True, 1, 0)
        assert loss.seconds_to_resume is not None
        assert 0 < loss.seconds_to_resume < 60

    def test_finds_the_next_claim_if_that_one_was_lost_too(
        self, session: Any, order: Order
    ) -> None:
        struck_at = read_clock(session)
        first = lose_worker_after("charge_card")
        lose_worker_after("reserve_stock")
        run_jobs()

        loss = read_loss(session, first.pk, struck_at)

        second = Attempt.objects.get(lease_token=2)
        assert second.claimed_at is not None
        assert loss.seconds_to_resume == pytest.approx(
            (second.claimed_at - struck_at).total_seconds()
        )

    def test_says_that_nothing_went_on(self, session: Any, order: Order) -> None:
        struck_at = read_clock(session)
        worker = lose_worker_after("charge_card")

        loss = read_loss(session, worker.pk, struck_at)

        assert (loss.jobs, loss.seconds_to_resume) == (0, None)

    def test_sees_a_checkpoint_that_the_lost_worker_wrote_later(
        self, session: Any, order: Order
    ) -> None:
        worker = lose_worker_after("charge_card")
        run_jobs()
        charged = Checkpoint.objects.filter(identity="charge_card")
        charged.update(saved_at=F("saved_at") + timedelta(hours=1))

        assert read_loss(session, worker.pk, read_clock(session)).late_writes == 1

    def test_sees_an_outcome_that_the_lost_worker_wrote(self, session: Any, order: Order) -> None:
        worker = lose_worker_after("charge_card")
        run_jobs()
        Job.objects.update(lease_token=1)

        assert read_loss(session, worker.pk, read_clock(session)).late_writes == 1


class BooksTests:
    def test_agree_when_an_order_was_fulfilled_in_spite_of_a_crash(
        self, session: Any, order: Order
    ) -> None:
        lose_worker_after("charge_card")
        (job,) = run_jobs()
        assert job.state == JobState.SUCCESSFUL

        books = read_books(session)

        assert (books.orders, books.orders_shipped, books.jobs, books.jobs_successful) == (1,) * 4
        assert (books.claims, books.attempts) == (2, 1)
        assert (books.charges, books.orders_charged_once, books.bank_calls) == (1, 1, 1)
        assert (books.stock_movements, books.orders_moved_once, books.shipments) == (1, 1, 1)
        assert (books.mails, books.orders_mailed_once) == (1, 1)
        assert (books.stock_opening, books.stock_sold, books.stock_left) == (5, 2, 3)
        assert books.wrong_shelves == 0

    def test_see_what_happened_twice(self, session: Any, order: Order) -> None:
        run_jobs()
        charge, mail = Charge.objects.get(), Mail.objects.get()
        charge.pk, charge.number, charge.idempotency_key = None, "ch_2", "another"
        charge.save()
        mail.pk = None
        mail.save()
        StockMovement.record(order.product, -2, order=order)

        books = read_books(session)

        assert (books.charges, books.orders_charged_once) == (2, 0)
        assert (books.mails, books.orders_mailed_once) == (2, 0)
        assert (books.stock_movements, books.orders_moved_once) == (2, 0)

    def test_see_a_shelf_that_differs_from_its_movements(
        self, session: Any, product: Product
    ) -> None:
        Product.objects.update(stock=4)

        assert read_books(session).wrong_shelves == 1
