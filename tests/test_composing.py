"""Children, branches and maps, by the engine's own rules in one process."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import TestCase

from django_durable import (
    agather,
    first,
    gather,
    map_task,
    retry_job,
    send_event,
    sleep,
    step,
    task,
    wait_for_event,
)
from django_durable.exceptions import (
    BulkItemError,
    ChildFailedError,
    InvalidOptionError,
    MapFailedError,
    WaitOutsideJobError,
)
from django_durable.models import Job
from django_durable.testing import run_jobs
from tests.builders import HOUR, checkpoints_of, ended_job, error_of, resumed_job

calls: list[Any] = []


@step
def note(text: str) -> str:
    calls.append(text)
    return text


@task
def double(n: int) -> int:
    calls.append(n)
    if n < 0:
        raise ValueError(f"{n} is negative")
    return 2 * n


@task
def starts_two(a: int, b: int) -> list[int]:
    one, two = double.start(a), double.start(b)
    note("between")
    return [one.result(), two.result()]


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


class ChildTests(TestCase):
    def test_a_parent_is_suspended_until_its_children_have_ended(self) -> None:
        job = ended_job(starts_two, 1, 2)
        assert job.return_value == [2, 4]
        assert calls == ["between", 1, 2]
        assert list(checkpoints_of(job)) == [
            "note",
            f"start:{double.path}",
            f"start:{double.path}#2",
        ]
        assert Job.objects.filter(parent_id=job.pk).count() == 2

    def test_a_failure_surfaces_with_type_and_message(self) -> None:
        job = ended_job(starts_two, 1, -2)
        assert job.state == "FAILED"
        assert "ValueError: -2 is negative" in error_of(job)["message"]

    def test_a_failure_can_be_caught_and_replays(self) -> None:
        @task(path="tests.catches")
        def catches() -> str:
            try:
                double.start(-1).result()
            except ChildFailedError as error:
                sleep(HOUR)
                return f"{error.error_type}: {error.error_message}"
            return "?"

        job = ended_job(catches)
        assert resumed_job(job, ahead=HOUR).return_value == "ValueError: -1 is negative"

    def test_an_atomic_child_wakes_its_parent_in_its_own_commit(self) -> None:
        @task(path="tests.atomic_child", atomic=True)
        def atomic_child(n: int) -> int:
            if n < 0:
                raise ValueError("undone")
            return n

        @task(path="tests.awaits")
        def awaits(n: int) -> int:
            return atomic_child.start(n).result()

        assert ended_job(awaits, 3).return_value == 3
        assert ended_job(awaits, -3).state == "FAILED"

    def test_outside_a_job(self) -> None:
        with pytest.raises(WaitOutsideJobError):
            double.start(1)


class GatherTests(TestCase):
    def test_branches_are_scopes(self) -> None:
        @task(path="tests.gathers")
        def gathers() -> list[Any]:
            return gather(lambda: note("a"), lambda: note("b"))

        job = ended_job(gathers)
        assert job.return_value == ["a", "b"]
        assert list(checkpoints_of(job)) == ["gather/0/note", "gather/1/note"]

    def test_one_branch_waits_the_others_go_on(self) -> None:
        @task(path="tests.gathers")
        def gathers() -> list[Any]:
            def one() -> str:
                wait_for_event("go")
                return note("after event")

            def two() -> str:
                sleep(HOUR)
                return note("after sleep")

            return gather(one, two, lambda: note("at once"))

        job = ended_job(gathers)
        assert calls == ["at once"]
        assert (job.state, job.wait_kind) == ("WAITING", "several")
        assert job.wait_reason == 'waits for event "go"; sleeps for 1:00:00'
        job = resumed_job(job, ahead=HOUR)
        assert calls == ["at once", "after sleep"]
        assert job.state == "WAITING"
        send_event(job, "go")
        assert resumed_job(job).return_value == ["after event", "after sleep", "at once"]
        assert calls == ["at once", "after sleep", "after event"]

    def test_the_first_failure_in_order_is_raised_when_all_have_ended(self) -> None:
        @task(path="tests.gathers")
        def gathers() -> Any:
            def fails() -> None:
                raise ValueError("one")

            return [str(x) for x in gather(fails, lambda: note("b"), return_exceptions=True)]

        assert ended_job(gathers).return_value == ["one", "b"]

    def test_nothing_to_gather(self) -> None:
        @task(path="tests.gathers")
        def gathers() -> Any:
            return gather()

        assert "there is nothing to do" in error_of(ended_job(gathers))["message"]

    def test_handles_are_branches(self) -> None:
        @task(path="tests.gathers")
        def gathers() -> Any:
            return gather(*[double.start(n) for n in range(3)])

        assert ended_job(gathers).return_value == [0, 2, 4]

    def test_coroutines(self) -> None:
        @step
        async def anote(text: str) -> str:
            calls.append(text)
            return text

        @task(path="tests.agathers")
        async def agathers() -> Any:
            return await agather(anote("a"), anote("b"), note.acall("c"))

        job = ended_job(agathers)
        assert job.return_value == ["a", "b", "c"]
        assert sorted(checkpoints_of(job)) == ["gather/0/anote", "gather/1/anote", "gather/2/note"]

    def test_on_an_event_loop_it_says_what_to_write(self) -> None:
        @task(path="tests.gathers")
        async def gathers() -> Any:
            return gather(lambda: note("a"))

        assert error_of(ended_job(gathers))["message"] == (
            "gather() is synchronous and was called on an event loop. Use: await agather(...)."
        )

    def test_a_new_step_in_a_branch_while_more_is_recorded_blocks(self) -> None:
        from tests.builders import redeployed

        def before() -> None:
            gather(lambda: note("a"))
            note("later")
            sleep(HOUR)

        def after() -> None:
            gather(lambda: [note("a"), note("new")])
            note("later")
            sleep(HOUR)

        job = ended_job(redeployed("tests.grown", before))
        redeployed("tests.grown", after)
        assert resumed_job(job, ahead=HOUR).wait_kind == "blocked"


class RetriedBranchTests(TestCase):
    def test_a_branch_that_ended_the_attempt_runs_its_step_again(self) -> None:
        refusals = [True]

        @step
        def refuses() -> str:
            if refusals.pop():
                raise ValueError("not yet")
            return "done"

        @task(path="tests.gathers")
        def gathers() -> Any:
            return gather(refuses, lambda: note("b"))

        job = ended_job(gathers)
        refusals.append(False)
        retry_job(job)
        assert resumed_job(job).return_value == ["done", "b"]
        assert calls == ["b"]

    def test_a_branch_whose_failure_was_caught_replays_it(self) -> None:
        refusals, fails = [True], [True]

        @step
        def refuses() -> str:
            if refusals.pop():
                raise ValueError("not yet")
            return "done"

        @task(path="tests.gathers")
        def gathers() -> Any:
            (error,) = gather(refuses, return_exceptions=True)
            note("went on")
            if fails.pop():
                raise ValueError("the end")
            return str(error)

        job = ended_job(gathers)
        fails.append(False)
        retry_job(job)
        assert "not yet" in resumed_job(job).return_value
        assert calls == ["went on"]

    def test_a_caught_failure_of_a_branch_stays_though_only_branches_came_after(self) -> None:
        fails = [True]

        @step
        def refuses() -> str:
            raise ValueError("no")

        @task(path="tests.gathers")
        def gathers() -> Any:
            gather(refuses, return_exceptions=True)
            gather(lambda: note("went on"))
            if fails.pop():
                raise ValueError("the end")
            return "done"

        job = ended_job(gathers)
        fails.append(False)
        retry_job(job)
        assert resumed_job(job).state == "SUCCESSFUL", job.wait_reason
        assert calls == ["went on"]


class FirstTests(TestCase):
    def test_the_first_is_recorded_and_the_others_are_not_run_again(self) -> None:
        @task(path="tests.first")
        def races() -> Any:
            won = first(lambda: wait_for_event("paid"), lambda: sleep(HOUR))
            sleep(HOUR)
            return won.index

        job = ended_job(races)
        assert job.state == "WAITING"
        send_event(job, "paid")
        job = resumed_job(job)
        assert checkpoints_of(job)["first"].value == "0"
        assert resumed_job(job, ahead=3 * HOUR).return_value == 0

    def test_on_an_event_loop_it_says_what_to_write(self) -> None:
        @task(path="tests.first")
        async def races() -> Any:
            first(lambda: note("a"))

        assert "await sync_to_async(first" in error_of(ended_job(races))["message"]

    def test_on_an_event_loop_in_the_jobs_own_thread(self) -> None:
        @task(path="tests.first")
        async def races() -> Any:
            won = await sync_to_async(first, thread_sensitive=True)(
                lambda: wait_for_event("paid"), lambda: note("b")
            )
            return [won.index, won.value]

        assert ended_job(races).return_value == [1, "b"]

    def test_what_the_first_raises_is_raised(self) -> None:
        @task(path="tests.first")
        def races() -> Any:
            first(lambda: 1 / 0, lambda: sleep(HOUR))

        assert error_of(ended_job(races))["type"].endswith("ZeroDivisionError")


class MapTests(TestCase):
    def test_one_child_for_each_item_in_their_order(self) -> None:
        @task(path="tests.maps")
        def maps(n: int) -> list[int]:
            return list(map_task(double, range(n)))

        assert ended_job(maps, 5).return_value == [0, 2, 4, 6, 8]
        assert ended_job(maps, 0).return_value == []

    def test_bounded_concurrency(self) -> None:
        @task(path="tests.maps")
        def maps() -> list[int]:
            return list(map_task(double, range(5), max_concurrency=2))

        job = maps.enqueue()
        run_jobs()
        job.refresh()
        assert job.return_value == [0, 2, 4, 6, 8]

    def test_however_many_items_there_are_the_parent_is_woken_once(self) -> None:
        @task(path="tests.maps")
        def maps() -> int:
            return len(map_task(double, range(-20, 40), max_concurrency=7, max_failures=60))

        job = ended_job(maps)
        assert (job.return_value, job.lease_token) == (40, 2)

    def test_too_many_failures(self) -> None:
        @task(path="tests.maps")
        def maps() -> str:
            try:
                map_task(double, [1, -1, -2, 3], max_failures=1)
            except MapFailedError as error:
                return f"{error.failed} of {error.total}: {error.error_message}"
            return "?"

        assert ended_job(maps).return_value == "2 of 4: -1 is negative"

    def test_what_it_cancels_itself_is_no_failure(self) -> None:
        @task(path="tests.item")
        def item(n: int) -> int:
            if n == 2:
                raise ValueError("two is bad")
            sleep(HOUR)
            return n

        @task(path="tests.maps")
        def maps() -> Any:
            map_task(item, range(3))

        job = ended_job(maps)
        assert "1 of 3 items of tests.item failed" in error_of(job)["message"]
        assert "item 2: ValueError: two is bad" in error_of(job)["message"]
        rest = Job.objects.filter(parent_id=job.pk).exclude(state="FAILED")
        assert {child.state for child in rest} == {"CANCELLED"}

    def test_tolerated_failures(self) -> None:
        @task(path="tests.maps")
        def maps() -> list[Any]:
            result = map_task(double, [1, -1, 3], max_failures=1)
            return [result.values, [f.index for f in result.failures], result.unfinished]

        assert ended_job(maps).return_value == [[2, 6], [1], []]

    def test_enough_successes_end_it_and_the_rest_is_cancelled(self) -> None:
        @task(path="tests.maps")
        def maps() -> list[Any]:
            result = map_task(double, [1, 2, 3, 4], max_concurrency=1, min_successes=2)
            return [result.values, result.unfinished]

        job = ended_job(maps)
        assert job.return_value == [[2, 4], [2, 3]]
        states = Job.objects.filter(parent_id=job.pk).order_by("origin")
        assert [child.state for child in states] == ["SUCCESSFUL"] * 2 + ["CANCELLED"] * 2

    def test_other_items_on_replay_block(self) -> None:
        items = [1, 2]

        @task(path="tests.maps")
        def maps() -> Any:
            map_task(double, items)
            sleep(HOUR)

        job = ended_job(maps)
        items.append(3)
        job = resumed_job(job, ahead=HOUR)
        assert job.wait_kind == "blocked"
        assert "3 items" in str(job.wait_reason)

    def test_bad_input(self) -> None:
        @task(path="tests.maps")
        def maps(**limits: int) -> Any:
            return list(map_task(double, [1], **limits))  # type: ignore[arg-type]

        for limits in ({"max_concurrency": 0}, {"min_successes": 2}, {"max_failures": -1}):
            assert InvalidOptionError.__name__ in error_of(ended_job(maps, **limits))["type"]

        @task(path="tests.maps_bad")
        def maps_bad() -> Any:
            return list(map_task(double, [object()]))  # type: ignore[list-item]

        assert BulkItemError.__name__ in error_of(ended_job(maps_bad))["type"]
