"""Compensations: what undoes a step, before its job ends FAILED or CANCELLED."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.utils import translation

from django_durable import (
    cancel_job,
    current_job,
    enqueue,
    gather,
    retry_job,
    sleep,
    step,
    task,
)
from django_durable.engine import claims, compensating, compensations, outcomes
from django_durable.engine.executor import outcome_of
from django_durable.engine.run import Ending, Stop
from django_durable.exceptions import (
    JobError,
)
from django_durable.models import Checkpoint, Job, JobState
from django_durable.signals import job_finished, job_started
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    outcomes_of,
    policy,
    receiver_of,
    resumed_job,
    rewritten_job,
)
from tests.engine.test_claims import claimant
from tests.engine.test_executor import claimed_run
from tests.testapp.models import Account, Charge
from tests.undoing import (
    UNDONE,
    Parcel,
    book,
    call,
    charge,
    failing,
    forget,
    keys_of,
    letter,
    pack,
    pays,
    refusals,
    reserve,
    states_of,
    told,
    trip,
    undo,
    undone,
    unpack,
    wait_then_break,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    yield
    forget()


class OrderTests:
    def test_a_failed_job_undoes_its_steps_the_last_one_first(self) -> None:
        job = ended_job(trip, "a")

        assert told == ["charge a", "reserve a", "book a", *UNDONE]
        assert (job.state, job.ends_as, error_of(job)["message"]) == (
            "FAILED", None, 'Step "break_down" failed after 1 attempt(s): ValueError: broken a'
        )  # fmt: skip
        assert states_of(job) == {
            "charge": "COMPENSATED",
            "reserve": "COMPENSATED",
            "book": "COMPENSATED",
            "break_down": "FAILED",
            "compensation@1/book": "SUCCESSFUL",
            "compensation@1/reserve": "SUCCESSFUL",
            "compensation@1/charge": "SUCCESSFUL",
        }
        assert outcomes_of(job) == ["FAILED"]
        assert not Charge.objects.exists()

    def test_a_successful_job_undoes_nothing(self) -> None:
        job = ended_job(pays, "a")

        assert (job.state, told) == ("SUCCESSFUL", ["charge a"])

    def test_only_the_final_failure_undoes(self) -> None:
        called = failing(partial(charge, "a"), retry=policy(2))
        job = ended_job(called)
        assert (job.state, undone()) == ("SCHEDULED", [])

        job = resumed_job(job, ahead=HOUR)

        assert (job.state, told) == ("FAILED", ["charge a", "undo a: charge a"])
        assert list(checkpoints_of(job)) == ["charge", "compensation@2/charge"]

    def test_steps_that_failed_or_never_ran_are_not_undone(self) -> None:
        @step(compensate=unpack)
        def broken() -> None:
            raise ValueError

        ended_job(failing(partial(charge, "a"), broken, partial(charge, "b")))

        assert told == ["charge a", "undo a: charge a"]

    def test_each_kind_of_step_is_undone_and_undoes(self) -> None:
        @task(path="failing")
        async def fail() -> None:
            await charge.acall("a")
            await call("a")
            await letter.acall("a")
            await book.acall("a")
            raise LookupError

        job = ended_job(fail)

        assert undone() == ["undo book a", "undo letter a", "undo call a", "undo a: charge a"]
        kinds = {i: r.kind for i, r in checkpoints_of(job).items() if i.startswith("compensation")}
        assert kinds == {
            "compensation@1/book": "atomic",
            "compensation@1/letter": "at_most_once",
            "compensation@1/call": "plain",
            "compensation@1/charge": "plain",
        }

    def test_repeated_steps_and_steps_in_branches_too(self) -> None:
        @task(path="failing")
        def fail() -> None:
            charge("a")
            gather(partial(charge, "b"), partial(reserve, "c", amount=2))
            charge("d")
            raise LookupError

        job = ended_job(fail)

        assert undone() == [
            "undo d: charge d", "undo reserve c 2 try 1", "undo b: charge b", "undo a: charge a"
        ]  # fmt: skip
        assert "compensation@1/gather/0/charge" in checkpoints_of(job)
        assert "compensation@1/charge#2" in checkpoints_of(job)

    def test_the_compensation_gets_the_steps_arguments_and_its_result(self) -> None:
        account = Account.objects.create(name="Ann")

        ended_job(failing(partial(pack, Parcel(1), account=account), partial(pack, Parcel(5))))

        assert undone() == [
            f"undo pack {Parcel(5)} None {Parcel(6)}",
            f"undo pack {Parcel(1)} {account} {Parcel(2)}",
        ]

    def test_it_gets_them_as_they_were_before_the_body(self) -> None:
        @step(compensate=unpack)
        def eat(apples: list[str]) -> None:
            apples.clear()

        ended_job(failing(lambda: eat(["red"])))

        assert undone() == ["undo pack (['red'],) {}"]

    def test_what_it_returns_is_not_kept(self) -> None:
        job = ended_job(failing(partial(returns_anything, "a")))

        assert checkpoints_of(job)["compensation@1/returns_anything"].value == "null"

    def test_language_is_the_one_a_job_begins_with(self) -> None:
        with translation.override("de"):
            job = crashed_job(failing(partial(speaks, "a"), partial(charge, "b")), after="speaks")
            resumed_job(job)

        assert undone() == ["undo b: charge b", "undo speaking de"]

    def test_an_atomic_compensation_that_fails_leaves_nothing(self) -> None:
        refusals["crosses_out_and_fails"] = [ValueError("after its writes")]

        @step(compensate=crosses_out_and_fails)
        def note() -> None:
            Charge.objects.create(order_ref="note")

        job = ended_job(failing(note))

        assert Charge.objects.count() == 1
        assert states_of(job) == {"note": "SUCCESSFUL", "compensation@1/note": "FAILED"}

    def test_jobs_enqueued_by_a_compensation_are_enqueued_once(self) -> None:
        refusals["enqueues_twice"] = [ConnectionError("after enqueueing")]

        job = ended_job(failing(lambda: enqueues_when_undone("a")))
        resumed_job(job, ahead=HOUR)

        (child,) = Job.objects.filter(parent_id=job.pk)
        assert child.origin == "compensation@/enqueues_when_undone/enqueue:" + pays.path


def anything(ref: str) -> object:
    return object()


@step(compensate=anything)
def returns_anything(ref: str) -> None: ...


def says_language(ref: str) -> None:
    undo(f"speaking {translation.get_language()}")


@step(compensate=says_language)
def speaks(ref: str) -> None: ...


@step(atomic=True)
def crosses_out_and_fails() -> None:
    Charge.objects.all().delete()
    undo("never")


@step(retry=policy(2))
def enqueues_twice(ref: str) -> None:
    enqueue(pays, ref)
    undo("enqueueing")


@step(compensate=enqueues_twice)
def enqueues_when_undone(ref: str) -> None: ...


class CrashTests:
    @pytest.mark.parametrize("name", ["book", "reserve", "charge"])
    def test_after_a_crash_the_rest_is_undone_and_the_function_is_not_called(
        self, name: str
    ) -> None:
        job = crashed_job(trip, "a", after=f"compensation@1/{name}")
        assert (job.state, job.ends_as) == ("RUNNING", "FAILED")
        starts: list[Any] = []

        with receiver_of(job_started, lambda **more: starts.append(more)):
            job = resumed_job(job)

        assert told == ["charge a", "reserve a", "book a", *UNDONE]
        assert (job.state, job.attempt, error_of(job)["type"]) == (
            "FAILED", 1, "django_durable.exceptions.StepFailedError"
        )  # fmt: skip
        assert starts == []

    def test_what_is_decided_is_written_before_anything_is_undone(self) -> None:
        ended_job(failing(partial(looked_at, "a")))

        assert undone() == ["undo ('RUNNING', 'FAILED', True)"]

    def test_a_crash_before_the_first_compensation(self) -> None:
        job = crashed_job(trip, "a", after="break_down")
        rewritten_job(job, ends_as="FAILED", error='{"type": "ValueError", "message": "first"}')
        ends: list[Any] = []

        with receiver_of(job_finished, lambda **more: ends.append(more)):
            job = resumed_job(job)

        assert (job.state, error_of(job)["message"], undone()) == ("FAILED", "first", UNDONE)
        assert [(type(end["error"]), end["state"]) for end in ends] == [(JobError, "FAILED")]
        assert (
            str(ends[0]["error"]) == "Its steps are undone since it failed with ValueError: first"
        )


def looks_at_the_row(ref: str) -> None:
    (row,) = Job.objects.values_list("state", "ends_as", "error")
    undo(str((row[0], row[1], "the end" in row[2])))


@step(compensate=looks_at_the_row)
def looked_at(ref: str) -> None: ...


class FailureTests:
    def test_a_compensation_is_tried_again_by_its_own_policy(self) -> None:
        refusals["give_back"] = [ConnectionError("busy")]

        job = ended_job(trip, "a")
        assert (job.state, job.ends_as, undone()) == ("SCHEDULED", "FAILED", UNDONE[:1])
        assert job.wait_reason == (
            "step compensation@1/reserve failed (try 1 of 2) and is tried again"
        )
        job = resumed_job(job, ahead=HOUR)

        assert undone() == ["undo book a", "undo reserve a 1 try 2", "undo a: charge a"]
        assert (job.state, job.attempt) == ("FAILED", 1)
        assert outcomes_of(job) == ["STEP_RETRYING", "FAILED"]
        assert checkpoints_of(job)["compensation@1/reserve"].attempt == 2

    def test_one_that_finally_fails_is_recorded_and_the_others_still_run(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        refusals["cross_out"] = [ValueError("no")]
        refusals["give_back"] = [ConnectionError("1"), ConnectionError("2")]

        with caplog.at_level(logging.ERROR, "django_durable"):
            job = resumed_job(ended_job(trip, "a"), ahead=HOUR)

        assert undone() == ["undo a: charge a"]
        assert (job.state, error_of(job)["message"][:17]) == ("FAILED", 'Step "break_down"')
        assert states_of(job) == {
            "charge": "COMPENSATED",
            "reserve": "SUCCESSFUL",
            "book": "SUCCESSFUL",
            "break_down": "FAILED",
            "compensation@1/book": "FAILED",
            "compensation@1/reserve": "FAILED",
            "compensation@1/charge": "SUCCESSFUL",
        }
        failed = [r for r in caplog.records if "could not be undone" in r.getMessage()]
        assert [(r.step, str(r.exc_info[1])) for r in failed] == [("book", "no"), ("reserve", "2")]

    def test_an_instance_that_is_gone_is_a_failure_of_its_compensation_only(self) -> None:
        account = Account.objects.create(name="Ann")

        def lose_account() -> None:
            pack(Parcel(1), account=account)
            charge("a")
            account.delete()

        job = ended_job(failing(lose_account))

        assert undone() == ["undo a: charge a"]
        row = checkpoints_of(job)["compensation@1/pack[1]"]
        assert (row.state, "MissingInstanceError" in row.error) == ("FAILED", True)

    def test_a_late_one_is_recorded_as_such(self) -> None:
        job = ended_job(failing(partial(charge, "a"), partial(slow, "a")))

        assert "StepTimeoutError" in (checkpoints_of(job)["compensation@1/slow"].error or "")
        assert undone() == ["undo a: charge a"]

    def test_an_at_most_once_one_that_died_is_run_again_only_when_told(self) -> None:
        called = failing(partial(charge, "a"), partial(letter, "a"))
        job = crashed_job(called, after="compensation@1/letter")
        job = resumed_job(job)
        assert (job.state, undone()) == ("FAILED", ["undo a: charge a"])
        assert states_of(job)["compensation@1/letter"] == "FAILED"

        job = resumed_job(retry_job(job))
        assert undone() == ["undo a: charge a"] * 2
        job = resumed_job(retry_job(job, rerun_interrupted=True))

        assert undone()[2:] == ["undo a: charge a", "undo letter a"]  # which was charged later
        assert states_of(job)["letter"] == "COMPENSATED"


async def too_slow(ref: str) -> None:
    await asyncio.sleep(60)


@step(compensate=step(timeout=timedelta(milliseconds=50))(too_slow))
def slow(ref: str) -> None: ...


class BlockedTests:
    def test_an_unknown_compensation_blocks_the_job_until_it_is_known(self) -> None:
        job = crashed_job(trip, "a", after="break_down")
        known = compensations._compensations.pop("tests.undoing.give_back")

        job = resumed_job(job)
        assert (job.state, job.wait_kind, job.ends_as) == ("WAITING", "blocked", "FAILED")
        assert job.wait_reason == (
            "replay mismatch: expected tests.undoing.give_back, to undo step reserve (recorded); "
            "found no compensation of that path"
        )
        assert undone() == UNDONE[:1]
        compensations._compensations["tests.undoing.give_back"] = known
        job = resumed_job(retry_job(job))

        assert (job.state, undone(), job.attempt) == ("FAILED", UNDONE, 1)
        assert outcomes_of(job) == ["LOST", "BLOCKED", "FAILED"]

    def test_also_a_job_that_is_cancelled(self) -> None:
        job = ended_job(wait_then_break, "a")
        compensations._compensations.clear()
        cancel_job(job)

        job = resumed_job(job)

        assert (job.state, job.wait_kind, job.ends_as) == ("WAITING", "blocked", "CANCELLED")

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('{"args":["a"],"kwargs":{"why":1}}', "unexpected keyword argument 'why'"),
            ('{"args":[{"$model":["no.model",1]}],"kwargs":{}}', "there is no model no.model"),
        ],
    )
    def test_arguments_that_the_code_does_not_take_any_more_block(
        self, text: str, says: str
    ) -> None:
        job = crashed_job(failing(partial(charge, "a")), after="charge")
        row = checkpoints_of(job)["charge"]
        named = (row.compensation or "").partition('"args"')[0]
        Checkpoint.objects.filter(job_id=job.pk).update(compensation=named + text[1:])

        job = resumed_job(job)

        assert (job.state, job.wait_kind) == ("WAITING", "blocked")
        assert "expected tests.undoing.refund to take what step charge" in job.wait_reason
        assert says in job.wait_reason

    def test_the_step_may_be_renamed_meanwhile(self) -> None:
        job = crashed_job(trip, "a", after="break_down")
        for path, known in compensations._compensations.items():
            compensations._compensations[path] = {"before it was moved": next(iter(known.values()))}

        assert resumed_job(job).state == "FAILED"
        assert undone() == UNDONE


class CancelTests:
    def test_a_running_job(self) -> None:
        def ask() -> None:
            job = current_job()
            assert job is not None
            cancel_job(job)

        job = ended_job(failing(partial(charge, "a"), ask, partial(charge, "b")))

        assert told == ["charge a", "charge b", "undo b: charge b", "undo a: charge a"]
        assert (job.state, job.error) == ("CANCELLED", None)

    def test_a_waiting_job(self) -> None:
        job = ended_job(wait_then_break, "a")
        assert job.state == "WAITING"

        assert cancel_job(job).state == "READY"
        job = resumed_job(job)

        assert (job.state, told) == ("CANCELLED", ["charge a", "undo a: charge a"])

    @pytest.mark.parametrize("error", [None, ConnectionError("for another attempt")])
    def test_a_job_that_was_just_ending(self, error: Exception | None) -> None:
        """The function has returned, or failed and may try again, when the request comes."""

        @task(path="failing", retry=policy(5))
        def fail() -> None:
            charge("a")
            job = current_job()
            assert job is not None
            cancel_job(job)
            if error:
                raise error

        job = ended_job(fail)

        assert (job.state, told) == ("CANCELLED", ["charge a", "undo a: charge a"])

    def test_a_job_that_was_just_going_to_sleep(self) -> None:
        @task(path="failing")
        def fail() -> None:
            charge("a")
            job = current_job()
            assert job is not None
            cancel_job(job)
            sleep(HOUR)

        job = ended_job(fail)

        assert (job.state, told) == ("CANCELLED", ["charge a", "undo a: charge a"])

    def test_while_undoing_it_changes_nothing(self) -> None:
        refusals["give_back"] = [ConnectionError("busy")]

        job = ended_job(failing(partial(charge, "a"), partial(reserve, "a"), cancelled_when_undone))
        assert (job.state, job.ends_as) == ("SCHEDULED", "FAILED")
        assert cancel_job(job).state == "SCHEDULED"
        job = resumed_job(job, ahead=HOUR)

        assert undone() == ["undo reserve a 1 try 2", "undo a: charge a"]
        assert job.state == "FAILED"

    def test_a_skipped_job_is_cancelled_and_undone(self) -> None:
        account = Account.objects.create(name="Ann")

        @task(path="skipping", on_missing="skip")
        def skip(who: Account) -> None:
            charge("a")
            sleep(HOUR)

        job = ended_job(skip, account)
        account.delete()
        job = resumed_job(job, ahead=HOUR)

        assert (job.state, told) == ("CANCELLED", ["charge a", "undo a: charge a"])


def cancels() -> None:
    job = current_job()
    assert job is not None
    cancel_job(job)


@step(compensate=cancels)
def cancelled_when_undone() -> None: ...


class EndTests:
    def test_a_deadline_that_passes_while_waiting(self) -> None:
        job = ended_job(wait_then_break.using(deadline=timedelta(minutes=10)), "a")

        job = resumed_job(job, ahead=timedelta(minutes=20))

        assert (job.state, told) == ("FAILED", ["charge a", "undo a: charge a"])
        assert error_of(job)["type"].endswith("DeadlineExceededError")

    def test_poison_is_undone_alone(self) -> None:
        job = crashed_job(trip, "a", after="book")
        rewritten_job(job, state="READY", worker_id=None, lost_count=5)
        before = job.lease_token

        job = resumed_job(job)

        assert (job.state, undone()) == ("FAILED", UNDONE)
        assert error_of(job)["type"].endswith("PoisonJobError")
        assert job.lease_token == before + 2  # claimed to be judged, then alone

    @pytest.mark.parametrize(
        ("lost_count", "ends_as", "is_suspect"),
        [(1, "FAILED", False), (2, "FAILED", True), (5, None, False), (5, "FAILED", True),
         (9, "FAILED", True), (10, "FAILED", False)],
    )  # fmt: skip
    def test_a_job_that_undoes_its_steps_is_suspected_longer(
        self, lost_count: int, ends_as: str | None, is_suspect: bool
    ) -> None:
        job = rewritten_job(pays.enqueue("a"), lost_count=lost_count, ends_as=ends_as)
        by = claimant(task_paths=[pays.path])

        assert claims.has_suspect(by, [job.queue_name]) is is_suspect

    def test_one_that_loses_worker_after_worker_ends_without_more(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = crashed_job(trip, "a", after="compensation@1/book")
        rewritten_job(job, state="READY", worker_id=None, lost_count=10)

        job = resumed_job(job)

        assert (job.state, undone()) == ("FAILED", UNDONE[:1])
        assert error_of(job)["message"] == (
            f"Job {job.pk} ({trip.path}) lost 10 workers. Not undone: reserve, charge. It was "
            'django_durable.exceptions.StepFailedError: Step "break_down" failed after 1 '
            "attempt(s): ValueError: broken a"
        )
        assert job.errors[-1].message == error_of(job)["message"]
        assert states_of(job)["reserve"] == "SUCCESSFUL"

    def test_its_end_is_told_once(self) -> None:
        refusals["give_back"] = [ConnectionError("busy")]
        ends: list[Any] = []

        with receiver_of(job_finished, lambda **more: ends.append(more["state"])):
            job = ended_job(failing(partial(reserve, "a")))
            resumed_job(job, ahead=HOUR)

        assert ends == ["FAILED"]


class LeaseTests:
    def test_who_lost_the_job_says_nothing_and_the_next_one_goes_on(self) -> None:
        job = ended_job(failing(partial(charge, "a"), partial(loses_its_job, "a")))

        assert (job.state, job.lease_token) == ("FAILED", 2)
        assert undone() == ["undo losing 1", "undo losing 2", "undo a: charge a"]
        assert set(keys_of("loses_it")) == {keys_of("loses_it")[0]}

    def test_a_run_that_lost_its_job_undoes_nothing(self) -> None:
        job = crashed_job(failing(partial(charge, "a")), after="charge")
        rewritten_job(job, state="READY", worker_id=None)
        run = claimed_run(job)
        run.ending = Ending(stop=Stop.LEASE_LOST)
        end = outcome_of(run, JobState.FAILED)

        assert compensating.undo(run, end) is run.ending
        job.refresh()
        assert (job.ends_as, undone()) == (None, [])

    def test_a_decision_stands(self) -> None:
        job = pays.enqueue("a")
        rewritten_job(job, state="RUNNING", worker_id=1, lease_token=1)

        def decide(state: JobState, token: int = 1) -> JobState | None:
            return outcomes.begin_compensating(connection, job.pk, token, state=state, error=None)

        assert decide(JobState.FAILED, token=2) is None
        assert decide(JobState.FAILED) == "FAILED"
        rewritten_job(job, cancel_requested_at=job.enqueued_at)
        assert decide(JobState.CANCELLED) == "FAILED"
        rewritten_job(job, ends_as=None)
        assert decide(JobState.FAILED) == "CANCELLED"


def loses_it(ref: str) -> None:
    job = current_job()
    assert job is not None
    undo(f"losing {job.lease_token}")
    if job.lease_token == 1:
        rewritten_job(job, state="READY", worker_id=None)


@step(compensate=loses_it)
def loses_its_job(ref: str) -> None: ...
