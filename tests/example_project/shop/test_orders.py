"""Placing orders, and their stock."""

import uuid
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from django_durable.models import Job
from django_durable.testing import assert_enqueued
from example_project.shop.models import Order, OutOfStock, Product, StockMovement
from example_project.shop.tasks import fulfil_order
from tests.example_project.conftest import MakeOrder

pytestmark = pytest.mark.django_db


class PlaceOrderTests:
    def test_writes_the_order_and_enqueues_its_job(self, make_order: MakeOrder) -> None:
        order = make_order()

        job = assert_enqueued(fulfil_order, order)
        assert (job.subject_type, job.subject_key) == ("shop.order", str(order.pk))
        assert (order.state, order.total) == (Order.State.PLACED, Decimal("32.00"))

    def test_makes_one_order_and_one_job_of_a_form_that_is_sent_twice(
        self, make_order: MakeOrder
    ) -> None:
        key = uuid.uuid4()

        assert make_order(key=key) == make_order(key=key)

        assert Order.objects.count() == 1
        assert Job.objects.count() == 1

    def test_leaves_nothing_if_the_transaction_is_rolled_back(self, make_order: MakeOrder) -> None:
        with transaction.atomic():
            make_order()
            transaction.set_rollback(True)

        assert not Order.objects.exists()
        assert not Job.objects.exists()


class StockMovementTests:
    def test_refuses_to_take_more_than_there_is(self, product: Product) -> None:
        with pytest.raises(OutOfStock):
            StockMovement.record(product, -6)

        product.refresh_from_db()
        assert product.stock == 5

    def test_the_database_refuses_a_negative_stock(self, product: Product) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            Product.objects.filter(pk=product.pk).update(stock=-1)
