"""Steps: once each, replayed by name, and the calls that are refused."""

import asyncio
import inspect
import random
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import iscoroutinefunction
from django.db import transaction

from django_durable import current_job, current_step, run_step, step, task
from django_durable.exceptions import TaskDefinitionError
from tests.builders import (
    checkpoints_of,
    crashed_job,
    ended_job,
    redeployed,
    resumed_job,
)
from tests.testapp.models import Account, Charge

pytestmark = pytest.mark.django_db


class Size(Enum):
    SMALL = "s"


@dataclass
class Parcel:
    size: Size
    weights: tuple[Decimal, ...]


@step
def make_parcel(weight: str) -> Parcel:
    return Parcel(Size.SMALL, (Decimal(weight),))


@step
def note(ref: str, amount: int = 0) -> int:
    """Leave a row behind."""
    return Charge.objects.create(order_ref=ref, amount=amount).pk


@step
async def note_async(ref: str) -> str:
    await Charge.objects.acreate(order_ref=ref)
    return ref


@step
async def echo_async(value: str) -> str:
    return value


@step
def echo(value: Any) -> Any:
    Charge.objects.create(order_ref="echo")
    return value


@task
def three_notes() -> list[int]:
    return [note("a"), note("b"), note("a")]


@task
async def two_async_notes() -> list[Any]:
    return [await note_async("a"), await note.acall("b"), await note_async("c")]


def notes() -> list[str]:
    return list(Charge.objects.order_by("pk").values_list("order_ref", flat=True))


class ReplayTests:
    def test_completed_steps_are_skipped_after_a_crash(self) -> None:
        job = crashed_job(three_notes, after="note#2")
        assert (job.state, notes()) == ("RUNNING", ["a", "b"])

        job = resumed_job(job)

        assert (job.state, notes()) == ("SUCCESSFUL", ["a", "b", "a"])
        assert list(checkpoints_of(job)) == ["note", "note#2", "note#3"]
        assert job.return_value == list(Charge.objects.order_by("pk").values_list("pk", flat=True))

    @pytest.mark.parametrize("after", ["note_async", "note", "note_async#2"])
    def test_async_steps_too(self, after: str) -> None:
        job = resumed_job(crashed_job(two_async_notes, after=after))

        assert (job.state, notes()) == ("SUCCESSFUL", ["a", "b", "c"])
        assert list(checkpoints_of(job)) == ["note_async", "note", "note_async#2"]

    def test_a_loop_is_resumed_where_it_was(self) -> None:
        loop = task(path="loop")(lambda: sum(note(str(n)) and n for n in range(5)))

        job = resumed_job(crashed_job(loop, after="note#3"))

        assert (job.return_value, notes()) == (10, ["0", "1", "2", "3", "4"])

    def test_a_crash_spends_no_attempt(self) -> None:
        job = resumed_job(crashed_job(three_notes, after="note"))

        assert (job.attempt, job.lost_count, job.lease_token) == (1, 0, 2)

    @pytest.mark.parametrize(
        "value",
        [
            None, False, 0, "", [], {}, 1e23, (1, (2, None)), {"z": 1, "a": {3: b"x"}}, {1, 2},
            Decimal("1.50"), timedelta(microseconds=1), UUID(int=7), [b"\x00"],
            {"$tuple": [1]}, "\N{SNOWMAN}",
        ],
    )  # fmt: skip
    def test_the_first_run_and_the_replay_see_equal_values(self, value: Any) -> None:
        seen: list[Any] = []

        @task(path="watch")
        def watch() -> None:
            seen.append(echo(value))
            note("after")

        resumed_job(crashed_job(watch, after="note"))

        assert seen == [value, value]
        assert [type(one) for one in seen] == [type(value)] * 2
        assert notes().count("echo") == 1

    def test_dataclasses_and_enums_come_back_by_the_return_annotation(self) -> None:
        seen: list[Parcel] = []

        @task(path="pack")
        def pack() -> None:
            seen.append(make_parcel("1.50"))
            note("after")

        resumed_job(crashed_job(pack, after="note"))

        assert seen == [Parcel(Size.SMALL, (Decimal("1.50"),))] * 2

    def test_the_first_run_gets_a_copy_like_the_replay(self) -> None:
        cart = ["apple"]
        seen: list[bool] = []

        @task(path="fill")
        def fill() -> None:
            seen.append(echo(cart) is cart)

        ended_job(fill)

        assert seen == [False]

    def test_a_returned_instance_is_fetched_fresh(self) -> None:
        account = Account.objects.create(name="old")
        seen: list[str] = []

        @task(path="rename")
        def rename() -> None:
            seen.append(echo(account).name)
            note("after")

        job = crashed_job(rename, after="note")
        Account.objects.update(name="new")
        resumed_job(job)

        assert seen == ["old", "new"]

    @pytest.mark.parametrize(
        ("second", "state"), [({3, 2, 1}, "SUCCESSFUL"), ({1, 2, 4}, "WAITING")]
    )
    def test_equal_arguments_fit_and_others_block(self, second: set[int], state: str) -> None:
        passed = iter([{1, 2, 3}, second])

        @task(path="look")
        def look() -> None:
            echo(next(passed))
            note("after")

        assert resumed_job(crashed_job(look, after="note")).state == state

    def test_arguments_that_need_not_match_are_not_compared(self) -> None:
        passed = iter([1, 2])
        lax = step(name="lax", match_arguments=False)(echo.__wrapped__)

        @task(path="look")
        def look() -> int:
            return int(lax(next(passed)) + note("after") * 0)

        assert resumed_job(crashed_job(look, after="note")).return_value == 1


