"""``patched``: old jobs stay on the old way, all others go the new one."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from django_durable import apatched, gather, patched, retry_job, step
from django_durable.exceptions import (
    StepInTransactionError,
    TaskDefinitionError,
    WaitInStepError,
)
from django_durable.models import Job
from django_durable.testing import crash_after, run_jobs
from tests.builders import (
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    redeployed,
    resumed_job,
)

pytestmark = pytest.mark.django_db

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@step
def before() -> None:
    CALLS.append("before")


@step
def check() -> None:
    CALLS.append("check")


@step
def after() -> None:
    CALLS.append("after")


@step
def last() -> None:
    CALLS.append("last")


def old() -> None:
    before()
    after()
    last()


def new() -> None:
    before()
    if patched("checks"):
        check()
    after()
    last()


def retired() -> None:
    before()
    check()
    after()
    last()


def deployed(function: Callable[[], Any]) -> Any:
    return redeployed("patching.task", function)


class WayTests:
    def test_a_new_job_goes_the_new_way(self) -> None:
        job = ended_job(deployed(new))

        assert (job.state, CALLS) == ("SUCCESSFUL", ["before", "check", "after", "last"])
        marker = checkpoints_of(job)["patch:checks"]
        assert (marker.kind, marker.value, marker.seq) == ("patch", "true", 2)

    def test_a_job_past_the_place_stays_on_the_old_way(self) -> None:
        job = crashed_job(deployed(old), after="after")
        deployed(new)

        assert resumed_job(job).state == "SUCCESSFUL"
        assert CALLS == ["before", "after", "last"]
        assert "patch:checks" not in checkpoints_of(job)

    def test_a_job_before_the_place_goes_the_new_way(self) -> None:
        job = crashed_job(deployed(old), after="before")
        deployed(new)

        assert resumed_job(job).state == "SUCCESSFUL"
        assert CALLS == ["before", "check", "after", "last"]

    @pytest.mark.parametrize("place", ["patch:checks", "check", "after"])
    def test_the_new_way_is_kept_wherever_the_process_dies(self, place: str) -> None:
        job = crashed_job(deployed(new), after=place)

        assert resumed_job(job).state == "SUCCESSFUL"
        assert CALLS == ["before", "check", "after", "last"]

    def test_the_old_way_is_kept_wherever_the_process_dies(self) -> None:
        answers: list[bool] = []

        def noted() -> None:
            before()
            answers.append(patched("checks"))
            after()
            last()

        job = crashed_job(deployed(old), after="after")
        deployed(noted)
        crash_again(job, after="last")
        resumed_job(job)

        assert answers == [False, False]

    def test_each_call_of_a_loop_answers_for_itself(self) -> None:
        answers: list[bool] = []

        @step
        def item(number: int) -> None:
            CALLS.append(str(number))

        def plain() -> None:
            for number in range(4):
                item(number)

        def careful() -> None:
            for number in range(4):
                answers.append(patched("checks"))
                item(number)

        job = crashed_job(deployed(plain), after="item#2")
        deployed(careful)

        assert resumed_job(job).state == "SUCCESSFUL"
        assert answers == [False, False, True, True]
        assert [i for i in checkpoints_of(job) if i.startswith("patch")] == [
            "patch:checks#3", "patch:checks#4",
        ]  # fmt: skip

    def test_a_new_key_among_recorded_ones_does_not_hide_those_ahead(self) -> None:
        answers: list[bool] = []

        @step(key=lambda number: number)
        def item(number: int) -> None:
            CALLS.append(str(number))

        def plain() -> None:
            for number in (1, 2):
                item(number)
            last()

        def careful() -> None:
            for number in (0, 1, 2):
                answers.append(patched("checks"))
                item(number)
            answers.append(patched("checks"))
            last()

        job = crashed_job(deployed(plain), after="item[2]")
        deployed(careful)

        assert resumed_job(job).state == "SUCCESSFUL"
        assert answers == [False, False, False, True]

    def test_in_a_branch_what_is_recorded_behind_all_branches_counts(self) -> None:
        answers: list[bool] = []

        def branch() -> None:
            before()
            answers.append(patched("checks"))

        def run() -> None:
            gather(branch, after)
            last()

        def plain() -> None:
            gather(before, after)
            last()

        job = crashed_job(deployed(plain), after="last")
        deployed(run)
        assert resumed_job(job).state == "SUCCESSFUL"
        other = ended_job(deployed(run))

        assert answers == [False, True]
        assert "gather/0/patch:checks" in checkpoints_of(other)

    def test_two_names_are_two_decisions(self) -> None:
        def both() -> list[bool]:
            return [patched("a"), patched("b"), patched("a")]

        job = ended_job(deployed(both))

        assert job.return_value == [True, True, True]
        assert list(checkpoints_of(job)) == ["patch:a", "patch:b", "patch:a#2"]

    def test_an_async_task_decides_the_same(self) -> None:
        async def run() -> bool:
            return await apatched("checks")

        assert ended_job(deployed(run)).return_value is True

    def test_a_failed_step_that_runs_again_is_not_ahead(self) -> None:
        """The next attempt removes its failure, and may go the new way."""
        fails = [True]

        @step
        def breaks() -> None:
            if fails.pop():
                raise ValueError

        def first() -> None:
            before()
            breaks()

        def second() -> None:
            before()
            if patched("checks"):
                check()

        job = ended_job(deployed(first))
        deployed(second)
        assert resumed_job(retry_job(job)).state == "SUCCESSFUL"
        assert CALLS == ["before", "check"]


class RetirementTests:
    def test_deleting_the_call_and_the_old_way_harms_no_job_of_the_new_way(self) -> None:
        for place in ("before", "patch:checks", "check", "after"):
            job = crashed_job(deployed(new), after=place)
            deployed(retired)
            CALLS.clear()

            assert resumed_job(job).state == "SUCCESSFUL", place
            assert "before" not in CALLS

    def test_a_marker_never_counts_as_ahead(self) -> None:
        job = crashed_job(deployed(new), after="patch:checks")

        def without() -> None:
            before()
            last()

        deployed(without)

        assert resumed_job(job).state == "SUCCESSFUL"
        assert CALLS == ["before", "last"]

    def test_deleting_the_call_too_early_blocks_jobs_of_the_old_way(self) -> None:
        job = crashed_job(deployed(old), after="after")
        deployed(retired)

        assert resumed_job(job).wait_kind == "blocked"
        assert CALLS == ["before", "after"]


class PlaceTests:
    def test_outside_a_job_the_new_way_is_gone(self) -> None:
        assert patched("checks") is True

    @pytest.mark.parametrize("name", ["", " ", "a/b", "a#2", "a[1]", None, "x" * 201])
    def test_bad_names_are_refused(self, name: Any) -> None:
        with pytest.raises(TaskDefinitionError):
            patched(name)

    def test_inside_a_step_it_is_refused(self) -> None:
        @step
        def outer() -> None:
            patched("checks")

        error = error_of(ended_job(deployed(lambda: outer())))

        assert "WaitInStepError" in error["message"]
        assert WaitInStepError.__name__ in error["message"]

    def test_inside_a_transaction_it_is_refused(self) -> None:
        def run() -> None:
            with transaction.atomic():
                patched("checks")

        job = ended_job(deployed(run))

        assert error_of(job)["type"].endswith(StepInTransactionError.__name__)

    def test_a_step_of_that_name_is_another_thing(self) -> None:
        @step(name="patch:checks")
        def named() -> None:
            pass

        job = crashed_job(deployed(lambda: (named(), last())), after="patch:checks")
        deployed(lambda: (patched("checks"), last()))

        reason = resumed_job(job).wait_reason
        assert reason is not None
        assert "a plain step at patch:checks (recorded); found a patch" in reason


def crash_again(job: Job, *, after: str) -> None:
    with crash_after(after):
        run_jobs()
