"""The bank that the documentation speaks of; its examples import it as ``shop.bank``."""

from tests.docs_app.models import Charge


class CardDeclined(Exception):  # noqa: N818 (an answer, not a fault)
    """The card was not charged, and asking again will not help."""


class BankUnavailable(Exception):  # noqa: N818 (the name that payment libraries give it)
    """Whether the card was charged is unknown: ask again, with the same key."""


class RateLimited(Exception):  # noqa: N818 (an answer)
    """Asked too often. ``seconds`` says when to ask again."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"again in {seconds} s")


fails_with: list[Exception] = []
"""What the next charges raise, first to last."""


def charge(card: str, amount: int, key: str | None = None) -> str:
    """Charge a card; a key seen before returns the first charge. Raises: CardDeclined."""
    if fails_with:
        raise fails_with.pop(0)
    if card == "card_declined":
        raise CardDeclined("The card was declined.")
    if key is None:
        return f"ch_{Charge.objects.create(amount=amount).pk}"
    made, _ = Charge.objects.get_or_create(key=key, defaults={"amount": amount})
    return f"ch_{made.pk}"


def refund(number: str, key: str | None = None) -> None:
    """Give a charge back. Asked twice, it does so once, whatever the key."""
    Charge.objects.filter(pk=number.removeprefix("ch_")).delete()
