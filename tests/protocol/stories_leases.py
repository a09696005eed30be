"""The fence: every write names its lease token and RUNNING, and holds the lease to its commit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import ModuleType
from typing import Any
from uuid import UUID

from django.db import connection

from django_durable.engine import checkpoints, claims, enqueueing, outcomes, progress, waits
from django_durable.models import Job
from tests.protocol.rules import Rule, Switch, both, patched, replaced
from tests.protocol.stage import PATIENCE, Stage
from tests.protocol.world import (
    cancel,
    claimed_job,
    decide,
    enqueue_child,
    enqueue_keyed_child,
    finish,
    holds,
    lose,
    new_worker,
    publish,
    save,
    start_over,
    state_of,
    suspend,
    sweep,
    taken_over,
    tell,
    undo,
)

# --- the lease is held to commit


def a_write_in_flight_never_lands_after_the_end(stage: Stage, write: Callable[[Job], Any]) -> None:
    """A worker is frozen before its COMMIT; its job is swept, and cancelled by an operator."""
    job = claimed_job(new_worker())
    frozen, operator = stage.actors("frozen", "operator")
    frozen.begin()
    assert accepted(frozen.do(write, job)), "the holder's own write is refused"
    assert job.worker_id is not None
    lose(job.worker_id)
    sweep()

    cancelling = operator.start(cancel, job)
    operator.is_stopped_in(cancelling)
    had_ended = state_of(job) == "CANCELLED"
    frozen.commit()
    cancelling.result(PATIENCE)

    assert not had_ended, "a write was committed after its job was CANCELLED"


def saves_in_flight_never_land_after_the_end(stage: Stage) -> None:
    a_write_in_flight_never_lands_after_the_end(stage, save)


def enqueues_in_flight_never_land_after_the_end(stage: Stage) -> None:
    a_write_in_flight_never_lands_after_the_end(stage, enqueue_child)


def keyed_enqueues_in_flight_never_land_after_the_end(stage: Stage) -> None:
    a_write_in_flight_never_lands_after_the_end(stage, enqueue_keyed_child)


def values_in_flight_never_land_after_the_end(stage: Stage) -> None:
    a_write_in_flight_never_lands_after_the_end(stage, publish)


def progress_in_flight_never_lands_after_the_end(stage: Stage) -> None:
    a_write_in_flight_never_lands_after_the_end(stage, tell)


def weaker(module: ModuleType, statement: str, lock: str = "for share") -> dict[str, Switch]:
    return {
        "unlocked": replaced(module, statement, lock, ""),
        "key share": replaced(module, statement, "for share", "for key share"),
    }


# --- the token and RUNNING are checked


def accepted(answer: Any) -> bool:
    """Whether a write said that it counted."""
    held = getattr(answer, "held", None)
    return bool(answer) if held is None else bool(held)


def a_former_holder_is_refused(stage: Stage, write: Callable[[Job], Any]) -> None:
    """A worker slept through its own loss; another one runs the job by now."""
    job = claimed_job(new_worker())
    successor = taken_over(job)

    assert not accepted(write(job)), "a write of the former holder was accepted"
    assert state_of(job) == "RUNNING", "the former holder moved the job"
    assert accepted(write(successor)), "a write of the holder was refused"


def a_holder_whose_job_is_ready_again_is_refused(stage: Stage, write: Callable[[Job], Any]) -> None:
    """The token is not cleared when a job leaves RUNNING, so every guard says RUNNING too."""
    job = claimed_job(new_worker())
    assert job.worker_id is not None
    lose(job.worker_id)
    sweep()

    assert not accepted(write(job)), "a write to a job that does not run was accepted"
    assert state_of(job) == "READY", "a job that does not run was moved"


TOKEN = " and lease_token = %(lease_token)s::bigint"
RUNNING = " and state = 'RUNNING'"
PAIRS = "(job.id, job.lease_token) in (select job_id, lease_token from wanted)"

WRITES: dict[str, tuple[Callable[[Job], Any], Switch, Switch]] = {
    "a checkpoint": (
        save,
        both(
            replaced(
                checkpoints,
                "SAVE_CHECKPOINTS",
                PAIRS,
                "job.id in (select job_id from wanted)",
            ),
            replaced(
                checkpoints, "SAVE_CHECKPOINTS", " and lease.lease_token = wanted.lease_token", ""
            ),
        ),
        replaced(checkpoints, "SAVE_CHECKPOINTS", "job.state = 'RUNNING'\n        and", "true and"),
    ),
    "a lone checkpoint": (
        save,
        replaced(checkpoints, "SAVE_CHECKPOINT", TOKEN, ""),
        replaced(checkpoints, "SAVE_CHECKPOINT", RUNNING, ""),
    ),
    "an outcome": (
        finish,
        replaced(outcomes, "FINISH_JOBS", " and wanted.lease_token = job.lease_token", ""),
        replaced(outcomes, "FINISH_JOBS", "where job.state = 'RUNNING'", "where true"),
    ),
    "a compensation": (
        undo,
        replaced(checkpoints, "SAVE_COMPENSATION", TOKEN, ""),
        replaced(checkpoints, "SAVE_COMPENSATION", RUNNING, ""),
    ),
    "a decided end": (
        decide,
        replaced(outcomes, "BEGIN_COMPENSATING", TOKEN, ""),
        replaced(outcomes, "BEGIN_COMPENSATING", RUNNING, ""),
    ),
    "a retry": (
        suspend,
        replaced(waits, "SUSPEND_JOB", TOKEN, ""),
        replaced(waits, "SUSPEND_JOB", RUNNING, ""),
    ),
    "a next life": (
        start_over,
        replaced(outcomes, "CONTINUE_JOB", TOKEN, ""),
        replaced(outcomes, "CONTINUE_JOB", RUNNING, ""),
    ),
    "a child": (
        enqueue_child,
        replaced(enqueueing, "INSERT_JOBS", TOKEN, ""),
        replaced(enqueueing, "INSERT_JOBS", RUNNING, ""),
    ),
    "a child with a key": (
        enqueue_keyed_child,
        replaced(enqueueing, "INSERT_JOB_WITH_KEY", TOKEN, ""),
        replaced(enqueueing, "INSERT_JOB_WITH_KEY", RUNNING, ""),
    ),
    "a progress": (
        tell,
        replaced(progress, "SAVE_PROGRESS", TOKEN, ""),
        replaced(progress, "SAVE_PROGRESS", RUNNING, ""),
    ),
    "a value": (
        publish,
        replaced(progress, "SAVE_VALUE", TOKEN, ""),
        replaced(progress, "SAVE_VALUE", RUNNING, ""),
    ),
    "a question": (
        holds,
        replaced(claims, "CHECK_LEASE", TOKEN, ""),
        replaced(claims, "CHECK_LEASE", RUNNING, ""),
    ),
}


def told(story: Callable[..., None], write: Callable[[Job], Any]) -> Callable[[Stage], None]:
    def told_story(stage: Stage) -> None:
        story(stage, write)

    told_story.__name__ = story.__name__
    return told_story


GUARDS = [
    rule
    for name, (write, without_token, without_running) in WRITES.items()
    for rule in (
        Rule(
            name=f"the token guards {name}",
            story=told(a_former_holder_is_refused, write),
            off={"without": without_token},
            symptom="of the former holder was accepted",
        ),
        Rule(
            name=f"RUNNING guards {name}",
            story=told(a_holder_whose_job_is_ready_again_is_refused, write),
            off={"without": without_running},
            symptom="to a job that does not run was accepted",
        ),
    )
]


# --- each claim has a token of its own


def each_claim_has_a_token_of_its_own(stage: Stage) -> None:
    job = claimed_job(new_worker())
    taken_over(job)

    assert not save(job).held, "the former holder's token is good again"


def mark_by_the_old_token(
    claimant: claims.Claimant, jobs: list[Job], aheads: frozenset[UUID], **times: Any
) -> datetime:
    claimed_at = _mark_running(claimant, jobs, aheads, **times)
    for job in jobs:
        job.lease_token = 1
    with connection.cursor() as cursor:
        cursor.execute("update durable_job set lease_token = 1 where state = 'RUNNING'")
    return claimed_at


_mark_running = claims._mark_running

RULES = [
    Rule(
        name="fence of checkpoints",
        story=saves_in_flight_never_land_after_the_end,
        off={
            name: both(alone, switch)
            for (name, switch), alone in zip(
                weaker(checkpoints, "SAVE_CHECKPOINTS", "for share of job").items(),
                weaker(checkpoints, "SAVE_CHECKPOINT").values(),
                strict=True,
            )
        },
        symptom="after its job was CANCELLED",
    ),
    Rule(
        name="fence of enqueues",
        story=enqueues_in_flight_never_land_after_the_end,
        off=weaker(enqueueing, "INSERT_JOBS"),
        symptom="after its job was CANCELLED",
    ),
    Rule(
        name="fence of keyed enqueues",
        story=keyed_enqueues_in_flight_never_land_after_the_end,
        off=weaker(enqueueing, "INSERT_JOB_WITH_KEY"),
        symptom="after its job was CANCELLED",
    ),
    Rule(
        name="fence of values",
        story=values_in_flight_never_land_after_the_end,
        off=weaker(progress, "SAVE_VALUE"),
        symptom="after its job was CANCELLED",
    ),
    Rule(
        name="fence of progress",
        story=progress_in_flight_never_lands_after_the_end,
        off=weaker(progress, "SAVE_PROGRESS", "for share skip locked"),
        symptom="after its job was CANCELLED",
    ),
    *GUARDS,
    Rule(
        name="new token",
        story=each_claim_has_a_token_of_its_own,
        off={"the old one again": patched(claims, "_mark_running", mark_by_the_old_token)},
        symptom="token is good again",
    ),
]
