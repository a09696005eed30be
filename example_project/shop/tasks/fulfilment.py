"""From the order to the parcel.

``fulfil_order`` may die at any line and be taken up by another worker. Its steps show the ways to
make each effect happen once: a key that the other side knows (the bank), one commit with the
checkpoint (stock and mails), a constraint of our own (the shipment). What undoes a step stands
above it, and happens once by the same means.
"""

from datetime import timedelta
from decimal import Decimal

from django.db.models import F
from django.utils import timezone

from django_durable import (
    RetryPolicy,
    current_step,
    step,
    task,
    wait_for_approval,
    wait_for_event,
)
from example_project.shop import bank, carrier, network
from example_project.shop.forms import DiscountForm
from example_project.shop.models import (
    Mail,
    Order,
    OutOfStock,
    Shipment,
    StockMovement,
)

PICKING = timedelta(milliseconds=60)
RENDERING = timedelta(milliseconds=20)
ASK_AGAIN = RetryPolicy(
    max_attempts=5, initial_delay=timedelta(seconds=2), retry_on=(bank.BankUnavailable,)
)
PAY_WITHIN = timedelta(minutes=3)
DECIDE_WITHIN = timedelta(days=2)
MANAGERS = "managers"
"""The group of those who decide about discounts."""


@task(
    queue_name="orders",
    retry=RetryPolicy(max_attempts=3, give_up_on=(OutOfStock, carrier.AddressUnknown)),
)
def fulfil_order(order: Order) -> str:
    """Get the money, reserve, ship, tell the customer; return the order's state.

    That may take days, of which it runs a second. If it fails for good, or is cancelled, the steps
    that were taken are undone, the last one first.
    """
    accept_order(order)
    if order.discount_wish:
        settle_discount(order)
    try:
        if not get_money(order):
            return close_order(order, Order.State.EXPIRED.value)
    except bank.CardDeclined:
        return close_order(order, Order.State.DECLINED.value)
    try:
        reserve_stock(order)
        tracking = create_shipment(order)
    except (OutOfStock, carrier.AddressUnknown) as trouble:
        note_trouble(order, str(trouble))
        raise
    return send_mail(order, tracking)


def get_money(order: Order) -> bool:
    """Charge the card, or wait until the customer has paid; False: they did not."""
    if order.card:
        charge_card(order)
        return True
    ask_for_payment(order)
    paid = wait_for_event("paid", timeout=PAY_WITHIN)
    return paid is not None or not expire(order)


def settle_discount(order: Order) -> None:
    """Ask a manager; with no answer in time the customer pays the price."""
    decision = wait_for_approval(
        f"{order.number}, € {order.total}: “{' '.join(order.discount_wish.split())}”",
        form=DiscountForm,
        group=MANAGERS,
        deadline=DECIDE_WITHIN,
        subject=order,
    )
    if decision is None:
        set_price(order, 0, "Nobody had the time to decide.")
    elif decision.approved:
        percent = decision.data["percent"]
        set_price(order, percent, f"{percent} % less, granted by {decision.answered_by_name}.")
    else:
        set_price(order, 0, f"Not granted. {decision.data.get('reason', '')}".strip())


@step(atomic=True)
def apologise(order: Order) -> None:
    """Undo ``accept_order``. It was taken first, so this comes last, and knows what happened."""
    if order.cancel_asked_at:
        state, text = Order.State.CANCELLED, f"You cancelled order {order.number}."
    else:
        state, text = Order.State.RETURNED, f"We are sorry about order {order.number}."
    order.move_to(state)
    text = f"{text} {order.trouble} What you paid is on its way back to you."
    _write_mail(order, f"About your order {order.number}", " ".join(text.split()))


@step(atomic=True, compensate=apologise)
def accept_order(order: Order) -> None:
    """From here on the customer gets either a parcel or an apology."""
    order.move_to(Order.State.ACCEPTED)


@step(atomic=True)
def set_price(order: Order, percent: int, answer: str) -> None:
    """Apply a decision to the row, and to the object that the task holds."""
    Order.objects.filter(pk=order.pk).update(
        discount=percent,
        discount_answer=answer,
        total=F("total") * (100 - percent) / Decimal(100),
    )
    order.refresh_from_db()


