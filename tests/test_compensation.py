"""Compensations: what undoes a step, before its job ends FAILED or CANCELLED."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid5

import pytest
from django.db import connection
from django.utils import translation

from django_durable import (
    Task,
    cancel_job,
    current_job,
    current_step,
    enqueue,
    gather,
    retry_job,
    sleep,
    step,
    task,
)
from django_durable.engine import claims, compensations, outcomes
from django_durable.exceptions import (
    JobError,
    NestedStepError,
    StepValueError,
    TaskDefinitionError,
)
from django_durable.models import Checkpoint, Job, JobState
from django_durable.signals import job_finished, job_started
from django_durable.testing import crash_after
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    outcomes_of,
    policy,
    receiver_of,
    redeployed,
    resumed_job,
    rewritten_job,
)
from tests.testapp.models import Account, Charge

pytestmark = pytest.mark.django_db

told: list[str] = []
"""What was done and undone, in order."""
keys: list[tuple[str, str]] = []
"""By which step, under which idempotency key."""
refusals: dict[str, list[Exception]] = {}
"""What the next runs of a compensation raise, by its name, first to last."""


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    yield
    for memory in (told, keys, refusals):
        memory.clear()


def tell(what: str) -> str:
    keys.append((current_step().name, current_step().idempotency_key))
    told.append(what)
    return what


def undo(what: str) -> None:
    name = current_step().name
    if refusals.get(name):
        keys.append((name, current_step().idempotency_key))
        raise refusals[name].pop(0)
    tell(f"undo {what}")


def keys_of(*names: str) -> list[str]:
    return [key for name, key in keys if name in names]


@dataclass
class Parcel:
    weight: int


def refund(ref: str, result: str) -> None:
    undo(f"{ref}: {result}")


@step(compensate=refund)
def charge(ref: str) -> str:
    return tell(f"charge {ref}")


@step(retry=policy(2), raises=(ConnectionError,))
def give_back(ref: str, amount: int = 1) -> None:
    undo(f"reserve {ref} {amount} try {current_step().attempt}")


@step(compensate=give_back)
def reserve(ref: str, amount: int = 1) -> str:
    return tell(f"reserve {ref}")


@step(atomic=True)
def cross_out(ref: str) -> None:
    undo(f"book {ref}")
    Charge.objects.filter(order_ref=ref).delete()


@step(atomic=True, compensate=cross_out)
def book(ref: str) -> int:
    tell(f"book {ref}")
    return Charge.objects.create(order_ref=ref).pk


async def hang_up(ref: str) -> None:
    undo(f"call {ref}")


@step(compensate=hang_up)
async def call(ref: str) -> str:
    return tell(f"call {ref}")


@step(at_most_once=True)
def apologise(ref: str) -> None:
    undo(f"letter {ref}")


@step(at_most_once=True, compensate=apologise)
def letter(ref: str) -> str:
    return tell(f"letter {ref}")


def unpack(*args: Any, **kwargs: Any) -> None:
    undo(f"pack {args} {kwargs}")


def unpack_parcel(parcel: Any, *, account: Any = None, result: Any) -> None:
    undo(f"pack {parcel} {account} {result}")


@step(compensate=unpack_parcel, key=lambda parcel, account=None: parcel.weight)
def pack(parcel: Parcel, *, account: Account | None = None) -> Parcel:
    tell(f"pack {parcel}")
    return Parcel(parcel.weight + 1)


@step
def no_way_back(ref: str) -> None:
    tell(f"no way back {ref}")


@step
def break_down(ref: str = "") -> None:
    raise ValueError(f"broken {ref}")


@task
def trip(ref: str) -> None:
    charge(ref)
    reserve(ref)
    book(ref)
    break_down(ref)


@task
def wait_then_break(ref: str) -> None:
    charge(ref)
    sleep(HOUR)
    break_down(ref)


@task
def pays(ref: str) -> str:
    return charge(ref)


UNDONE = ["undo book a", "undo reserve a 1 try 1", "undo a: charge a"]


def undone() -> list[str]:
    return [what for what in told if what.startswith("undo")]


def failing(*steps: Callable[[], Any], **options: Any) -> Task[..., Any]:
    """A task that takes some steps and fails."""

    @task(path="failing", **options)
    def fail() -> None:
        for one in steps:
            one()
        raise LookupError("the end")

    return fail


def mended(*steps: Callable[[], Any], **options: Any) -> None:
    """The same task after a deploy: it takes these steps and returns."""

    def take_steps() -> None:
        for one in steps:
            one()

    redeployed("failing", take_steps, **options)


def states_of(job: Job) -> dict[str, str]:
    return {identity: row.state for identity, row in checkpoints_of(job).items()}


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
        known = compensations._compensations.pop(f"{__name__}.give_back")

        job = resumed_job(job)
        assert (job.state, job.wait_kind, job.ends_as) == ("WAITING", "blocked", "FAILED")
        assert job.wait_reason == (
            f"step reserve is to be undone by {__name__}.give_back, which is not declared here"
        )
        assert undone() == UNDONE[:1]
        compensations._compensations[f"{__name__}.give_back"] = known
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
        assert f"{__name__}.refund does not take what step charge recorded: " in job.wait_reason
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
        claimant = claims.Claimant(
            worker_id=0, alias="default", task_paths=[pays.path], code_version="", max_lost=5
        )

        assert claims.has_suspect(claimant, [job.queue_name]) is is_suspect

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


class RetryTests:
    def test_charge_refund_charge_again_under_three_keys(self) -> None:
        job = ended_job(failing(partial(charge, "a"), partial(no_way_back, "a")))
        mended(partial(charge, "a"), partial(no_way_back, "a"))

        job = resumed_job(retry_job(job))

        assert (job.state, told) == (
            "SUCCESSFUL", ["charge a", "no way back a", "undo a: charge a", "charge a"]
        )  # fmt: skip
        assert len(set(keys_of("charge", "refund"))) == 3
        assert states_of(job) == {
            "no_way_back": "SUCCESSFUL",
            "compensation@1/charge": "SUCCESSFUL",
            "charge": "SUCCESSFUL",
        }

    def test_what_was_charged_again_is_undone_again(self) -> None:
        job = ended_job(trip, "a")

        job = resumed_job(retry_job(job))

        assert undone() == UNDONE * 2
        assert len(set(keys_of("charge", "refund"))) == 4
        assert states_of(job)["compensation@2/charge"] == "SUCCESSFUL"

    def test_what_could_not_be_undone_is_tried_again_at_the_next_end_under_its_key(self) -> None:
        refusals["refund"] = [ValueError("no")]
        job = ended_job(failing(partial(charge, "a")))
        assert states_of(job)["charge"] == "SUCCESSFUL"

        job = resumed_job(retry_job(job))

        assert told == ["charge a", "undo a: charge a"]
        assert len(keys_of("refund")) == 2
        assert len(set(keys_of("refund"))) == 1
        assert states_of(job)["compensation@1/charge"] == "FAILED"
        assert states_of(job)["compensation@2/charge"] == "SUCCESSFUL"

    def test_the_mended_task_may_begin_with_something_else(self) -> None:
        job = ended_job(failing(partial(charge, "a"), partial(reserve, "a")))
        told.clear()
        mended(
            partial(book, "b"), partial(reserve, "a", amount=2), partial(charge, "a"), break_down
        )

        job = resumed_job(retry_job(job))

        assert told == [
            "book b", "reserve a", "charge a",
            "undo a: charge a", "undo reserve a 2 try 1", "undo book b",
        ]  # fmt: skip

    def test_a_step_that_runs_again_may_be_of_another_kind(self) -> None:
        job = ended_job(failing(partial(charge, "a")))
        other = step(name="charge", at_most_once=True)(lambda: tell("other"))
        mended(other)

        job = resumed_job(retry_job(job))

        assert (job.state, told[-1]) == ("SUCCESSFUL", "other")
        row = checkpoints_of(job)["charge"]
        assert (row.kind, row.state, row.compensation) == ("at_most_once", "SUCCESSFUL", None)

    def test_a_new_step_before_one_that_stands_still_blocks(self) -> None:
        """Though the steps that run again have later numbers than those that stand."""
        called = failing(partial(charge, "a"), partial(no_way_back, "a"), partial(charge, "b"))
        job = ended_job(called)
        with crash_after("charge"):
            resumed_job(retry_job(job))
        told.clear()
        mended(partial(charge, "a"), renamed, partial(no_way_back, "a"))

        job = resumed_job(job)

        assert (job.state, job.wait_kind, told) == ("WAITING", "blocked", [])

    def test_jobs_enqueued_in_a_step_that_runs_again_are_others(self) -> None:
        job = ended_job(failing(partial(enqueues, "a")))

        job = resumed_job(retry_job(job))

        origins = (
            Job.objects.filter(parent_id=job.pk).order_by("id").values_list("origin", flat=True)
        )
        assert list(origins) == [
            f"enqueues/enqueue:{pays.path}",
            f"enqueues/#1/enqueue:{pays.path}",
        ]

    def test_records_of_undoing_outlive_a_retry(self) -> None:
        refusals["refund"] = [ValueError("no")]
        job = ended_job(failing(partial(charge, "a"), retry=policy(1)))
        mended(break_down, retry=policy(2))

        job = resumed_job(retry_job(job), ahead=HOUR)

        assert states_of(job)["compensation@1/charge"] == "FAILED"


@step
def renamed() -> None:
    tell("renamed")


@step(compensate=unpack)
def enqueues(ref: str) -> None:
    enqueue(pays, ref)


class KeyTests:
    def test_a_compensation_has_one_key_over_all_its_tries_and_not_the_steps(self) -> None:
        refusals["give_back"] = [ConnectionError("busy")]

        job = ended_job(failing(partial(reserve, "a")))
        resumed_job(job, ahead=HOUR)

        assert [name for name, _ in keys] == ["reserve", "give_back", "give_back"]
        assert len(set(keys_of("give_back"))) == 1
        assert keys_of("reserve")[0] not in keys_of("give_back")
        assert {len(key) for _, key in keys} == {36}

    def test_the_first_key_of_a_step_is_that_of_its_identity(self) -> None:
        job = ended_job(pays, "a")

        assert keys_of("charge") == [str(uuid5(job.pk, "charge"))]


def local_refund(ref: str) -> None: ...


def with_result(ref: str, result: int) -> None: ...


def other_names(reference: str) -> None: ...


def other_name(ref: str, money: int) -> None: ...


def other_order(amount: int, ref: str) -> None: ...


def less(ref: str) -> None: ...


def more(ref: str, amount: int, why: str) -> None: ...


def by_position(ref: str, amount: int, /) -> None: ...


def result_first(result: int, ref: str, amount: int) -> None: ...


class Desk:
    def refund(self, ref: str) -> None: ...


class DeclarationTests:
    @pytest.mark.parametrize(
        ("compensate", "says"),
        [
            ("refund", "compensate must be a function, or a step."),
            (pays, "it must be a function of a module, under a name"),
            (lambda ref, amount: None, "it must be a function of a module, under a name"),
            (Desk().refund, "it must be a function of a module, under a name"),
            (partial(refund), "it must be a function of a module, under a name"),
            (other_names, "too many positional arguments"),
            (other_name, "it would get amount as money"),
            (other_order, "it would get ref as amount"),
            (less, "too many positional arguments"),
            (more, "missing a required argument: 'why'"),
            (by_position, "by_position: "),
            (result_first, "multiple values for argument 'result'"),
        ],
    )
    def test_what_cannot_undo_the_step_is_refused(self, compensate: Any, says: str) -> None:
        with pytest.raises(TaskDefinitionError) as caught:

            @step(compensate=compensate)
            def two(ref: str, amount: int) -> None: ...

        assert says in str(caught.value)
        assert str(caught.value).startswith('Task or step "two" cannot be declared: ')

    def test_a_local_function_is_refused(self) -> None:
        def local_refund(ref: str) -> None: ...

        with pytest.raises(TaskDefinitionError, match="under a name"):
            step(compensate=local_refund)(lambda ref: None)

    @pytest.mark.parametrize(
        "parameters", ["ref, amount=1", "ref, /", "*, ref", "ref, *rest, **more", ""]
    )
    def test_anything_can_be_undone_by_what_takes_anything(self, parameters: str) -> None:
        function = eval(f"lambda {parameters}: None")

        assert step(compensate=unpack)(function).rule.compensation.path == f"{__name__}.unpack"

    @pytest.mark.parametrize("parameters", ["ref, result", "result, ref"])
    def test_a_parameter_result_of_the_steps_own_is_refused(self, parameters: str) -> None:
        with pytest.raises(TaskDefinitionError, match="both take result"):
            step(compensate=with_result)(eval(f"lambda {parameters}: None"))

    def test_two_functions_of_one_name_are_refused(self) -> None:
        first = {"__name__": "twice"}
        exec("def refund(ref): ...", first)
        step(name="one", compensate=first["refund"])(charge.rule.func)
        second = {"__name__": "twice"}
        exec("\ndef refund(ref): ...", second)

        with pytest.raises(TaskDefinitionError, match="another function of that name"):
            step(name="two", compensate=second["refund"])(letter.rule.func)

    def test_a_module_may_be_loaded_again(self) -> None:
        for _ in range(2):
            module: dict[str, Any] = {"__name__": "loaded", "step": step}
            exec(
                "def undo(): ...\n"
                "@step(compensate=undo)\n"
                "def one(): ...\n"
                "@step(compensate=undo)\n"
                "def two(): ...\n",
                module,
            )

        found = compensations.find('{"path":"loaded.undo","step":"loaded.two"}')
        assert found is not None
        assert found.step.rule.func is module["undo"]

    def test_arguments_that_cannot_be_kept_are_refused_before_the_body(self) -> None:
        caught: list[StepValueError] = []

        def charge_connection() -> None:
            try:
                charge(connection)
            except StepValueError as error:
                caught.append(error)

        job = ended_job(task(path="failing")(charge_connection))

        assert (job.state, told, checkpoints_of(job)) == ("SUCCESSFUL", [], {})
        assert str(caught[0]).startswith(
            f'What step "charge" is called with, to be undone by {__name__}.refund, cannot be '
            "kept: ref cannot be stored: "
        )

    def test_inside_another_step_it_is_refused(self) -> None:
        @step
        def outer() -> None:
            with pytest.raises(NestedStepError, match="is compensated and was called inside"):
                charge("a")

        assert ended_job(task(path="nesting")(lambda: outer())).state == "SUCCESSFUL"

    def test_outside_jobs_nothing_is_undone(self) -> None:
        assert charge("a") == "charge a"
        assert told == ["charge a"]

    def test_no_step_is_called_as_compensations_are(self) -> None:
        with pytest.raises(TaskDefinitionError, match="must not begin with compensation@"):
            step(name="compensation@1")(lambda: None)


class LeaseTests:
    def test_who_lost_the_job_says_nothing_and_the_next_one_goes_on(self) -> None:
        job = ended_job(failing(partial(charge, "a"), partial(loses_its_job, "a")))

        assert (job.state, job.lease_token) == ("FAILED", 2)
        assert undone() == ["undo losing 1", "undo losing 2", "undo a: charge a"]
        assert set(keys_of("loses_it")) == {keys_of("loses_it")[0]}

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
