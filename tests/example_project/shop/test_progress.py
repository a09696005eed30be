"""An order's progress, as its customer sees it."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from django_durable.models import Checkpoint, Job
from django_durable.testing import crash_after, run_jobs
from example_project.shop.bank import Card
from example_project.shop.carrier import Address
from example_project.shop.models import Order
from example_project.shop.orders import cancel_order
from example_project.shop.progress import find_progress, list_stages
from tests.example_project.conftest import MakeOrder

pytestmark = pytest.mark.django_db


def shown(order: Order) -> list[tuple[str, str]]:
    return [(stage.title, stage.state) for stage in find_progress(order).stages]


class ProgressTests:
    def test_shows_every_stage_ahead_of_an_order_that_waits(self, make_order: MakeOrder) -> None:
        progress = find_progress(make_order())

        assert [stage.title for stage in progress.stages] == [
            "Accept your order",
            "Charge your card",
            "Take it from the shelf",
            "Hand the parcel over",
            "Write to you",
        ]
        assert {stage.state for stage in progress.stages} == {"ahead"}
        assert not progress.is_finished

    def test_shows_the_stages_done_and_the_one_at_work(self, make_order: MakeOrder) -> None:
        order = make_order()
        with crash_after("charge_card"):
            run_jobs()

        states = [state for _, state in shown(order)]

        assert states == ["done", "done", "working", "ahead", "ahead"]

    def test_shows_a_step_that_is_tried_again(self, make_order: MakeOrder) -> None:
        order = make_order(card=Card.FLAKY)
        run_jobs()

        assert [state for _, state in shown(order)][1:3] == ["retrying", "ahead"]

    def test_shows_what_is_waited_for(self, make_order: MakeOrder, manager: User) -> None:
        order = make_order(card="", discount_wish="I buy every week.")
        run_jobs()

        assert shown(order) == [
            ("Accept your order", "done"),
            ("Ask a manager about the discount", "waiting"),
            ("Settle the price", "ahead"),
            ("Send you to the bank", "ahead"),
            ("Wait for your payment", "ahead"),
            ("Take it from the shelf", "ahead"),
            ("Hand the parcel over", "ahead"),
            ("Write to you", "ahead"),
        ]

    def test_shows_only_what_was_done_when_it_is_finished(self, make_order: MakeOrder) -> None:
        order = make_order(card=Card.DECLINED)
        run_jobs()

        assert shown(order)[1:] == [("Charge your card", "failed"), ("Write to you", "done")]
        assert find_progress(order).is_finished

    def test_shows_what_was_undone_and_that_nothing_is_ahead(self, make_order: MakeOrder) -> None:
        order = make_order(address=Address.UNKNOWN)
        with crash_after("compensation@1/reserve_stock"):
            run_jobs()

        assert shown(order) == [
            ("Accept your order", "done"),
            ("Charge your card", "done"),
            ("Take it from the shelf", "undone"),
            ("Hand the parcel over", "failed"),
            ("Find out that it is not possible", "done"),
            ("Put it back on the shelf", "done"),
        ]
        assert not find_progress(order).is_finished

    def test_shows_that_nobody_waits_any_more(self, make_order: MakeOrder) -> None:
        order = make_order(card="")
        run_jobs()
        cancel_order(order)
        run_jobs()

        assert shown(order)[1:] == [
            ("Send you to the bank", "undone"),
            ("Wait for your payment", "left"),
            ("Return your payment, if any", "done"),
            ("Write to you", "done"),
        ]

    def test_is_finished_once_the_job_is_pruned(self, make_order: MakeOrder) -> None:
        order = make_order()
        Job.objects.all()._raw_delete(using="default")

        progress = find_progress(order)

        assert (progress.job, progress.stages, progress.is_finished) == (None, [], True)

    def test_names_a_step_that_it_does_not_know_by_its_identity(self) -> None:
        now = timezone.now()
        known = {"state": "SUCCESSFUL", "started_at": now, "saved_at": now + timedelta(1)}
        unknown = [
            Checkpoint(identity="wrap#2", **known),
            Checkpoint(identity="compensation@1/wrap#2", **known),
        ]

        stages = list_stages(Job(state="SUCCESSFUL"), unknown, [])

        assert [stage.title for stage in stages] == ["wrap#2", "Undo wrap#2"]
        assert stages[0].took == timedelta(1)