@step(retry=ASK_AGAIN)
def refund(order: Order, result: str) -> None:
    """Undo ``charge_card``, which returned the charge's number."""
    bank.refund(result, idempotency_key=current_step().idempotency_key)


@step(raises=(bank.CardDeclined,), retry=ASK_AGAIN, compensate=refund)
def charge_card(order: Order) -> str:
    """The bank's number for the charge. Called again with the same key, it charges once."""
    return bank.charge(
        card=order.card,
        amount=order.total,
        reference=order.number,
        idempotency_key=current_step().idempotency_key,
    )


@step(retry=ASK_AGAIN)
def return_payment(order: Order) -> None:
    """Undo ``ask_for_payment``: first close the door, then see who came in."""
    unpaid = Order.objects.filter(pk=order.pk, state=Order.State.UNPAID)
    unpaid.update(state=Order.State.CANCELLED)
    order.refresh_from_db()
    if order.payment:
        bank.refund(order.payment, idempotency_key=current_step().idempotency_key)


@step(atomic=True, compensate=return_payment)
def ask_for_payment(order: Order) -> None:
    """From here on the order can be paid on the bank's page. That is what has to be undone."""
    order.move_to(Order.State.UNPAID)


@step(atomic=True)
def expire(order: Order) -> bool:
    """Stop waiting for the payment; False: it came in the last moment. The order's row decides."""
    unpaid = Order.objects.filter(pk=order.pk, state=Order.State.UNPAID, payment="")
    return bool(unpaid.update(state=Order.State.EXPIRED))


@task(queue_name="orders", retry=ASK_AGAIN)
def return_late_payment(charge: str) -> None:
    """Give money back that came when nobody waited for it any more."""
    bank.refund(charge, idempotency_key=f"late-{charge}")


@step(atomic=True)
def release_stock(order: Order) -> None:
    """Undo ``reserve_stock``."""
    network.travel(PICKING)
    StockMovement.record(order.product, order.quantity, order=order)


@step(atomic=True, raises=(OutOfStock,), compensate=release_stock)
def reserve_stock(order: Order) -> None:
    """Stock, movement and checkpoint are one commit: all of them, or none."""
    network.travel(PICKING)
    StockMovement.record(order.product, -order.quantity, order=order)
    order.move_to(Order.State.PACKING)


@step(atomic=True)
def recall_parcel(order: Order) -> None:
    """Undo ``create_shipment``: the customer cancelled at the last moment."""
    Shipment.objects.filter(order=order, recalled_at=None).update(recalled_at=timezone.now())


@step(raises=(carrier.AddressUnknown,), compensate=recall_parcel)
def create_shipment(order: Order) -> str:
    """The parcel's tracking number. A second run finds the first one's parcel."""
    label = carrier.print_label(order.address)
    shipment, _ = Shipment.objects.get_or_create(order=order, defaults={"tracking": label})
    network.travel(carrier.PRINTING)
    return shipment.tracking


@step(atomic=True)
def note_trouble(order: Order, trouble: str) -> None:
    """Remember for the apology why the order cannot be fulfilled."""
    order.trouble = trouble
    order.save(update_fields=["trouble"])


@step(atomic=True)
def send_mail(order: Order, tracking: str) -> str:
    """The mail in the outbox, the order's state and the checkpoint are one commit."""
    network.travel(RENDERING)
    text = f"Order {order.number} has left our shop. Its tracking number is {tracking}."
    _write_mail(order, f"Order {order.number} is on its way", text)
    order.move_to(Order.State.SHIPPED)
    return Order.State.SHIPPED.value


@step(atomic=True)
def close_order(order: Order, state: str) -> str:
    """End an order that nobody paid for, and say so to the customer."""
    ending = Order.State(state)
    order.move_to(ending)
    text = f"We are sorry: we cannot send order {order.number} ({ending.label})."
    _write_mail(order, f"About your order {order.number}", text)
    return state


def _write_mail(order: Order, subject: str, body: str) -> None:
    Mail.objects.create(order=order, recipient=order.email, subject=subject, body=body)
