"""Branches that run side by side, in workers that die at every durable point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from django_durable import Task, send_event
from django_durable.models import Checkpoint, Job
from tests.scenarios.killing import Killing, Story
from tests.scenarios.test_children import begun, values_of
from tests.testapp import killed_families as tasks


def go(jobs: list[Job]) -> Iterator[None]:
    send_event(jobs[0], "go", "ahead")
    yield


def test_branches_that_end_in_another_order_on_replay_bind_to_the_same_results(
    killing: Killing,
) -> None:
    rounds = killing.kill_everywhere(Story(begin=begun(tasks.gathers), under_way=3), least=10)

    assert values_of(rounds[:1]) == [[[f"branch {i}", f"branch {i} again"] for i in range(3)]]
    orders = {
        tuple(
            Checkpoint.objects.filter(job_id=one.jobs[0].pk, identity__endswith="pay_in_turn")
            .order_by("saved_at")
            .values_list("identity", flat=True)
        )
        for one in rounds
    }
    assert len(orders) > 1


def test_branches_of_all_kinds_end_alike_wherever_the_worker_is_killed(killing: Killing) -> None:
    story = Story(begin=begun(tasks.gathers_all_kinds), meanwhile=go, under_way=4)

    rounds = killing.kill_everywhere(story, least=20)

    assert values_of(rounds[:1]) == [
        [
            "child booked",
            "stutter",
            "StepFailedError",
            ["book", "got ahead"],
            ["inner", "inner child booked"],
        ]
    ]


def test_the_first_error_is_raised_when_all_branches_have_ended(killing: Killing) -> None:
    story = Story(begin=begun(tasks.gathers_in_vain), meanwhile=go, under_way=2)

    rounds = killing.kill_everywhere(story, least=6)

    assert values_of(rounds[:1]) == ["despite ValueError"]


def test_coroutines_side_by_side_end_alike_wherever_the_worker_is_killed(killing: Killing) -> None:
    story = Story(begin=begun(tasks.gathers_coroutines), under_way=2)

    rounds = killing.kill_everywhere(story, least=6)

    assert values_of(rounds[:1]) == [
        [["branch 0", "branch 0 booked"], ["branch 1", "branch 1 booked"]]
    ]


@pytest.mark.parametrize(
    ("called", "comes", "least", "expected"),
    [
        (tasks.takes_the_first, go, 5, [0, "got ahead"]),
        (tasks.is_impatient, None, 8, [1, "slept None", "at last"]),
    ],
    ids=["an event", "a timer"],
)
def test_the_first_branch_wins_for_good_wherever_the_worker_is_killed(
    killing: Killing, called: Task[[str], object], comes: Any, least: int, expected: list[object]
) -> None:
    story = Story(begin=begun(called), meanwhile=comes)

    assert values_of(killing.kill_everywhere(story, least=least)[:1]) == [expected]
