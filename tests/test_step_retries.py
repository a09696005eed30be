"""Steps that are tried again, time out, or run at most once."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from django_durable import RetryAfter, RetryPolicy, current_step, retry_job, step, task
from django_durable.exceptions import StepInterrupted, StepTimeoutError
from django_durable.models import Job
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    outcomes_of,
    policy,
    resumed_job,
)
from tests.scheduled import database_now
from tests.testapp.models import Charge

pytestmark = pytest.mark.django_db
MOMENT = timedelta(microseconds=1)


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


def tries() -> int:
    return Charge.objects.filter(order_ref="try").count()


class DurableRetryTests:
    def test_the_wait_holds_no_slot_and_is_in_the_database(self) -> None:
        failing = failing_step(OSError("no line"), retry=policy(3))
        before = database_now()

        job = ended_job(task(path="calling")(lambda: failing()))

        assert (job.state, job.worker_id, job.attempt) == ("SCHEDULED", None, 1)
        assert before <= job.due_at - HOUR <= database_now()
        assert job.wait_reason == "step failing failed (try 1 of 3) and is tried again"
        row = checkpoints_of(job)["failing"]
        assert (row.state, row.attempt, row.next_attempt_at) == ("RETRYING", 1, job.due_at)
        assert outcomes_of(job) == ["STEP_RETRYING"]

    def test_tries_add_up_over_restarts_and_the_last_one_is_final(self) -> None:
        failing = failing_step(OSError("no line"), retry=policy(3))
        job = ended_job(task(path="calling")(lambda: failing()))
        states = [job.state]

        for _ in range(3):
            states.append(resumed_job(job, ahead=HOUR).state)

        assert states == ["SCHEDULED", "SCHEDULED", "FAILED", "FAILED"]
        assert tries() == 3
        assert (job.attempt, checkpoints_of(job)["failing"].attempt) == (1, 3)
        assert "failed after 3 attempt(s): OSError: no line" in error_of(job)["message"]

    def test_backoff_grows_from_try_to_try(self) -> None:
        failing = failing_step(OSError(), retry=policy(9, factor=2, max_delay=3 * HOUR))
        job = ended_job(task(path="calling")(lambda: failing()))
        waits = [job.due_at - checkpoints_of(job)["failing"].saved_at]

        for _ in range(3):
            resumed_job(job, ahead=3 * HOUR)
            waits.append(job.due_at - checkpoints_of(job)["failing"].saved_at)

        assert waits == [HOUR, 2 * HOUR, 3 * HOUR, 3 * HOUR]

    def test_a_success_ends_it_and_earlier_steps_are_not_repeated(self) -> None:
        @step(retry=policy(3))
        def second_time_lucky() -> int:
            if current_step().attempt == 1:
                raise OSError
            return current_step().attempt

        @task(path="lucky")
        def lucky() -> int:
            note("before")
            return second_time_lucky()

        job = resumed_job(ended_job(lucky), ahead=HOUR)

        assert job.return_value == 2
        assert Charge.objects.count() == 1

    @pytest.mark.parametrize("absolute", [False, True])
    def test_retry_after_sets_the_next_time(self, absolute: bool) -> None:
        wish = timedelta(days=2)
        when = database_now() + wish if absolute else wish
        failing = failing_step(RetryAfter(when), retry=RetryPolicy(max_attempts=2))

        job = ended_job(task(path="later")(lambda: failing()))

        assert job.state == "SCHEDULED"
        wait = job.due_at - checkpoints_of(job)["failing"].saved_at
        assert abs(wait - wish) < timedelta(minutes=1)
        assert resumed_job(job, ahead=wish).state == "FAILED"

    def test_an_error_not_worth_another_try_is_final_at_once(self) -> None:
        failing = failing_step(KeyError("x"), retry=policy(5, retry_on=(OSError,)))

        job = ended_job(task(path="calling")(lambda: failing()))

        assert (job.state, tries()) == ("FAILED", 1)

    def test_a_broken_rule_gives_up_and_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        failing = failing_step(KeyError("x"), retry=policy(5, retry_on=lambda error: 1 / 0 > 1))

        job = ended_job(task(path="calling")(lambda: failing()))

        assert (job.state, tries()) == ("FAILED", 1)
        assert "The retry policy of step failing failed; giving up." in caplog.text

    def test_async_steps_retry_durably_too(self) -> None:
        @step(retry=policy(2))
        async def failing() -> None:
            await note.acall("try")
            raise OSError("no line")

        @task(path="async-calling")
        async def calling() -> None:
            await failing()

        job = ended_job(calling)

        assert job.state == "SCHEDULED"
        assert (resumed_job(job, ahead=HOUR).state, tries()) == ("FAILED", 2)

    def test_the_default_policy_comes_from_the_settings(self, settings: Any) -> None:
        settings.DURABLE = {"RETRY": policy(2)}
        failing = failing_step(OSError())

        job = ended_job(task(path="calling", retry=RetryPolicy())(lambda: failing()))

        assert (job.state, checkpoints_of(job)["failing"].state) == ("SCHEDULED", "RETRYING")


class TimeoutTests:
    def test_an_async_body_is_cancelled(self) -> None:
        ended: list[str] = []

        @step(timeout=timedelta(milliseconds=20))
        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cleaned up")

        @task(path="hanging")
        async def hanging() -> None:
            await hang()

        job = ended_job(hanging)

        assert (job.state, ended) == ("FAILED", ["cleaned up"])
        assert 'Step "hang" took longer than its timeout' in error_of(job)["message"]

    def test_a_sync_body_is_judged_at_its_end(self) -> None:
        @step(timeout=MOMENT)
        def slow() -> str:
            note("try")
            return "too late"

        seen: list[Exception] = []

        @task(path="slowly")
        def slowly() -> None:
            try:
                slow()
            except StepTimeoutError as error:
                seen.append(error)
            note("after")

        job = resumed_job(crashed_job(slowly, after="note"))

        assert (job.state, tries()) == ("SUCCESSFUL", 1)
        assert [str(error) for error in seen] == [
            'Step "slow" took longer than its timeout (attempt 1): 1e-06 s'
        ] * 2

    def test_a_timeout_is_tried_again_like_any_error(self) -> None:
        @step(timeout=timedelta(seconds=30), retry=policy(2))
        def slow_once() -> int:
            if current_step().attempt == 1:
                clock.offset = 31.0
            return current_step().attempt

        clock = FrozenClock()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("django_durable.engine.stepping.machine_seconds", clock)
            job = ended_job(task(path="slow-once")(lambda: slow_once()))
            assert job.state == "SCHEDULED"
            job = resumed_job(job, ahead=HOUR)

        assert job.return_value == 2

    def test_a_body_in_time_is_not_touched(self) -> None:
        quick = step(name="quick", timeout=HOUR)(lambda: 5)

        assert ended_job(task(path="quick")(lambda: quick())).return_value == 5


class FrozenClock:
    """The machine's clock, moved only by the test; each new step begins at its present."""

    def __init__(self) -> None:
        self.offset, self._start = 0.0, time.monotonic()

    def __call__(self) -> float:
        return self._start + self.offset


