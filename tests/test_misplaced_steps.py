"""Durable calls where they cannot keep their promise: refused, with the cure."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction

from django_durable import current_step, run_step, step, task
from django_durable.models import Job
from django_durable.testing import run_jobs
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    policy,
    resumed_job,
)
from tests.sessions import second_alias
from tests.testapp.models import Charge
from tests.testapp.tasks import fulfil

pytestmark = pytest.mark.django_db


@step
def note(ref: str = "note") -> str:
    Charge.objects.create(order_ref=ref)
    return ref


@step(atomic=True)
def note_atomically() -> None:
    note("atomic")


@step(at_most_once=True)
def note_at_most_once() -> None:
    note("at most once")


@step
async def note_async() -> None:
    await asyncio.sleep(0)
    await note.acall("async")


def refused_with(body: Callable[[], Any], kind: str) -> str:
    """The message of the error that ends a task with this body."""
    job = ended_job(task(path="misplaced")(body))
    assert job.state == "FAILED"
    assert error_of(job)["type"] == f"django_durable.exceptions.{kind}"
    return str(error_of(job)["message"])


class TransactionTests:
    @pytest.mark.parametrize("misplaced", [note, note_atomically, note_at_most_once])
    def test_a_step_in_a_transaction_of_the_users_is_refused(self, misplaced: Any) -> None:
        def body() -> None:
            with transaction.atomic():
                misplaced()

        message = refused_with(body, "StepInTransactionError")

        assert "inside a transaction on 'default'" in message
        assert "@step(atomic=True)" in message
        assert Charge.objects.count() == 0

    def test_an_inline_step_too(self) -> None:
        with_block = transaction.atomic()(lambda: run_step("inline", note.__wrapped__))

        assert 'Step "inline"' in refused_with(with_block, "StepInTransactionError")

    @pytest.mark.django_db(transaction=True)
    def test_a_transaction_on_another_database_counts(self) -> None:
        with second_alias() as alias:

            def body() -> None:
                with transaction.atomic(using=alias):
                    note()

            assert "on 'other'" in refused_with(body, "StepInTransactionError")

    def test_the_transaction_of_a_test_case_does_not_count(self) -> None:
        assert ended_job(task(path="fine")(lambda: note())).state == "SUCCESSFUL"


class NestedTests:
    def test_a_step_in_a_step_is_a_plain_call(self) -> None:
        outer = step(name="outer")(lambda: (note(), current_step().name)[1])

        job = ended_job(task(path="nesting")(lambda: outer()))

        assert job.return_value == "outer"
        assert list(checkpoints_of(job)) == ["outer"]

    @pytest.mark.parametrize(
        ("inner", "kind"), [(note_atomically, "atomic"), (note_at_most_once, "at-most-once")]
    )
    def test_one_that_promises_more_is_refused(self, inner: Any, kind: str) -> None:
        outer = step(name="outer", raises=(Exception,))(lambda: inner())

        job = ended_job(task(path="nesting")(lambda: outer()))

        assert f'is {kind} and was called inside step "outer"' in error_of(job)["message"]
        assert Charge.objects.count() == 0


class ConcurrencyTests:
    def test_two_durable_calls_at_once_are_refused(self) -> None:
        @task(path="gathering")
        async def gathering() -> None:
            await asyncio.gather(note_async(), note_async())

        job = ended_job(gathering)

        assert error_of(job)["type"] == "django_durable.exceptions.ConcurrentStepsError"
        assert "Durable calls of one job take turns" in error_of(job)["message"]

    def test_one_after_the_other_is_fine(self) -> None:
        @task(path="in-turn")
        async def in_turn() -> None:
            await note_async()
            await note_async()

        assert list(checkpoints_of(ended_job(in_turn))) == ["note_async", "note_async#2"]

    def test_two_functions_of_one_name_are_refused(self) -> None:
        def body() -> None:
            note()
            step(name="note")(lambda: None)()

        assert 'use the step name "note"' in refused_with(body, "DuplicateStepNameError")

    def test_one_function_made_anew_in_each_round_is_one_function(self) -> None:
        @task(path="rounds")
        def rounds() -> int:
            return sum(run_step("add", lambda n: n, n) for n in range(3))

        assert ended_job(rounds).return_value == 3

    def test_a_partial_made_anew_in_each_round_is_one_function(self) -> None:
        @task(path="rounds")
        def rounds() -> list[int]:
            return [run_step("double", partial(lambda n: 2 * n, n)) for n in range(3)]

        assert ended_job(rounds).return_value == [0, 2, 4]


class EventLoopTests:
    def test_a_synchronous_step_on_the_loop_is_refused_with_the_cure(self) -> None:
        @task(path="on-loop")
        async def on_loop() -> None:
            note()

        message = error_of(ended_job(on_loop))["message"]

        assert message.endswith("Use: await note.acall(...).")
        assert Charge.objects.count() == 0

    def test_acall_runs_it_as_a_step(self) -> None:
        @task(path="off-loop")
        async def off_loop() -> str:
            await note_atomically.acall()
            return str(await note.acall("cured"))

        job = resumed_job(crashed_job(off_loop, after="note_atomically"))

        assert job.return_value == "cured"
        assert Charge.objects.count() == 2

    def test_so_does_sync_to_async(self) -> None:
        @task(path="wrapped")
        async def wrapped() -> str:
            return str(await sync_to_async(note, thread_sensitive=True)("wrapped"))

        assert list(checkpoints_of(ended_job(wrapped))) == ["note"]

    def test_an_async_task_may_enqueue(self) -> None:
        @task(path="async-parent")
        async def parent() -> str:
            child = await fulfil.aenqueue("child")
            return str(child.pk)

        job = ended_job(parent)

        assert Job.objects.get(pk=job.return_value).parent_id == job.pk


class SwallowedSuspensionTests:
    """A step that waits for its next try raises Suspension, which the task must let pass."""

    @pytest.fixture
    def waiting(self) -> Any:
        def body() -> None:
            raise OSError

        return step(name="waiting", retry=policy(3))(body)

    def test_except_exception_lets_it_pass(self, waiting: Any) -> None:
        seen: list[str] = []

        @task(path="careful")
        def careful() -> None:
            try:
                waiting()
            except Exception:
                seen.append("caught")
            finally:
                seen.append("finally")

        assert ended_job(careful).state == "SCHEDULED"
        assert seen == ["finally"]

    def test_swallowing_it_fails_the_job(self, waiting: Any) -> None:
        @task(path="greedy", retry=policy(5))
        def greedy() -> str:
            try:
                waiting()
            except BaseException:
                return "went on"
            return "waited"

        job = ended_job(greedy)

        assert job.state == "FAILED"
        assert error_of(job)["type"] == "django_durable.exceptions.SuspensionSwallowedError"

    def test_each_later_durable_call_raises_it_again(self, waiting: Any) -> None:
        @task(path="stubborn")
        def stubborn() -> None:
            try:
                waiting()
            except BaseException:
                note("after")

        assert ended_job(stubborn).state == "SCHEDULED"
        assert Charge.objects.count() == 0

    def test_raising_something_else_instead_counts_as_swallowing(self, waiting: Any) -> None:
        @task(path="replacing")
        def replacing() -> None:
            try:
                waiting()
            except BaseException:
                raise ValueError from None

        job = ended_job(replacing)

        assert error_of(job)["type"] == "django_durable.exceptions.SuspensionSwallowedError"
        assert "ValueError" in error_of(job)["traceback"]

    def test_a_task_group_that_wraps_it_is_unwrapped(self) -> None:
        @step(name="waiting", retry=policy(3))
        async def waiting() -> None:
            raise OSError

        @task(path="grouped")
        async def grouped() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(waiting())

        job = ended_job(grouped)

        assert job.state == "SCHEDULED"
        assert resumed_job(resumed_job(job, ahead=HOUR), ahead=HOUR).state == "FAILED"

    def test_a_request_to_cancel_cannot_be_swallowed(self) -> None:
        @task(path="undying")
        def undying() -> str:
            Job.objects.update(cancel_requested_at="2030-01-01T00:00Z")
            try:
                note()
            except BaseException:
                return "still here"
            return "done"

        job = undying.enqueue()
        run_jobs()
        job.refresh()

        assert (job.state, Charge.objects.count()) == ("CANCELLED", 1)
