"""Limits: counted by one claim at a time, after it holds them; nobody waits for who holds one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection

from django_durable import Limit
from django_durable.engine import claims, limits
from django_durable.models import Job, Queue
from tests.protocol.rules import Rule, patched, replaced
from tests.protocol.stage import PATIENCE, Stage
from tests.protocol.world import QUEUE, claim, claimant, new_job, new_worker

TOO_MANY = "run at once under a limit of one"


def limit_of_one() -> None:
    limits.declare_limits(connection, [Limit("crm", concurrency=1)])
    for queue_name in (QUEUE, QUEUE, "other"):
        new_job(limit_name="crm", limit_key="", queue_name=queue_name)


def queue_of_one() -> None:
    Queue.objects.bulk_create([Queue(name=QUEUE, concurrency=1)])
    for _ in range(3):
        new_job()


def assert_one_runs() -> None:
    running = Job.objects.filter(state="RUNNING").count()
    assert running == 1, f"{running} {TOO_MANY}"


def two_claims_at_once_keep_to_a_limit(
    stage: Stage, prepare: Callable[[], None] = limit_of_one
) -> None:
    """The first has not committed when the second counts."""
    prepare()
    first, second = stage.actors("first", "second")
    first.begin()
    assert len(first.do(claim, new_worker(), 5)) == 1

    second.do(claim_from_all, new_worker())
    first.commit()

    assert_one_runs()
    second.do(claim_from_all, new_worker())
    assert_one_runs()


def claim_from_all(worker_id: int) -> None:
    claims.claim_jobs(claimant(worker_id), ["other", QUEUE], limit=5)


def two_claims_at_once_keep_to_a_queues_limit(stage: Stage) -> None:
    two_claims_at_once_keep_to_a_limit(stage, queue_of_one)


def a_claim_counts_after_it_holds_the_limit(stage: Stage) -> None:
    """Between its first look and its lock another one claims and commits."""
    limit_of_one()
    quick, slow = stage.actors("quick", "slow")
    hold = limits.hold_limits
    worker_id = new_worker()

    def hold_late(*names: Any) -> limits.Held:
        limits.hold_limits = hold
        quick.do(claim, worker_id, 5)
        return hold(*names)

    limits.hold_limits = hold_late
    try:
        slow.do(claim, new_worker(), 5)
    finally:
        limits.hold_limits = hold

    assert_one_runs()


def nobody_waits_for_who_holds_a_limit(stage: Stage) -> None:
    """A worker that is frozen in its claim holds up jobs under that limit only."""
    limit_of_one()
    free = new_job(priority=-5)
    frozen, other = stage.actors("frozen", "other")
    frozen.begin()
    frozen.do(claim, new_worker(), 1)

    claiming = other.start(claim, new_worker(), 5)
    waits = other.is_stopped_in(claiming)
    frozen.rollback()

    claimed = [job.pk for job in claiming.result(PATIENCE)]
    assert not waits, "a claim waits for another one that holds a limit"
    assert claimed == [free.pk]


def see_once(self: Any, pairs: Any, queues: Any) -> None:
    if not self._keys:
        _see(self, pairs, queues)


_see = claims._Chooser._see

UNHELD = replaced(limits, "HOLD_LIMITS", "for no key update skip locked", "")
RULES = [
    Rule(
        name="limits held",
        story=two_claims_at_once_keep_to_a_limit,
        off={"counted without": UNHELD},
        symptom=TOO_MANY,
    ),
    Rule(
        name="limits held",
        story=two_claims_at_once_keep_to_a_queues_limit,
        off={"counted without": UNHELD},
        symptom=TOO_MANY,
    ),
    Rule(
        name="limits counted after they are held",
        story=a_claim_counts_after_it_holds_the_limit,
        off={"counted before": patched(claims._Chooser, "_see", see_once)},
        symptom=TOO_MANY,
    ),
    Rule(
        name="limits passed over",
        story=nobody_waits_for_who_holds_a_limit,
        off={
            "waits": replaced(limits, "HOLD_LIMITS", "for no key update skip locked", "for update")
        },
        symptom="a claim waits for another",
    ),
]
