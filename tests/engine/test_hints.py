"""Type hints: which class a stored value may become, however the argument was passed."""

import enum
from dataclasses import InitVar, dataclass
from typing import Any

import pytest

from django_durable import once, task
from django_durable.engine import codec
from django_durable.exceptions import NotSerializableError
from tests.builders import ended_job, error_of, resumed_job, rewritten_job
from tests.testapp.models import Account, Item

pytestmark = pytest.mark.django_db


@dataclass
class Money:
    amount: int


@dataclass
class Scaled:
    amount: int
    factor: InitVar[int]


@dataclass
class Unresolved:
    amount: "NoSuchName"  # type: ignore[name-defined]  # noqa: F821


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@task
def pay(*amounts: Money) -> int:
    return sum(money.amount for money in amounts)


@task
def pay_named(**amounts: Money) -> int:
    return sum(money.amount for money in amounts.values())


@task
def greet(account: Account) -> str:
    return account.name


class HintTests:
    def test_a_hint_of_star_arguments_holds_with_a_key_too(self) -> None:
        assert ended_job(pay, Money(3)).return_value == 3
        assert ended_job(pay.using(idempotency_key="k"), Money(3)).return_value == 3

    def test_a_hint_of_keyword_arguments_holds(self) -> None:
        assert ended_job(pay_named, a=Money(3)).return_value == 3

    def test_once_binds_arguments_to_parameters(self) -> None:
        def double(money: Money) -> int:
            return 2 * money.amount

        assert once("k", double, Money(3)) == 6
        assert once("k", double, money=Money(3)) == 6

    def test_an_instance_must_match_its_hint(self) -> None:
        item = Item.objects.create(name="not an account")
        job = greet.enqueue(Account.objects.create(name="a"))
        stored = f'{{"args":[{{"$model":["testapp.item",{item.pk}]}}],"kwargs":{{}}}}'
        rewritten_job(job, arguments=stored)

        job = resumed_job(job)

        assert (job.state, error_of(job).get("type")) == (
            "FAILED",
            "django_durable.exceptions.JobRowError",
        )

    @pytest.mark.parametrize("access", [Access.READ | Access.WRITE, Access(0)])
    def test_flags_in_combination_come_back_or_are_refused(self, access: Access) -> None:
        hint: Any = Access
        try:
            text = codec.encode_text(access, hint=hint, path="v", model_key=lambda value: None)
        except NotSerializableError:
            return
        assert codec.decode_text(text, hint=hint, resolve=lambda label, key: None) == access

    @pytest.mark.parametrize("value", [Scaled(1, 2), Unresolved(1)])
    def test_a_dataclass_that_cannot_be_rebuilt_is_refused(self, value: Any) -> None:
        with pytest.raises(NotSerializableError):
            codec.encode_text(value, hint=type(value), path="v", model_key=lambda value: None)
