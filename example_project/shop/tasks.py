"""What the shop does behind the scenes.

``fulfil_order`` may die at any line and be taken up by another worker. Its steps show the ways to
make each effect happen once: a key that the other side knows (the bank), one commit with the
checkpoint (stock and mails), a constraint of our own (the shipment).
"""

import secrets
from datetime import date, timedelta

from django.db.models import Count, Sum

from django_durable import RetryPolicy, current_step, step, task
from example_project.shop import bank, network
from example_project.shop.models import (
    DailyReport,
    Mail,
    Order,
    OutOfStock,
    Shipment,
    StockMovement,
)

PICKING = timedelta(milliseconds=60)
PRINTING = timedelta(milliseconds=120)
RENDERING = timedelta(milliseconds=20)


@task(queue_name="orders", retry=RetryPolicy(max_attempts=3))
def fulfil_order(order: Order) -> str:
    """Charge, reserve, ship, tell the customer; return the order's state."""
    try:
        charge = charge_card(order)
    except bank.CardDeclined:
        return close_order(order, Order.State.DECLINED.value)
    try:
        reserve_stock(order)
    except OutOfStock:
        refund(charge)
        return close_order(order, Order.State.SOLD_OUT.value)
    tracking = create_shipment(order)
    return send_mail(order, tracking)


@step(
    raises=(bank.CardDeclined,),
    retry=RetryPolicy(
        max_attempts=5, initial_delay=timedelta(seconds=2), retry_on=(bank.BankUnavailable,)
    ),
)
def charge_card(order: Order) -> str:
    """The bank's number for the charge. Called again with the same key, it charges once."""
    return bank.charge(
        card=order.card,
        amount=order.total,
        reference=order.number,
        idempotency_key=current_step().idempotency_key,
    )


@step(atomic=True, raises=(OutOfStock,))
def reserve_stock(order: Order) -> None:
    """Stock, movement and checkpoint are one commit: all of them, or none."""
    network.travel(PICKING)
    StockMovement.record(order.product, -order.quantity, order=order)
    order.move_to(Order.State.PACKING)


@step
def create_shipment(order: Order) -> str:
    """The parcel's tracking number. A second run finds the first one's parcel."""
    network.travel(PRINTING)
    tracking = f"PX{secrets.randbelow(10**10):010}"
    shipment, _ = Shipment.objects.get_or_create(order=order, defaults={"tracking": tracking})
    network.travel(PRINTING)
    return shipment.tracking


@step(atomic=True)
def send_mail(order: Order, tracking: str) -> str:
    """The mail in the outbox, the order's state and the checkpoint are one commit."""
    network.travel(RENDERING)
    text = f"Order {order.number} has left our shop. Its tracking number is {tracking}."
    _write_mail(order, f"Order {order.number} is on its way", text)
    order.move_to(Order.State.SHIPPED)
    return Order.State.SHIPPED.value


@step
def refund(charge: str) -> None:
    bank.refund(charge)


@step(atomic=True)
def close_order(order: Order, state: str) -> str:
    """End an order that cannot be fulfilled, and say so to the customer."""
    ending = Order.State(state)
    order.move_to(ending)
    text = f"We are sorry: we cannot send order {order.number} ({ending.label})."
    _write_mail(order, f"About your order {order.number}", text)
    return state


def _write_mail(order: Order, subject: str, body: str) -> None:
    Mail.objects.create(order=order, recipient=order.email, subject=subject, body=body)


@task(queue_name="reports", atomic=True)
def nightly_report(day: date) -> int:
    """Add up a day's shipped orders; no steps, so the whole task is one transaction."""
    shipped = Order.objects.filter(state=Order.State.SHIPPED, placed_at__date=day)
    sums = shipped.aggregate(orders=Count("pk"), revenue=Sum("total", default=0))
    DailyReport.objects.update_or_create(day=day, defaults=sums)
    return int(sums["orders"])
