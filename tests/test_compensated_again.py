"""Jobs whose steps were undone are retried: what was undone is done again."""

from collections.abc import Iterator
from functools import partial
from uuid import uuid5

import pytest
from django.db.models import F

from django_durable import RetryPolicy, enqueue, retry_job, step
from django_durable.models import Checkpoint, Job
from django_durable.testing import crash_after
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    policy,
    resumed_job,
)
from tests.undoing import (
    UNDONE,
    book,
    break_down,
    charge,
    failing,
    forget,
    keys,
    keys_of,
    letter,
    mended,
    no_way_back,
    pays,
    refusals,
    reserve,
    states_of,
    tell,
    told,
    trip,
    undo,
    undone,
    unpack,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    yield
    forget()


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

    def test_records_of_undoing_outlive_retries(self) -> None:
        refusals["refund"] = [ValueError("no")]
        job = ended_job(failing(partial(charge, "a")))
        failing(partial(charge, "a"), retry=policy(2))

        job = resumed_job(retry_job(job))
        assert job.state == "SCHEDULED"
        job = resumed_job(job, ahead=HOUR)

        assert states_of(job) == {
            "charge": "COMPENSATED",
            "compensation@1/charge": "FAILED",
            "compensation@3/charge": "SUCCESSFUL",
        }

    def test_what_died_while_undone_at_most_once_is_undone_when_told_after_other_steps(
        self,
    ) -> None:
        job = resumed_job(crashed_job(failing(partial(letter, "a")), after="compensation@1/letter"))
        assert undone() == []
        failing(partial(letter, "a"), partial(no_way_back, "a"))
        job = resumed_job(retry_job(job))
        assert undone() == []

        job = resumed_job(retry_job(job, rerun_interrupted=True))

        assert undone() == ["undo letter a"]
        assert states_of(job)["letter"] == "COMPENSATED"

    def test_a_step_that_runs_again_has_all_the_time_of_its_policy(self) -> None:
        patient = RetryPolicy(max_attempts=3, initial_delay=HOUR, jitter=False, deadline=5 * HOUR)
        stutters = step(name="stutters", retry=patient, compensate=unpack)(stutter)
        job = ended_job(failing(partial(stutters, "a")))
        Checkpoint.objects.filter(job_id=job.pk).update(started_at=F("started_at") - 9 * HOUR)
        refusals["stutters"] = [ConnectionError("1"), ConnectionError("2")]

        job = resumed_job(retry_job(job))
        assert job.state == "SCHEDULED"
        job = resumed_job(job, ahead=HOUR)
        assert job.state == "SCHEDULED"
        job = resumed_job(job, ahead=2 * HOUR)

        assert told[-2:] == ["undo stuttering", "undo pack ('a',) {}"]

    def test_its_checkpoint_is_that_of_the_new_run(self) -> None:
        job = ended_job(failing(partial(reserve, "a")))
        before = checkpoints_of(job)["reserve"]
        mended(partial(reserve, "a", amount=2), partial(no_way_back, "a"))
        with crash_after("reserve"):
            resumed_job(retry_job(job))

        job = resumed_job(job)  # its arguments are compared

        assert (job.state, told[-2:]) == ("SUCCESSFUL", ["reserve a", "no way back a"])
        assert checkpoints_of(job)["reserve"].started_at > before.saved_at


def stutter(ref: str) -> None:
    undo("stuttering")


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
