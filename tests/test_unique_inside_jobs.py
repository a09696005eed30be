"""Unique jobs that jobs enqueue: a replay is told what the first run was told."""

from collections.abc import Callable
from typing import Any

import pytest

from django_durable import (
    Task,
    Unique,
    enqueue,
    enqueue_many,
    fork_job,
    gather,
    map_task,
    run_step,
    sleep,
    step,
    task,
)
from django_durable.exceptions import InvalidOptionError, NotUniqueError
from django_durable.models import Checkpoint, Job
from django_durable.testing import crash_after, run_jobs
from tests.builders import HOUR, crashed_job, policy, redeployed, resumed_job
from tests.crashing import Death, Life
from tests.management.rehearsed import nothing_written, obstacles

pytestmark = pytest.mark.django_db


@task(path="rebuild")
def rebuild(shop: int, note: str = "") -> str:
    return f"{shop} {note}"


@step
def note() -> None:
    pass


def unique(on_conflict: Any = "return", during: Any = "unfinished") -> Task[..., Any]:
    rule = Unique(during, key=lambda shop, note="": shop, on_conflict=on_conflict)
    return rebuild.using(unique=rule)


def ask(on_conflict: Any) -> str:
    try:
        job = enqueue(unique(on_conflict), 1, "mine")
    except NotUniqueError as error:
        return f"refused for {error.job_id}"
    return f"{job.pk} {job.is_duplicate}"


def asking(on_conflict: Any = "return", path: str = "asks") -> Task[..., Any]:
    """A task that enqueues, does a step, and returns what it was told."""

    def asks() -> str:
        told = ask(on_conflict)
        note()
        return told

    return redeployed(path, asks)


def in_the_way() -> Job:
    return enqueue(unique().using(delay=HOUR), 1, "theirs")


def gone(job: Job) -> None:
    """Finished meanwhile, so that its key is free."""
    Job.objects.filter(pk=job.pk).update(
        state="CANCELLED", finished_at="2026-01-01T00:00Z", worker_id=None
    )


POLICIES = pytest.mark.parametrize("on_conflict", ["return", "reject", "replace"])


def test_a_call_from_elsewhere_does_not_end_with_the_job_that_enqueued_the_one_it_replaced() -> (
    None
):
    called = unique("replace", "queued").using(delay=HOUR, on_parent_end="cancel")

    def parent() -> None:
        enqueue(called, 1, "first")
        enqueue(called, 1, "again")
        sleep(HOUR)

    redeployed("parents", parent).enqueue()
    run_jobs()
    (child,) = Job.objects.filter(task_path="rebuild")
    assert (child.args, child.on_parent_end) == ([1, "again"], "cancel")

    enqueue(called, 1, "theirs")

    child.refresh()
    assert (child.args, child.on_parent_end) == ([1, "theirs"], None)


@POLICIES
class ReplayTests:
    def test_it_is_told_the_same_although_the_key_is_free_by_then(self, on_conflict: Any) -> None:
        theirs = in_the_way()
        job = crashed_job(asking(on_conflict), after="note")
        gone(theirs)

        resumed_job(job)

        told = f"refused for {theirs.pk}" if on_conflict == "reject" else f"{theirs.pk} True"
        assert job.return_value == told
        assert Job.objects.filter(task_path="rebuild").count() == 1

    def test_also_when_the_other_job_is_pruned(self, on_conflict: Any) -> None:
        theirs = in_the_way()
        job = crashed_job(asking(on_conflict), after="note")
        Job.objects.filter(pk=theirs.pk)._raw_delete("default")

        assert str(theirs.pk) in resumed_job(job).return_value
        assert not Job.objects.filter(task_path="rebuild").exists()

    def test_its_own_job_is_not_in_its_way(self, on_conflict: Any) -> None:
        job = resumed_job(crashed_job(asking(on_conflict), after="note"))

        (child,) = Job.objects.filter(task_path="rebuild")
        assert job.return_value == f"{child.pk} False"
        assert child.parent_id == job.pk

    def test_a_fork_is_told_what_its_source_was(self, on_conflict: Any) -> None:
        theirs = in_the_way()
        job = resumed_job(asking(on_conflict).enqueue())
        gone(theirs)

        fork = resumed_job(fork_job(job, from_step="note"))

        assert fork.return_value == job.return_value
        assert Job.objects.filter(task_path="rebuild").count() == 1

    def test_a_rehearsal_says_that_it_goes_on_and_writes_nothing(self, on_conflict: Any) -> None:
        def sleeps() -> None:
            ask(on_conflict)
            sleep(2 * HOUR)
            enqueue(unique(on_conflict), 1, "again")

        theirs = in_the_way()
        enqueue(redeployed("sleeps", sleeps))
        run_jobs()
        gone(theirs)

        with nothing_written():
            assert obstacles() == []

    def test_wherever_the_process_dies_it_has_one_answer(self, on_conflict: Any) -> None:
        """What was told and then acted on stands, though the other job ends in between."""
        at = 1
        while True:
            Job.objects.all()._raw_delete("default")
            Checkpoint.objects.all()._raw_delete("default")
            theirs = in_the_way()
            job = asking(on_conflict).enqueue()
            with Life(Death("after", at)) as life:
                run_jobs()
            gone(theirs)
            run_jobs()

            job.refresh()
            children = Job.objects.filter(parent_id=job.pk)
            answers = Checkpoint.objects.filter(job_id=job.pk, kind="enqueue")
            assert len(children) + len(answers) == 1, f"dying after {at}"
            named = children[0].pk if children else theirs.pk
            theirs.refresh()
            assert theirs.args[1] == "theirs" or not children, f"both, dying after {at}"
            assert str(named) in job.return_value
            if not life.is_dead:
                break
            at += 1
        assert at > 2


