from decimal import Decimal

import pytest

from example_project.shop import bank
from example_project.shop.models import BankCall, Charge

pytestmark = pytest.mark.django_db


def charge(**changes: object) -> str:
    request = {
        "card": bank.Card.GOOD,
        "amount": Decimal("16.00"),
        "reference": "LC-00001",
        "idempotency_key": "first",
    }
    return bank.charge(**request | changes)


class ChargeTests:
    def test_charges_once_for_a_key_and_counts_the_calls(self) -> None:
        assert charge() == charge()

        assert Charge.objects.count() == 1
        assert BankCall.objects.count() == 2

    def test_charges_again_for_another_key(self) -> None:
        assert charge() != charge(idempotency_key="second")

        assert Charge.objects.count() == 2

    def test_refuses_a_key_that_comes_with_another_request(self) -> None:
        charge()

        with pytest.raises(bank.IdempotencyKeyReused):
            charge(amount=Decimal("17.00"))

    def test_declines_a_card_and_takes_nothing(self) -> None:
        with pytest.raises(bank.CardDeclined):
            charge(card=bank.Card.DECLINED)

        assert Charge.objects.count() == 0

    def test_may_charge_and_not_say_so_until_it_is_asked_again(self) -> None:
        with pytest.raises(bank.BankUnavailable):
            charge(card=bank.Card.FLAKY)
        assert Charge.objects.count() == 1

        assert charge(card=bank.Card.FLAKY) == Charge.objects.get().number


class RefundTests:
    def test_is_the_same_however_often_it_is_asked(self) -> None:
        number = charge()

        bank.refund(number)
        refunded_at = Charge.objects.get().refunded_at
        bank.refund(number)

        assert refunded_at is not None
        assert Charge.objects.get().refunded_at == refunded_at
