"""A bank that honours idempotency keys, as payment providers do.

It stands for a service elsewhere: it commits on its own, and neither a crash nor a rollback of its
caller takes anything back. Each request is written down first, so that the number of calls can be
compared with what came of them.

A card is charged when the shop asks for it. Or else the customer pays on the bank's own page, and
the bank tells the shop by a webhook: signed, and sometimes twice.
"""

import hashlib
import hmac
import json
import secrets
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import TextChoices
from django.utils.crypto import constant_time_compare

from example_project.shop import network
from example_project.shop.models import BankCall, BankNotice, Charge, Refund

ONE_WAY = timedelta(milliseconds=80)
REFUND_WAY = timedelta(seconds=3)
"""Banks are slower when they have to give something back."""
SIGNATURE = "Bank-Signature"
"""The header of a webhook in which its signature stands."""


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
    made, is_new = _take(amount, reference, idempotency_key)
    if (made.reference, made.amount) != (reference, amount):
        raise IdempotencyKeyReused(f"The key {idempotency_key} was used for {made.reference}.")
    network.travel(ONE_WAY)
    if card == Card.FLAKY and is_new:
        raise BankUnavailable("The bank's answer did not come in time.")
    return made.number


def _take(amount: Decimal, reference: str, idempotency_key: str) -> tuple[Charge, bool]:
    return Charge.objects.get_or_create(
        idempotency_key=idempotency_key,
        defaults={
            "number": f"ch_{secrets.token_hex(8)}",
            "reference": reference,
            "amount": amount,
        },
    )


def refund(number: str, *, idempotency_key: str) -> None:
    """Give a charge back: once for a key, and again for another one."""
    network.travel(ONE_WAY)
    made = Charge.objects.get(number=number)
    BankCall.objects.create(
        wish=BankCall.Wish.REFUND, idempotency_key=idempotency_key, reference=made.reference
    )
    Refund.objects.get_or_create(idempotency_key=idempotency_key, defaults={"charge": made})
    network.travel(REFUND_WAY)


def pay(*, amount: Decimal, reference: str, webhook: str) -> None:
    """What the bank's page does when a customer pays there: take the money, and tell the shop.

    Paid twice, it takes the money once, and tells it again. It tells every second payment twice
    anyway, as banks do when they are not sure to have been heard.
    """
    made, _ = _take(amount, reference, f"page-{reference}")
    event = {"id": f"evt_{made.number}", "reference": reference, "charge": made.number}
    body = json.dumps(event).encode()
    for _ in range(1 + made.pk % 2):
        BankNotice.objects.create(event=event["id"])
        network.post(webhook, body, {SIGNATURE: sign(body)})


def sign(body: bytes) -> str:
    """What only the bank and the shop can say about a text."""
    secret = settings.BANK_WEBHOOK_SECRET.encode()
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def is_signed(body: bytes, signature: str) -> bool:
    """Whether the bank wrote a text, and nobody has changed it."""
    return constant_time_compare(sign(body), signature)
