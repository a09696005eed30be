"""The tables of a small tea shop, and those of the bank it calls.

Nothing here forbids a second charge, stock movement or mail for one order: that there is only one
is for the job to achieve, and for the demo to count.
"""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.urls import reverse


class Product(models.Model):
    """Something on the shelf. ``stock`` is what is left of it: the sum of its movements."""

    class Kind(models.TextChoices):
        TEA = "tea"
        POT = "pot"
        CUP = "cup"
        TIN = "tin"

    name = models.CharField(max_length=100)
    slug = models.SlugField(unique=True)
    kind = models.CharField(max_length=10, choices=Kind)
    description = models.TextField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.IntegerField(default=0)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(name="product_stock_not_negative", condition=Q(stock__gte=0)),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:product", args=[self.slug])


class Order(models.Model):
    """A customer's wish for a number of one product."""

    class State(models.TextChoices):
        PLACED = "PLACED", "received"
        ACCEPTED = "ACCEPTED", "accepted"
        UNPAID = "UNPAID", "waiting for your payment"
        PACKING = "PACKING", "paid, being packed"
        SHIPPED = "SHIPPED", "on its way"
        DECLINED = "DECLINED", "card declined"
        EXPIRED = "EXPIRED", "not paid in time"
        RETURNED = "RETURNED", "not possible, money returned"
        CANCELLED = "CANCELLED", "cancelled"

    OPEN: ClassVar = [State.PLACED, State.ACCEPTED, State.UNPAID, State.PACKING]
    """States in which an order can still be cancelled."""

    key = models.UUIDField(unique=True, default=uuid.uuid4)
    """Made when the form is shown, so that sending one form twice makes one order."""
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="orders")
    quantity = models.PositiveIntegerField(default=1)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    email = models.EmailField()
    address = models.CharField(max_length=50, default="12 Orchard Lane")
    card = models.CharField(max_length=30, blank=True)
    """The bank's token for the customer's card; empty: they pay on the bank's own page."""
    payment = models.CharField(max_length=30, blank=True)
    """The bank's number for what was paid on its page. Set while the order is UNPAID, or never."""
    discount_wish = models.CharField(max_length=100, blank=True)
    """Why the customer asks for a discount; empty: they do not."""
    discount = models.PositiveSmallIntegerField(default=0)
    """Percent."""
    discount_answer = models.TextField(blank=True)
    """What was decided about it, for the customer."""
    state = models.CharField(max_length=10, choices=State, default=State.PLACED)
    trouble = models.CharField(max_length=200, blank=True)
    """Why it cannot be fulfilled."""
    cancel_asked_at = models.DateTimeField(null=True)
    """When the customer cancelled it; what was done for it is undone after that."""
    placed_at = models.DateTimeField(auto_now_add=True, db_index=True)
    invoice = models.ForeignKey(
        "Invoice", on_delete=models.PROTECT, null=True, related_name="orders"
    )

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return self.number

    def get_absolute_url(self) -> str:
        return reverse("shop:order", args=[self.key])

    @property
    def number(self) -> str:
        return f"LC-{self.pk:05}"

    @property
    def is_open(self) -> bool:
        """Whether the customer may still cancel it."""
        return self.state in self.OPEN and self.cancel_asked_at is None

    @property
    def is_payable(self) -> bool:
        """Whether the bank's page may take money for it."""
        return self.is_open and self.state == Order.State.UNPAID and not self.payment

    def move_to(self, state: Order.State) -> None:
        """Set the state, here and in the row."""
        self.state = state
        Order.objects.filter(pk=self.pk).update(state=state)


class OutOfStock(Exception):  # noqa: N818 (an answer, not a fault)
    """There is less on the shelf than was asked for."""


class StockMovement(models.Model):
    """A number of one product that came (positive) or went (negative)."""

    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="movements")
    order = models.ForeignKey(
        Order, on_delete=models.PROTECT, null=True, related_name="stock_movements"
    )
    """The order it left for, or came back from; null for a delivery to the shop."""
    quantity = models.IntegerField()
    moved_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.quantity:+} {self.product}"

    @classmethod
    def record(cls, product: Product, quantity: int, *, order: Order | None = None) -> None:
        """Write a movement and the new stock; call it in a transaction. Raises: OutOfStock."""
        shelf = Product.objects.filter(pk=product.pk, stock__gte=-quantity)
        if not shelf.update(stock=F("stock") + quantity):
            raise OutOfStock(f"There are not {-quantity} of {product} left.")
        cls.objects.create(product=product, order=order, quantity=quantity)


class Shipment(models.Model):
    """A parcel that was handed over."""

    order = models.OneToOneField(Order, on_delete=models.PROTECT)
    tracking = models.CharField(max_length=30)
    recalled_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.tracking


class Mail(models.Model):
    """A mail, as the shop's outbox holds it; null for ``order``: it is not about a single one."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, null=True, related_name="mails")
    recipient = models.EmailField()
    subject = models.CharField(max_length=200)
    body = models.TextField()
    written_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.subject


class Invoice(models.Model):
    """A receipt for one customer: of the orders that were sent, and on no invoice before."""

    email = models.EmailField()
    total = models.DecimalField(max_digits=10, decimal_places=2)
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"INV-{self.pk:05}"


class DailyReport(models.Model):
    """What a day brought."""

    day = models.DateField(unique=True)
    orders = models.PositiveIntegerField()
    revenue = models.DecimalField(max_digits=12, decimal_places=2, default=Decimal(0))
    made_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["-day"]

    def __str__(self) -> str:
        return str(self.day)


class Charge(models.Model):
    """The bank's: money taken from a card."""

    number = models.CharField(max_length=30, unique=True)
    idempotency_key = models.CharField(max_length=100, unique=True)
    reference = models.CharField(max_length=50, db_index=True)
    """What the shop said it is for: the order's number."""
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.number


class Refund(models.Model):
    """The bank's: a charge that was given back. It would give it back twice for two keys."""

    charge = models.ForeignKey(Charge, on_delete=models.PROTECT, related_name="refunds")
    idempotency_key = models.CharField(max_length=100, unique=True)
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.charge} given back"


class BankCall(models.Model):
    """The bank's: a request of the shop, written down before it is looked at."""

    class Wish(models.TextChoices):
        CHARGE = "charge"
        REFUND = "refund"

    wish = models.CharField(max_length=10, choices=Wish, default=Wish.CHARGE)
    idempotency_key = models.CharField(max_length=100, db_index=True)
    reference = models.CharField(max_length=50)
    received_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.reference} {self.received_at}"


class BankNotice(models.Model):
    """The bank's: a time at which it told the shop of a payment. It may tell one twice."""

    event = models.CharField(max_length=50, db_index=True)
    sent_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.event} {self.sent_at}"
