"""Undoing steps: what is decided stands, and no end comes before that."""

from __future__ import annotations

from django_durable.engine import outcomes
from django_durable.models import Job
from tests.protocol.rules import Rule, replaced
from tests.protocol.runs import declare_undoing
from tests.protocol.stage import PATIENCE, Stage, is_held_up
from tests.protocol.world import (
    cancel,
    claimed_job,
    decide,
    new_worker,
    perform,
    state_of,
)

PATH = "protocol.undoing"


def a_job_cancelled_while_it_ends_is_undone_first(stage: Stage) -> None:
    """It has returned, and its outcome waits for the lock of whoever cancels it."""
    worker, operator = stage.actors("worker", "operator")
    to_cancel: list[Job] = []

    def cancel_without_commit() -> None:
        operator.begin()
        operator.do(cancel, *to_cancel)

    undone = declare_undoing(cancel_without_commit, fails=False)
    job = claimed_job(new_worker(), PATH)
    to_cancel.append(job)
    performing = worker.start(perform, job, stage.writer())
    assert is_held_up(performing)
    operator.commit()
    performing.result(PATIENCE)

    assert state_of(job) == "CANCELLED"
    assert undone == ["a"], "cancelled, and nothing was undone"


def how_a_job_ends_is_not_changed_while_it_is_undone(stage: Stage) -> None:
    declare_undoing()
    job = claimed_job(new_worker(), PATH)
    stage.actor("worker").do(decide, job)
    stage.actor("operator").do(cancel, job)
    stage.actor("slot").do(perform, refreshed(job), stage.writer())

    assert state_of(job) == "FAILED", f"it was to be FAILED, and is {state_of(job)}"


def refreshed(job: Job) -> Job:
    job.refresh_from_db()
    return job


RULES = [
    Rule(
        name="undone before cancelled",
        story=a_job_cancelled_while_it_ends_is_undone_first,
        off={"at once": replaced(outcomes, "FINISH_JOBS", "wanted.undoes and", "false and")},
        symptom="cancelled, and nothing was undone",
    ),
    Rule(
        name="a decided end stands",
        story=how_a_job_ends_is_not_changed_while_it_is_undone,
        off={"unseen": replaced(outcomes, "FINISH_JOBS", "job.ends_as is null", "true")},
        symptom="it was to be FAILED, and is CANCELLED",
    ),
]
