"""Batches in opposite orders, again and again: nobody meets in a deadlock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import transaction

from django_durable.models import Job
from tests.protocol.stage import Stage, failure_of
from tests.protocol.stories_order import cancel_all, retry_all
from tests.protocol.world import claimed_jobs, finish_all, new_worker, save_all

ROUNDS = 100
Batch = Callable[[list[Job]], Any]


def again_and_again(write_all: Batch, jobs: Sequence[Job]) -> int:
    """Write and roll back, so that every round finds the jobs as the first one did."""
    for _ in range(ROUNDS):
        write_all(list(jobs))
        transaction.rollback()
    return ROUNDS


@pytest.mark.parametrize("write_all", [finish_all, save_all, cancel_all, retry_all])
def test_two_batches_in_opposite_orders_never_deadlock(stage: Stage, write_all: Batch) -> None:
    jobs = claimed_jobs(new_worker(), 20)
    orders = [jobs, jobs[::-1], jobs[1::2] + jobs[::2]]
    actors = stage.actors("forwards", "backwards", "to and fro")
    for actor in actors:
        actor.begin()
    rounds = [
        actor.start(again_and_again, write_all if n else finish_all, order)
        for n, (actor, order) in enumerate(zip(actors, orders, strict=True))
    ]

    assert [failure_of(one) for one in rounds] == [None, None, None]
