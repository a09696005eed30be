"""Parents that wait for children, and whose workers die at every durable point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from django.db.models import Q

from django_durable import Task
from django_durable.models import Job
from tests.ends import End, find_differences
from tests.scenarios.killing import Killing, Round, Story
from tests.testapp import killed_families as tasks


def begun(called: Task[..., Any], *args: Any, **options: Any) -> Callable[[str, str], list[Job]]:
    """Enqueues a call of a task for a round."""

    def begin(ref: str, queue: str) -> list[Job]:
        return [called.using(queue_name=queue).enqueue(ref, *args, **options)]

    return begin


def values_of(rounds: list[Round]) -> list[Any]:
    """What the stories returned."""
    for one in rounds:
        one.jobs[0].refresh()
    return [one.jobs[0].return_value for one in rounds]


def test_the_same_children_are_found_again_wherever_the_parents_worker_is_killed(
    killing: Killing,
) -> None:
    story = Story(begin=begun(tasks.starts_children), under_way=2)

    rounds = killing.kill_everywhere(story, least=20)

    expected = [
        "two booked",
        "one booked",
        "two booked",
        "despite django_durable.exceptions.StepFailedError",
    ]
    assert values_of(rounds[:1]) == [expected]
    for one in rounds:
        assert Job.objects.filter(parent_id=one.jobs[0].pk).count() == 3


def test_generations_in_one_queue_of_one_slot_do_not_wait_for_ever(killing: Killing) -> None:
    story = Story(begin=begun(tasks.generations, 3), slots=1)

    rounds = killing.kill_everywhere(story, least=18)

    assert values_of(rounds[:1]) == [
        ["the youngest", "generation 1", "generation 2", "generation 3"]
    ]


# --- fan-out


def test_a_map_tolerates_failures_wherever_the_worker_is_killed(killing: Killing) -> None:
    rounds = killing.kill_everywhere(Story(begin=begun(tasks.maps, 4, max_failures=1)), least=16)

    assert values_of(rounds[:1]) == [[[0, 10, 30], [2], []]]


def test_a_map_over_nothing_is_empty(killing: Killing) -> None:
    rounds = killing.kill_everywhere(Story(begin=begun(tasks.maps, 0)), least=4)

    assert values_of(rounds[:1]) == [[[], [], []]]


def test_a_map_runs_few_at_once_wherever_the_worker_is_killed(killing: Killing) -> None:
    most = []

    def count_live(jobs: list[Job]) -> Iterator[None]:
        live = Job.objects.filter(parent_id=jobs[0].pk).live().exclude(wait_kind="limit")
        while Job.objects.live().filter(pk=jobs[0].pk).exists():
            most.append(live.count())
            yield

    story = Story(
        begin=begun(tasks.maps, 6, max_concurrency=2, max_failures=2), meanwhile=count_live, slots=4
    )
    rounds = killing.kill_everywhere(story, least=20)

    assert max(most) == 2
    assert values_of(rounds[:1]) == [[[0, 10, 30, 40], [2, 5], []]]


def test_a_map_ends_with_enough_successes_wherever_the_worker_is_killed(killing: Killing) -> None:
    """Which of the items those are is a matter of luck; what else is left is not."""

    def differ_by_luck(story: Story, end: End, peaceful: End) -> list[str]:
        lucky = {name: end.facts[name] for name in end.facts if "map:" in name or "item" in name}
        as_if = {name: fact for name, fact in peaceful.facts.items() if name not in lucky}
        mine = {name: fact for name, fact in end.facts.items() if name not in lucky}
        names = ("job 0",)
        return [
            f"{name}: {mine.get(name)}, in peace {as_if.get(name)}"
            for name in {*mine, *as_if}
            - {*names}
            - {n for n in as_if if "map:" in n or "item" in n}
            if mine.get(name) != as_if.get(name)
        ]

    story = Story(begin=begun(tasks.maps, 5, max_concurrency=2, min_successes=2), slots=1)
    rounds = killing.kill_everywhere(story, least=10, differences=differ_by_luck)

    for values, failed, unfinished in values_of(rounds):
        assert len(values) >= 2
        assert len(values) + len(failed) + len(unfinished) == 5
    live = Q(parent_id__in=[one.jobs[0].pk for one in rounds])
    assert not Job.objects.live().filter(live).exists()


def test_a_map_fails_with_its_first_failure_wherever_the_worker_is_killed(
    killing: Killing,
) -> None:
    """How far the others have come before they are cancelled is a matter of luck."""

    def differ_behind(story: Story, end: End, peaceful: End) -> list[str]:
        mine, in_peace = (
            replace(one, facts={n: f for n, f in one.facts.items() if "event:never" not in n})
            for one in (end, peaceful)
        )
        return find_differences(mine, in_peace, again=story.under_way)

    story = Story(begin=begun(tasks.maps_in_vain), slots=4)
    rounds = killing.kill_everywhere(story, least=10, differences=differ_behind)

    expected = "item 0 of 3: django_durable.exceptions.StepFailedError"
    assert values_of(rounds[:1]) == [expected]
