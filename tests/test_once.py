"""``once``: body, key and result are one transaction."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from django_durable import once
from django_durable.exceptions import (
    IdempotencyConflictError,
    InvalidOptionError,
    NotSerializableError,
    PayloadTooLargeError,
)
from django_durable.models import IdempotencyKey
from tests.builders import expired_key, rolled_back, statements
from tests.sessions import PATIENCE, race, second_session, threads, wait_until_blocked
from tests.testapp.models import Account, Charge


@dataclass
class Receipt:
    order: str
    parts: tuple[int, ...]


def record(order: str, amount: int = 1) -> Receipt:
    Charge.objects.create(order_ref=order, amount=amount)
    return Receipt(order, (amount, amount))


@pytest.mark.django_db
class ResultTests:
    def test_the_second_call_gets_the_recorded_result(self) -> None:
        first = once("event-1", record, "o1", amount=3)
        second = once("event-1", record, "o1", amount=3)

        assert first == second == Receipt("o1", (3, 3))
        assert Charge.objects.count() == 1

    def test_none_is_a_result(self) -> None:
        calls: list[int] = []

        assert once("k", lambda: calls.append(1)) is None
        assert once("k", lambda: calls.append(1)) is None
        assert calls == [1]

    def test_the_first_call_too_gets_what_was_stored(self) -> None:
        basket = ["apple"]

        assert once("k", lambda: basket) is not basket

    def test_an_instance_is_fetched_fresh(self) -> None:
        once("k", lambda: Account.objects.create(name="old"))
        Account.objects.update(name="new")

        assert once("k", lambda: Account.objects.create(name="old")).name == "new"

    def test_a_scope_keeps_keys_apart(self) -> None:
        once("k", record, "o1", scope="stripe")
        once("k", record, "o2", scope="paypal")
        once("k", record, "o3")

        assert Charge.objects.count() == 3

    def test_a_fresh_key_costs_a_savepoint_an_insert_and_the_result(self) -> None:
        with statements() as sent:
            once("k", lambda: 5)

        assert [sql.split()[0] for sql in sent] == ["SAVEPOINT", "insert", "update", "RELEASE"]


@pytest.mark.django_db
class RefusalTests:
    def test_other_arguments_are_a_conflict(self) -> None:
        once("k", record, "o1")

        with pytest.raises(IdempotencyConflictError, match='key "k" \\(scope "once/"\\)'):
            once("k", record, "o2")

        assert Charge.objects.count() == 1

    def test_an_exception_leaves_no_key(self) -> None:
        def fail(order: str) -> None:
            record(order)
            raise LookupError

        with pytest.raises(LookupError):
            once("k", fail, "o1")

        assert (IdempotencyKey.objects.count(), Charge.objects.count()) == (0, 0)
        assert once("k", record, "o2") == Receipt("o2", (1, 1))

    def test_a_result_that_cannot_be_stored_leaves_no_key(self, settings: Any) -> None:
        settings.DURABLE = {"MAX_PAYLOAD_BYTES": 50}

        with pytest.raises(NotSerializableError, match="the result cannot be stored"):
            once("k", object)
        with pytest.raises(PayloadTooLargeError, match="the result takes 102 bytes"):
            once("k", lambda: "x" * 100)

        assert IdempotencyKey.objects.count() == 0

    def test_arguments_that_cannot_be_stored_are_refused_before_the_body(self) -> None:
        with pytest.raises(NotSerializableError):
            once("k", record, "o1", amount=float("nan"))

        assert Charge.objects.count() == 0

    @pytest.mark.parametrize("retention", [timedelta(0), timedelta(-1), 5, None])
    def test_the_retention_is_positive(self, retention: Any) -> None:
        with pytest.raises(InvalidOptionError, match="retention"):
            once("k", record, "o1", retention=retention)


@pytest.mark.django_db
class LifetimeTests:
    def test_the_key_is_reusable_when_its_time_is_over(self) -> None:
        once("k", record, "o1", retention=timedelta(hours=1))
        row = IdempotencyKey.objects.get()
        assert row.expires_at - row.created_at == timedelta(hours=1)
        expired_key("k")

        assert once("k", record, "o2") == Receipt("o2", (1, 1))
        assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
class ConcurrencyTests:
    def test_of_many_racing_callers_one_runs_and_all_get_its_result(self) -> None:
        results = race(lambda: once("k", record, "o1"), 8)

        assert results == [Receipt("o1", (1, 1))] * 8
        assert Charge.objects.count() == 1

    def test_of_many_racing_for_an_expired_key_one_runs(self) -> None:
        once("k", record, "old")
        expired_key("k")

        results = race(lambda: once("k", record, "new"), 6)

        assert results == [Receipt("new", (1, 1))] * 6
        assert Charge.objects.count() == 2

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_concurrent_caller_waits_for_the_first(self, fails: bool) -> None:
        ran: list[str] = []

        def first() -> str:
            ran.append("first")
            waiting.append(start(lambda: once("k", second)))
            wait_until_blocked()
            if fails:
                raise LookupError
            return "first"

        def second() -> str:
            ran.append("second")
            return "second"

        waiting: list[Any] = []
        with threads(1) as start:
            try:
                once("k", first)
            except LookupError:
                assert fails
            result = waiting[0].result(PATIENCE)

        assert (result, ran) == (("second", ["first", "second"]) if fails else ("first", ["first"]))

    def test_body_and_key_are_one_transaction(self) -> None:
        look = "select (select count(*) from testapp_charge), (select count(*) from {})".format
        seen: list[Any] = []

        def body() -> None:
            record("o1")
            with second_session() as session:
                seen.append(session.execute(look("durable_idempotencykey")).fetchone())
            transaction.on_commit(lambda: seen.append("committed"))

        once("k", body)

        with second_session() as session:
            seen.append(session.execute(look("durable_idempotencykey")).fetchone())
        assert seen == [(0, 0), "committed", (1, 1)]

    def test_a_rollback_around_it_takes_the_key_back(self) -> None:
        with rolled_back():
            once("k", record, "o1")

        assert (IdempotencyKey.objects.count(), Charge.objects.count()) == (0, 0)
