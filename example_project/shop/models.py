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
        PACKING = "PACKING", "paid, being packed"
        SHIPPED = "SHIPPED", "on its way"
        DECLINED = "DECLINED", "card declined"
        SOLD_OUT = "SOLD_OUT", "sold out, money returned"

    key = models.UUIDField(unique=True, default=uuid.uuid4)
    """Made when the form is shown, so that sending one form twice makes one order."""
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="orders")
    quantity = models.PositiveIntegerField(default=1)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    email = models.EmailField()
    card = models.CharField(max_length=30)
    """The bank's token for the customer's card."""
    state = models.CharField(max_length=10, choices=State, default=State.PLACED)
    placed_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return self.number

    def get_absolute_url(self) -> str:
        return reverse("shop:order", args=[self.key])

    @property
    def number(self) -> str:
        return f"LC-{self.pk:05}"

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
    """The order it left for; null for a delivery to the shop."""
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

    def __str__(self) -> str:
        return self.tracking


class Mail(models.Model):
    """A mail to a customer, as the shop's outbox holds it."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="mails")
    recipient = models.EmailField()
    subject = models.CharField(max_length=200)
    body = models.TextField()
    written_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.subject


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
    refunded_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.number


class BankCall(models.Model):
    """The bank's: a request to charge a card, written down before it is looked at."""

    idempotency_key = models.CharField(max_length=100, db_index=True)
    reference = models.CharField(max_length=50)
    received_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.reference} {self.received_at}"
