"""Parents and children: lost answers, and verbs that meet again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from django.db import connection, transaction

from django_durable.engine.families import Locked, lock_jobs
from django_durable.engine.states import JobState
from django_durable.models import Job
from tests.families import (
    CHILD,
    MAP,
    children_of,
    claim_only,
    end,
    mapped_children,
    parent_job,
    waiting,
)
from tests.protocol.lossy import Fate
from tests.protocol.stage import PATIENCE, Stage, failure_of, is_held_up
from tests.protocol.stories_families import child_and_parent
from tests.protocol.world import cancel, claim, finish_all, new_worker, perform, retry, state_of

ROUNDS = 60


@pytest.mark.parametrize("fate", Fate)
def test_an_end_whose_answer_is_lost_wakes_the_parent(stage: Stage, fate: Fate) -> None:
    child, parent = child_and_parent(stage)
    finishing, flight = stage.lossy_writer("COMMIT", fate)
    running = stage.actor("slot").start(perform, child, finishing)
    if fate is Fate.IN_FLIGHT:
        assert is_held_up(running)
        flight.land()
    running.result(PATIENCE)

    assert [state_of(child), state_of(parent)] == ["SUCCESSFUL", "READY"]


def test_the_repeat_of_an_end_leaves_the_parent_alone(stage: Stage) -> None:
    """It was woken by the first commit, and is claimed before the repeat."""
    child, parent = child_and_parent(stage)
    worker_id = new_worker()
    finishing, _ = stage.lossy_writer(
        "COMMIT", Fate.ANSWER_LOST, meanwhile=lambda: claim(worker_id)
    )
    stage.actor("slot").do(perform, child, finishing)

    assert [state_of(child), state_of(parent)] == ["SUCCESSFUL", "RUNNING"]


def cancel_all(jobs: Sequence[Job]) -> Any:
    return cancel(*jobs)


def retry_all(jobs: Sequence[Job]) -> Any:
    return retry(*jobs)


def families(count: int) -> list[Job]:
    """Parents that wait, with children that run, wait for their turn and have failed."""
    members: list[Job] = []
    for _ in range(count):
        parent = parent_job()
        mapped = mapped_children(parent, 4, max_concurrency=2, max_failures=9)
        single = children_of(parent, CHILD)
        waiting(parent, MAP, CHILD)
        running = claim_only(mapped[0], mapped[1])
        members += [parent, *running, *mapped[2:], end(single[0], JobState.FAILED)]
    return members


def again_and_again(
    verbs: Sequence[Callable[[list[Job]], Any]], jobs: list[Job], chance: Random
) -> int:
    """Write and roll back, so that every round finds the families as the first one did."""
    for _ in range(ROUNDS):
        some = chance.sample(jobs, chance.randint(1, len(jobs)))
        chance.choice(verbs)(some)
        transaction.rollback()
    return ROUNDS


def test_verbs_on_families_never_deadlock(stage: Stage) -> None:
    jobs = families(3)
    verbs = [finish_all, cancel_all, retry_all]
    actors = stage.actors("one", "two", "three")
    for actor in actors:
        actor.begin()
    rounds = [
        actor.start(again_and_again, verbs, jobs, Random(seed)) for seed, actor in enumerate(actors)
    ]

    assert [failure_of(one) for one in rounds] == [None, None, None]


def test_a_chore_that_passes_a_family_by_holds_none_of_it(stage: Stage) -> None:
    """Somebody holds the parent, and is about to let the next child go."""
    first, overdue, *_ = mapped_children(parent_job(), 3, max_concurrency=1)
    ending, keeping_house = stage.actors("ending", "keeping house")
    ending.begin()
    keeping_house.begin()
    ending.do(lock_families, first, waits=True)

    assert keeping_house.do(lock_families, overdue, waits=False) == []
    ended = ending.start(cancel, first)

    assert not ending.is_stopped_in(ended), "it waits for a chore that has nothing to do there"
    ending.commit()
    assert state_of(overdue) == "READY"


def lock_families(job: Job, *, waits: bool) -> list[Locked]:
    return lock_jobs(connection, [job.pk], waits=waits)
