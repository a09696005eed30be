"""A bank that honours idempotency keys, as payment providers do.

It stands for a service elsewhere: it commits on its own, and neither a crash nor a rollback of its
caller takes anything back. Each request is written down first, so that the number of calls can be
compared with the number of charges.
"""

import secrets
from datetime import timedelta
from decimal import Decimal

from django.db.models import TextChoices
from django.utils import timezone

from example_project.shop import network
from example_project.shop.models import BankCall, Charge

ONE_WAY = timedelta(milliseconds=80)


class Card(TextChoices):
    """The bank's test cards."""

    GOOD = "card_good", "ending in 4242, which works"
    DECLINED = "card_declined", "ending in 0002, which is declined"
    FLAKY = "card_flaky", "ending in 0341, whose first charge times out"


class CardDeclined(Exception):  # noqa: N818 (an answer, not a fault)
    """The card was not charged, and asking again will not help."""


class BankUnavailable(Exception):  # noqa: N818 (the name that payment libraries give it)
    """Whether the card was charged is unknown: ask again, with the same key."""


class IdempotencyKeyReused(Exception):  # noqa: N818 (the same)
    """One key came with two different requests."""


def charge(*, card: str, amount: Decimal, reference: str, idempotency_key: str) -> str:
    """Charge a card and return the charge's number; a key seen before returns the first charge's.

    Raises: CardDeclined, BankUnavailable, IdempotencyKeyReused.
    """
    network.travel(ONE_WAY)
    BankCall.objects.create(idempotency_key=idempotency_key, reference=reference)
    if card == Card.DECLINED:
        raise CardDeclined("The card was declined.")
    made, is_new = Charge.objects.get_or_create(
        idempotency_key=idempotency_key,
        defaults={
            "number": f"ch_{secrets.token_hex(8)}",
            "reference": reference,
            "amount": amount,
        },
    )
    if (made.reference, made.amount) != (reference, amount):
        raise IdempotencyKeyReused(f"The key {idempotency_key} was used for {made.reference}.")
    network.travel(ONE_WAY)
    if card == Card.FLAKY and is_new:
        raise BankUnavailable("The bank's answer did not come in time.")
    return made.number


def refund(number: str) -> None:
    """Give a charge back, once however often it is asked."""
    network.travel(ONE_WAY)
    Charge.objects.filter(number=number, refunded_at=None).update(refunded_at=timezone.now())
    network.travel(ONE_WAY)