class NameTests:
    def test_a_key_names_the_call_whatever_the_order(self) -> None:
        send = step(name="send", key=lambda ref: ref)(note.__wrapped__)
        orders = iter([["a", "b", "c"], ["c", "x", "b"]])

        @task(path="mail")
        def mail() -> list[int]:
            return [send(ref) for ref in next(orders)]

        job = resumed_job(crashed_job(mail, after="send[b]"))

        assert job.state == "SUCCESSFUL"
        assert notes() == ["a", "b", "c", "x"]
        assert list(checkpoints_of(job)) == ["send[a]", "send[b]", "send[c]", "send[x]"]

    def test_a_key_too_long_for_an_index_is_refused_before_the_body(self) -> None:
        ran: list[int] = []
        noise = random.Random(1).randbytes(4000).hex()
        by_key = step(name="by-key", key=lambda key: key)(lambda key: ran.append(1))

        job = ended_job(task(path="long-key")(lambda: by_key(noise)))

        assert job.state == "SUCCESSFUL" or ran == []

    def test_run_step_names_a_plain_function_inline(self) -> None:
        @task(path="inline")
        def inline() -> int:
            return run_step("add", lambda a, b: a + b, 3, b=4) + run_step("load", len, "abc")

        job = ended_job(inline)

        assert job.return_value == 10
        assert list(checkpoints_of(job)) == ["add", "load"]

    def test_run_step_awaits_async_functions(self) -> None:
        async def fetch(url: str) -> str:
            return url.upper()

        @task(path="inline-async")
        async def inline() -> str:
            return await run_step("fetch", fetch, "a")

        assert ended_job(inline).return_value == "A"

    def test_the_name_outlives_the_function(self) -> None:
        job = crashed_job(task(path="moving")(lambda: note("a")), after="note")
        moved = step(name="note")(lambda ref: Charge.objects.create(order_ref="again").pk)

        redeployed("moving", lambda: moved("a"))

        assert resumed_job(job).state == "SUCCESSFUL"
        assert notes() == ["a"]


class DeclarationTests:
    def test_a_step_looks_like_its_function(self) -> None:
        assert note.__name__ == "note"
        assert note.__doc__ == "Leave a row behind."
        assert list(inspect.signature(note).parameters) == ["ref", "amount"]
        assert inspect.unwrap(note) is note.__wrapped__
        assert iscoroutinefunction(note_async)
        assert not iscoroutinefunction(note)

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"atomic": True, "at_most_once": True}, "drop at_most_once"),
            ({"timeout": timedelta(0)}, "timeout must be a positive timedelta"),
            ({"raises": (KeyboardInterrupt,)}, "raises takes a tuple of Exception classes"),
            ({"raises": ("ValueError",)}, "raises takes a tuple of Exception classes"),
            ({"name": ""}, "must not be empty"),
            ({"name": " "}, "must not be empty"),
            ({"name": "a/b"}, "must not contain"),
            ({"name": "a#2"}, "must not contain"),
        ],
    )
    def test_what_cannot_work_is_refused_at_once(
        self, options: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(TaskDefinitionError, match=reason):
            step(**options)(lambda: None)

    def test_an_atomic_async_step_is_refused(self) -> None:
        with pytest.raises(TaskDefinitionError, match="no asynchronous transactions"):

            @step(atomic=True)
            async def never() -> None: ...

    def test_a_step_in_a_class_is_refused(self) -> None:
        with pytest.raises(TaskDefinitionError, match="not in a class"):

            class Bank:
                @step
                def charge(self) -> None: ...

    @pytest.mark.parametrize("thing", [5, "name", None, note])
    def test_only_a_function_becomes_a_step(self, thing: Any) -> None:
        with pytest.raises(TaskDefinitionError):
            step()(thing)

    @pytest.mark.parametrize("name", ["", " ", "a/b", "a#b", None])
    def test_an_inline_step_has_a_name_too(self, name: Any) -> None:
        with pytest.raises(TaskDefinitionError):
            run_step(name, len, "abc")


class PlainCallTests:
    def test_outside_a_job_a_step_is_its_function(self) -> None:
        assert echo([1]) == [1]
        assert asyncio.run(echo_async("a")) == "a"

    def test_an_atomic_step_is_still_a_transaction(self) -> None:
        @step(atomic=True)
        def torn() -> None:
            note("half")
            raise LookupError

        with pytest.raises(LookupError):
            torn()

        assert notes() == []

    def test_it_may_stand_in_a_transaction_and_on_an_event_loop(self) -> None:
        async def on_loop() -> Any:
            return echo.__wrapped__ is not None and await asyncio.sleep(0, make_parcel("1"))

        with transaction.atomic():
            note("inside")

        assert notes() == ["inside"]
        assert asyncio.run(on_loop()).size is Size.SMALL

    def test_current_step_gives_a_stand_in_with_a_fresh_key(self) -> None:
        reveal = step(name="reveal")(lambda: current_step().idempotency_key)

        keys = {reveal(), reveal(), current_step().idempotency_key}

        assert len(keys) == 3
        assert {len(key) for key in keys} == {36}
        assert current_job() is None
