"""The demo's queries, on a database in which jobs ran and lost their worker."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.db.models.functions import Now

from django_durable import enqueue
from django_durable.models import Attempt, Checkpoint, Job, Worker
from django_durable.testing import crash_after, run_jobs
from example_project.demo.evidence import (
    count_open_questions,
    count_unsaved_charges,
    find_unpaid,
    find_unsaved_refund,
    is_batch_over,
    read_clock,
    read_loss,
    take_snapshot,
)
from example_project.shop.carrier import Address
from example_project.shop.models import Order
from example_project.shop.tasks import bill_customers
from tests.example_project.conftest import MakeOrder


@pytest.fixture
def order(make_order: MakeOrder) -> Order:
    return make_order()


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


class MomentTests:
    def test_finds_who_has_returned_money_and_not_noted_it(
        self, session: Any, make_order: MakeOrder
    ) -> None:
        make_order(address=Address.UNKNOWN)
        worker = lose_worker_after("compensation@1/charge_card")
        assert find_unsaved_refund(session) is None

        undone = Checkpoint.objects.filter(identity__endswith="charge_card")
        undone.filter(state="COMPENSATED").update(state="SUCCESSFUL")

        assert find_unsaved_refund(session) == worker.pk

    def test_finds_orders_to_be_paid(self, session: Any, make_order: MakeOrder) -> None:
        order = make_order(card="")
        assert find_unpaid(session) == []
        run_jobs()

        assert find_unpaid(session) == [f"/orders/{order.key}/"]

    def test_counts_open_questions(
        self, session: Any, make_order: MakeOrder, manager: User
    ) -> None:
        make_order(discount_wish="I drink it every day.")
        assert count_open_questions(session) == 0
        run_jobs()

        assert count_open_questions(session) == 1

    def test_knows_when_the_invoices_are_made(self, session: Any, order: Order) -> None:
        run_jobs()
        enqueue(bill_customers)
        assert not is_batch_over(session)
        run_jobs()

        assert is_batch_over(session)


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