class AtMostOnceTests:
    def letter_job(self, **options: Any) -> tuple[Job, list[str]]:
        """A job whose process died in the letter, and the letters sent since."""
        sent: list[str] = []
        send = step(name="letter", at_most_once=True, **options)(lambda: sent.append("letter"))

        @task(path="post", retry=policy(3))
        def post() -> str:
            note("before")
            send()
            return "sent"

        return crashed_job(post, after="letter"), sent

    def test_the_start_is_recorded_before_the_body(self) -> None:
        job, sent = self.letter_job()

        assert sent == []
        assert checkpoints_of(job)["letter"].state == "STARTED"

    def test_a_crash_inside_raises_and_never_runs_it_again(self) -> None:
        job, sent = self.letter_job()

        job = resumed_job(job)

        assert (job.state, sent) == ("FAILED", [])
        assert error_of(job)["type"] == "django_durable.exceptions.StepInterrupted"
        assert 'Step "letter" runs at most once' in error_of(job)["message"]

    def test_no_policy_repeats_it(self) -> None:
        job, sent = self.letter_job(retry=policy(5))

        assert resumed_job(resumed_job(job), ahead=HOUR).state == "FAILED"
        assert sent == []

    def test_a_plain_retry_meets_the_same_interruption(self) -> None:
        job, sent = self.letter_job()

        retry_job(resumed_job(job))

        assert (resumed_job(job).state, sent) == ("FAILED", [])

    def test_an_operator_may_run_it_again(self) -> None:
        job, sent = self.letter_job()

        retry_job(resumed_job(job), rerun_interrupted=True)

        assert (resumed_job(job).return_value, sent) == ("sent", ["letter"])
        assert Charge.objects.filter(order_ref="before").count() == 1

    def test_the_task_may_catch_the_interruption(self) -> None:
        send = step(name="letter", at_most_once=True)(lambda: None)

        @task(path="post-carefully")
        def post() -> str:
            try:
                send()
            except StepInterrupted as error:
                return f"ask about {error.step}"
            return "sent"

        assert resumed_job(crashed_job(post, after="letter")).return_value == "ask about letter"

    def test_without_a_crash_it_is_an_ordinary_step(self) -> None:
        send = step(name="letter", at_most_once=True)(lambda: 5)

        @task(path="post-twice")
        def post() -> int:
            return int(send() + send())

        job = ended_job(post)

        assert job.return_value == 10
        assert [row.state for row in checkpoints_of(job).values()] == ["SUCCESSFUL"] * 2

    def test_an_error_it_raises_is_final_unless_a_policy_says_otherwise(
        self, settings: Any
    ) -> None:
        settings.DURABLE = {"RETRY": policy(5)}
        failing = failing_step(OSError(), at_most_once=True)

        job = ended_job(task(path="failing", retry=RetryPolicy())(lambda: failing()))

        assert (job.state, tries()) == ("FAILED", 1)