class AttemptTests:
    def test_a_refusal_that_ended_the_attempt_is_asked_again(self) -> None:
        def strict() -> str:
            return str(enqueue(unique("reject"), 1).pk)

        theirs = in_the_way()
        job = resumed_job(redeployed("strict", strict, retry=policy(2)).enqueue())
        assert job.state == "SCHEDULED"
        gone(theirs)

        resumed_job(job, ahead=HOUR)

        assert job.return_value == str(Job.objects.get(parent_id=job.pk).pk)

    def test_a_changed_call_blocks(self) -> None:
        in_the_way()
        job = crashed_job(asking(), after="note")

        def other() -> None:
            enqueue(unique(), 1, "other")
            note()

        redeployed("asks", other)

        assert resumed_job(job).wait_kind == "blocked"

    def test_a_call_that_is_unique_no_more_keeps_its_answer(self) -> None:
        theirs = in_the_way()
        job = crashed_job(asking(), after="note")

        def other() -> str:
            told = enqueue(rebuild, 1, "mine")
            note()
            return str(told.pk)

        redeployed("asks", other)

        assert resumed_job(job).return_value == str(theirs.pk)

    def test_each_branch_is_told_for_itself(self) -> None:
        def branches() -> list[str]:
            return [*gather(lambda: ask("return"), lambda: ask("return"))]

        job = resumed_job(redeployed("branches", branches).enqueue())

        (child,) = Job.objects.filter(task_path="rebuild")
        assert sorted(job.return_value) == [f"{child.pk} False", f"{child.pk} True"]


def failing_once(**kind: Any) -> tuple[Task[..., Any], list[str]]:
    """A task whose step asks, and fails the first time; what it was told."""
    told: list[str] = []

    @step(name="inside", **kind)
    def inside() -> str:
        told.append(ask("replace"))
        if len(told) == 1:
            raise ConnectionError
        return told[-1]

    return redeployed("steps", lambda: inside(), retry=policy(2)), told


class StepTests:
    def test_an_atomic_step_that_is_undone_has_replaced_nothing(self) -> None:
        theirs = in_the_way()
        called, told = failing_once(atomic=True)

        job = resumed_job(called.enqueue())
        theirs.refresh()
        assert theirs.args == [1, "theirs"]

        resumed_job(job, ahead=HOUR)
        assert told[0] == f"{theirs.pk} True"

    def test_a_plain_step_that_runs_again_asks_again(self) -> None:
        theirs = in_the_way()
        called, told = failing_once()
        job = resumed_job(called.enqueue())
        gone(theirs)

        resumed_job(job, ahead=HOUR)

        (child,) = Job.objects.filter(parent_id=job.pk)
        assert told == [f"{theirs.pk} True", f"{child.pk} False"]
        assert not Checkpoint.objects.filter(kind="enqueue").exists()

    def test_an_atomic_task_asks_in_its_one_transaction(self) -> None:
        theirs = in_the_way()

        job = resumed_job(redeployed("whole", lambda: ask("return"), atomic=True).enqueue())

        assert job.return_value == f"{theirs.pk} True"
        assert not Checkpoint.objects.exists()


class ManyTests:
    def test_many_are_told_the_same_on_replay(self) -> None:
        def many() -> list[str]:
            jobs = enqueue_many(unique().bind(shop) for shop in (2, 1, 2))
            note()
            return [f"{job.pk} {job.is_duplicate}" for job in jobs]

        theirs = in_the_way()
        job = redeployed("many", many).enqueue()
        with crash_after("note"):
            run_jobs()
        gone(theirs)
        Job.objects.filter(parent_id=job.pk).update(
            state="CANCELLED", finished_at="2026-01-01T00:00Z"
        )

        resumed_job(job)

        (child,) = Job.objects.filter(parent_id=job.pk)
        assert job.return_value == [f"{child.pk} False", f"{theirs.pk} True", f"{child.pk} True"]

    def test_what_may_be_rejected_goes_one_by_one_between_steps(self) -> None:
        def many() -> None:
            enqueue_many([unique("reject").bind(1)])

        job = resumed_job(redeployed("many", many).enqueue())

        assert "one by one" in job.error


@pytest.mark.parametrize(
    "start",
    [lambda: unique().start(1), lambda: map_task(unique(), [1, 2])],
)
def test_children_that_are_awaited_are_never_shared(start: Callable[[], Any]) -> None:
    job = resumed_job(redeployed("parent", lambda: start()).enqueue())

    assert job.state == "FAILED"
    assert InvalidOptionError.__name__ in job.error
    assert "unique=None" in job.error


def test_a_step_of_the_same_job_may_come_after_an_answer() -> None:
    """The answer is a call of its own: steps around it find their checkpoints."""

    def steps() -> int:
        run_step("before", lambda: 1)
        ask("return")
        return run_step("after", lambda: 2) or 0

    in_the_way()
    job = redeployed("steps", steps).enqueue()
    with crash_after("after"):
        run_jobs()

    assert resumed_job(job).return_value == 2
