"""Steps that fail for good: recorded, and raised the same on the first run and on replay."""

import asyncio
from typing import Any

import pytest

from django_durable import step, task
from django_durable.exceptions import StepFailedError
from tests.builders import (
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    policy,
    resumed_job,
)
from tests.testapp.models import Charge

pytestmark = pytest.mark.django_db


class CardDeclinedError(Exception):
    """Knows more than its message, and cannot be made from it."""

    def __init__(self, card: str, *, code: int) -> None:
        self.card, self.code, self.bank = card, code, object()
        super().__init__(f"{card} declined", code)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even a message")


class DemandingError(Exception):
    def __new__(cls, *args: Any, code: int) -> "DemandingError":
        return super().__new__(cls, *args)

    def __init__(self, *args: Any, code: int) -> None:
        super().__init__(*args)


@step
def note(ref: str) -> None:
    Charge.objects.create(order_ref=ref)


def failing_step(error: BaseException, **options: Any) -> Any:
    """A step that notes each try and raises."""

    @step(name="failing", **options)
    def failing() -> None:
        note("try")
        raise error

    return failing


def async_failing_step(error: BaseException, **options: Any) -> Any:
    @step(name="failing", **options)
    async def failing() -> None:
        await note.acall("try")
        raise error

    return failing


def tries() -> int:
    return Charge.objects.filter(order_ref="try").count()


class RecordedFailureTests:
    def test_first_run_and_replay_raise_the_same_error(self) -> None:
        failing = failing_step(ValueError("no such order"))
        seen: list[StepFailedError] = []

        @task(path="catching")
        def catching() -> None:
            try:
                failing()
            except StepFailedError as error:
                seen.append(error)
            note("after")

        resumed_job(crashed_job(catching, after="note"))

        assert [str(error) for error in seen] == [
            'Step "failing" failed after 1 attempt(s): ValueError: no such order'
        ] * 2
        assert [vars(error) for error in seen] == [vars(seen[0])] * 2
        assert tries() == 1

    def test_the_original_error_is_the_cause_when_it_just_happened(self) -> None:
        original = ValueError("no such order")
        causes: list[Any] = []

        @task(path="causing")
        def causing() -> None:
            try:
                failing_step(original)()
            except StepFailedError as error:
                causes.append(error.__cause__)
            note("after")

        resumed_job(crashed_job(causing, after="note"))

        assert causes == [original, None]

    @pytest.mark.parametrize("build", [failing_step, async_failing_step])
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (asyncio.CancelledError(), "asyncio.exceptions.CancelledError"),
            (SystemExit(3), "SystemExit"),
            (RecursionError("too deep"), "RecursionError"),
            (MemoryError(), "MemoryError"),
            (UnprintableError(), "tests.test_step_failures.UnprintableError"),
            (CardDeclinedError("4242", code=7), "tests.test_step_failures.CardDeclinedError"),
            (DemandingError("x", code=1), "tests.test_step_failures.DemandingError"),
            (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad\x00"), "UnicodeDecodeError"),
            (ValueError("\x00 and \ud800"), "ValueError"),
        ],
    )
    def test_whatever_is_raised_is_recorded(
        self, build: Any, error: BaseException, kind: str
    ) -> None:
        failing = build(error)

        if build is failing_step:
            job = ended_job(task(path="any")(lambda: failing()))
        else:

            @task(path="any")
            async def run_failing() -> None:
                await failing()

            job = ended_job(run_failing)

        assert job.state == "FAILED"
        assert error_of(job)["type"] == "django_durable.exceptions.StepFailedError"
        assert checkpoints_of(job)["failing"].state == "FAILED"
        assert f'"type":"{kind}"' in (checkpoints_of(job)["failing"].error or "")

    def test_a_value_that_cannot_be_stored_fails_the_step_for_good(self) -> None:
        @step(retry=policy(5))
        def open_file() -> object:
            note("try")
            return object()

        job = ended_job(task(path="opening")(lambda: open_file()))

        assert (job.state, tries()) == ("FAILED", 1)
        assert 'step "open_file" returned cannot be kept' in error_of(job)["message"]


class DeclaredErrorTests:
    def seen_errors(self, *raises: type[Exception]) -> list[BaseException]:
        """What a task sees of a declined card, on the first run and on the replay."""
        failing = failing_step(CardDeclinedError("4242", code=7), raises=raises)
        seen: list[BaseException] = []

        @task(path="declining")
        def declining() -> None:
            try:
                failing()
            except Exception as error:
                seen.append(error)
            note("after")

        resumed_job(crashed_job(declining, after="note"))
        assert tries() == 1
        return seen

    def test_travel_as_themselves_without_their_constructor(self) -> None:
        for error in self.seen_errors(CardDeclinedError):
            assert type(error) is CardDeclinedError
            assert error.args == ("4242 declined", 7)
            assert (error.card, error.code) == ("4242", 7)
            assert not hasattr(error, "bank")

    def test_are_rebuilt_on_the_first_run_too(self) -> None:
        first, second = self.seen_errors(CardDeclinedError)

        assert vars(first) == vars(second)
        assert isinstance(first.__cause__, CardDeclinedError)
        assert first.__cause__ is not first

    def test_the_class_comes_from_the_declaration(self) -> None:
        assert [type(error) for error in self.seen_errors(LookupError, Exception)] == [
            Exception, Exception,
        ]  # fmt: skip

    def test_an_undeclared_one_is_a_failed_step(self) -> None:
        assert [type(error) for error in self.seen_errors(LookupError)] == [
            StepFailedError, StepFailedError,
        ]  # fmt: skip

    def test_a_declared_error_ends_the_job_under_its_own_name(self) -> None:
        failing = failing_step(CardDeclinedError("4242", code=7), raises=(CardDeclinedError,))

        job = ended_job(task(path="declined")(lambda: failing()))

        assert error_of(job)["type"] == "tests.test_step_failures.CardDeclinedError"
