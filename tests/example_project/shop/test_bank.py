import json
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from example_project.shop import bank, network
from example_project.shop.models import BankCall, BankNotice, Charge, Refund

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
    def test_is_the_same_however_often_one_key_asks(self) -> None:
        number = charge()

        bank.refund(number, idempotency_key="back")
        bank.refund(number, idempotency_key="back")

        assert Refund.objects.get().charge == Charge.objects.get()
        assert BankCall.objects.filter(wish=BankCall.Wish.REFUND).count() == 2

    def test_is_made_again_for_another_key(self) -> None:
        number = charge()

        bank.refund(number, idempotency_key="back")
        bank.refund(number, idempotency_key="again")

        assert Refund.objects.count() == 2


class PayTests:
    @pytest.fixture
    def posts(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes, dict[str, str]]]:
        """What the bank posts."""
        posts: list[tuple[str, bytes, dict[str, str]]] = []
        monkeypatch.setattr(network, "post", lambda *post: posts.append(post) or 204)
        return posts

    def pay(self, reference: str) -> None:
        bank.pay(amount=Decimal("16.00"), reference=reference, webhook="http://shop/told/")

    def test_takes_the_money_and_tells_every_second_payment_twice(self, posts: list[Any]) -> None:
        for number in range(4):
            self.pay(f"LC-{number}")

        told = [json.loads(body)["reference"] for _, body, _ in posts]
        assert sorted(Counter(told).values()) == [1, 1, 2, 2]
        assert Charge.objects.count() == 4
        assert BankNotice.objects.count() == len(posts) == 6

    def test_takes_the_money_once_and_tells_it_again(self, posts: list[Any]) -> None:
        self.pay("LC-1")
        self.pay("LC-1")

        assert Charge.objects.count() == 1
        assert len({body for _, body, _ in posts}) == 1
        assert len(posts) > 1

    def test_signs_what_it_tells(self, posts: list[Any]) -> None:
        self.pay("LC-1")

        _, body, headers = posts[0]
        assert bank.is_signed(body, headers[bank.SIGNATURE])
        assert not bank.is_signed(body + b" ", headers[bank.SIGNATURE])
        assert not bank.is_signed(body, "")
