"""What customers and the bank do to an order, outside its job: place it, pay it, cancel it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from django_durable import cancel_job, enqueue, send_event
from django_durable.exceptions import JobStateError
from django_durable.models import Job
from example_project.shop.carrier import Address
from example_project.shop.models import Order, Product
from example_project.shop.tasks import fulfil_order, return_late_payment


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A customer's valid form."""

    key: uuid.UUID
    product: Product
    quantity: int
    email: str
    card: str
    address: str = Address.KNOWN
    discount_wish: str = ""


@transaction.atomic
def place_order(wish: Wish) -> Order:
    """Write the order and enqueue the job: both are committed, or neither.

    Asked twice with one key, it answers twice with one order, which has one job.
    """
    order, _ = Order.objects.get_or_create(
        key=wish.key,
        defaults={
            "product": wish.product,
            "quantity": wish.quantity,
            "total": wish.product.price * wish.quantity,
            "email": wish.email,
            "card": wish.card,
            "address": wish.address,
            "discount_wish": wish.discount_wish,
        },
    )
    enqueue(fulfil_order.using(idempotency_key=str(order.key), subject=order), order)
    return order


def find_job(order: Order) -> Job | None:
    """The job that fulfils an order; None once it is pruned."""
    return Job.objects.filter(subject_type="shop.order", subject_key=str(order.pk)).first()


def record_payment(reference: str, charge: str) -> None:
    """Note what the bank says was paid, and tell the job; call it in a transaction.

    The order's row decides whether somebody still waits for the money. If not it is given back.
    """
    number = int(reference.removeprefix("LC-"))
    order = Order.objects.select_for_update(no_key=True).get(pk=number)
    job = find_job(order)
    if not order.is_payable or job is None:
        enqueue(return_late_payment, charge)
        return
    order.payment = charge
    order.save(update_fields=["payment"])
    send_event(job, "paid", charge)


def cancel_order(order: Order) -> bool:
    """Cancel an order for its customer; False: it is too late for that.

    What the job has done so far is undone by the worker. A job that has done nothing ends at once.
    """
    try:
        return _cancel(order)
    except JobStateError:  # its job has ended since the order was looked at
        return False


@transaction.atomic
def _cancel(order: Order) -> bool:
    locked = Order.objects.select_for_update(no_key=True).get(pk=order.pk)
    job = find_job(locked)
    if not locked.is_open or job is None:
        return False
    locked.cancel_asked_at = timezone.now()
    locked.save(update_fields=["cancel_asked_at"])
    if cancel_job(job).is_finished:
        locked.move_to(Order.State.CANCELLED)
    return True
