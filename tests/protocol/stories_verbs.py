"""Operators and chores: they decide under the job's lock, and leave a running job to its holder."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection

from django_durable.engine import families, outcomes, retention, waits
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.states import JobState
from django_durable.models import Job
from tests.protocol.rules import Rule, both, cut, patched, replaced
from tests.protocol.runs import declare_two_steps, state_in_database
from tests.protocol.stage import PATIENCE, Stage, failure_of
from tests.protocol.world import (
    HOUR,
    cancel,
    claim,
    claimed_job,
    finish,
    new_job,
    new_worker,
    perform,
    retry,
    start_over,
    state_of,
    suspend,
)

# --- cancel


def cancel_decides_under_one_lock(stage: Stage) -> None:
    """The job is just finishing: it neither runs any more nor can it be cancelled."""
    job = claimed_job(new_worker())
    worker, operator = stage.actors("worker", "operator")
    worker.begin()
    assert worker.do(finish, job) is not None
    cancelling = operator.start(cancel, job)
    operator.is_stopped_in(cancelling)
    worker.commit()

    failure = failure_of(cancelling)
    assert failure is None, f"met {failure!r}, of a job it had not locked"
    (answer,) = cancelling.result()
    told = (answer.before, answer.changed)
    assert told == ("SUCCESSFUL", False), f"told {told} of a job it had not locked"
    assert state_of(job) == "SUCCESSFUL"


def a_job_that_is_being_claimed_can_be_cancelled(stage: Stage) -> None:
    """Constraints are judged on the new row as the snapshot gives it, before a newer one is seen.

    So one statement that locks, decides and changes is refused for a row that never was.
    """
    job = new_job()
    worker, operator = stage.actors("worker", "operator")
    worker.begin()
    worker.do(claim, new_worker())
    cancelling = operator.start(cancel, job)
    operator.is_stopped_in(cancelling)
    worker.commit()

    assert failure_of(cancelling) is None, "refused to cancel a job that was being claimed"
    assert Job.objects.filter(pk=job.pk, cancel_requested_at__isnull=False).exists()
    assert state_of(job) == "RUNNING"


def a_running_job_is_only_asked_to_stop(stage: Stage) -> None:
    seen: list[str] = []
    job_to_cancel: list[Job] = []
    declare_two_steps(
        between=lambda: cancel(*job_to_cancel), second=lambda: seen.append(state_in_database())
    )
    job = claimed_job(new_worker(), "protocol.two_steps")
    job_to_cancel.append(job)
    stage.actor("slot").do(perform, job, stage.writer())

    assert seen == ["RUNNING"], "user code started after CANCELLED"
    assert state_of(job) == "CANCELLED"


def a_job_asked_to_stop_does_not_go_to_sleep(stage: Stage) -> None:
    job = claimed_job(new_worker())
    worker, operator = stage.actors("worker", "operator")
    operator.begin()
    operator.do(cancel, job)
    suspending = worker.start(suspend, job)
    worker.is_stopped_in(suspending)
    operator.commit()
    suspending.result(PATIENCE)

    assert state_of(job) == "CANCELLED", f"cancel was accepted, and the job is {state_of(job)}"


def a_job_asked_to_stop_does_not_end_otherwise(stage: Stage) -> None:
    """Whatever it did meanwhile: also if it was just finishing."""
    job = claimed_job(new_worker())
    worker, operator = stage.actors("worker", "operator")
    operator.begin()
    operator.do(cancel, job)
    finishing = worker.start(finish, job, return_value="1")
    worker.is_stopped_in(finishing)
    operator.commit()
    finishing.result(PATIENCE)

    assert state_of(job) == "CANCELLED", f"cancel was accepted, and the job is {state_of(job)}"


def a_job_asked_to_stop_does_not_start_over(stage: Stage) -> None:
    job = claimed_job(new_worker())
    worker, operator = stage.actors("worker", "operator")
    operator.begin()
    operator.do(cancel, job)
    continuing = worker.start(start_over, job)
    worker.is_stopped_in(continuing)
    operator.commit()
    continuing.result(PATIENCE)

    assert state_of(job) == "CANCELLED", f"cancel was accepted, and the job is {state_of(job)}"


# --- promote, retry, prune


def a_due_job_that_was_cancelled_stays_so(stage: Stage) -> None:
    """It is listed as due while an operator's cancel is not committed yet."""
    job = claimed_job(new_worker())
    suspend(job, HOUR)
    Job.objects.filter(pk=job.pk).update(due_at=StatementTimestamp())
    chore, operator = stage.actors("chore", "operator")
    operator.begin()
    operator.do(cancel, job)
    promoting = chore.start(promote)
    chore.is_stopped_in(promoting)
    operator.commit()

    assert failure_of(promoting) is None, "a cancelled job was promoted, or nearly"
    assert state_of(job) == "CANCELLED", "a cancelled job was promoted, or nearly"


def promote() -> int:
    return waits.promote_due(connection, limit=100)


def a_retry_repeated_after_a_lost_answer_changes_nothing(stage: Stage) -> None:
    job = claimed_job(new_worker())
    finish(job, JobState.FAILED, error="{}")
    assert retry(job)[0].changed
    claim(new_worker())

    repeating = stage.actor("operator").start(retry, job)

    assert failure_of(repeating) is None, "a retry took the job from its holder, or nearly"
    assert not repeating.result()[0].changed, "a retry took the job from its holder, or nearly"


def a_job_retried_meanwhile_is_not_pruned(stage: Stage) -> None:
    """It finished long ago; an operator's retry is not committed yet."""
    job = ended_long_ago("FAILED")
    chore, operator = stage.actors("chore", "operator")
    operator.begin()
    operator.do(retry, job)
    pruning = chore.start(prune, "FAILED")
    chore.is_stopped_in(pruning)
    operator.commit()
    pruning.result(PATIENCE)

    assert Job.objects.filter(pk=job.pk).exists(), "a live job was pruned"


def ended_long_ago(state: str) -> Job:
    job = new_job()
    ended = StatementTimestamp() - timedelta(days=400)
    Job.objects.filter(pk=job.pk).update(state=state, finished_at=ended)
    return job


def prune(state: str) -> int:
    rule = retention.Rule(state, timedelta(days=90))
    return retention.prune_jobs(connection, rule, limit=100).pruned


def only_jobs_of_the_state_are_pruned(stage: Stage) -> None:
    """Live jobs have no end; each final state is kept for its own time."""
    kept = [ended_long_ago("SUCCESSFUL"), new_job(), claimed_job(new_worker())]
    gone = ended_long_ago("FAILED")

    prune("FAILED")

    left = set(Job.objects.values_list("pk", flat=True))
    assert {job.pk for job in kept} <= left, "a job was pruned that is kept"
    assert gone.pk not in left


# --- switched off

DECIDE_IN_ONE_STATEMENT = both(
    replaced(families, "LOCK_JOBS", "for no key update", ""),
    patched(
        outcomes,
        "CANCEL_JOBS",
        """
        with held as (
            select id, state from durable_job
            where id = any (%(ids)s::uuid[])
            order by id
            for no key update
        )
        update durable_job as job set
            state = case when held.state = 'RUNNING' then 'RUNNING' else 'CANCELLED' end,
            cancel_requested_at = statement_timestamp(),
            finished_at = case when held.state <> 'RUNNING' then statement_timestamp() end
        from held
        where job.id = held.id and held.state not in ('SUCCESSFUL', 'FAILED', 'CANCELLED')
        returning job.id, job.state, job.parent_id, job.awaited_as
        """,
    ),
)
CANCEL_AT_ONCE = both(
    replaced(outcomes, "CANCEL_JOBS", "when state = 'RUNNING' or is_ending", "when is_ending"),
    replaced(
        outcomes,
        "CANCEL_JOBS",
        "state = decided.state,",
        "state = decided.state, worker_id = null,",
    ),
)
SUSPEND_UNSEEING = replaced(
    waits, "SUSPEND_JOB", "cancel_requested_at is not null and ends_as is null", "false"
)

RULES = [
    Rule(
        name="cancel one lock",
        story=cancel_decides_under_one_lock,
        off={"unlocked": replaced(families, "LOCK_JOBS", "for no key update", "")},
        symptom="of a job it had not locked",
    ),
    Rule(
        name="lock first, look second",
        story=a_job_that_is_being_claimed_can_be_cancelled,
        off={"in one statement": DECIDE_IN_ONE_STATEMENT},
        symptom="refused to cancel",
    ),
    Rule(
        name="cancel flag",
        story=a_running_job_is_only_asked_to_stop,
        off={"at once": CANCEL_AT_ONCE},
        symptom="user code started after CANCELLED",
    ),
    Rule(
        name="suspend checks cancel",
        story=a_job_asked_to_stop_does_not_go_to_sleep,
        off={"unseeing": SUSPEND_UNSEEING},
        symptom="and the job is SCHEDULED",
    ),
    Rule(
        name="outcome checks cancel",
        story=a_job_asked_to_stop_does_not_end_otherwise,
        off={
            "unseeing": replaced(
                outcomes, "FINISH_JOBS", "job.cancel_requested_at is not null", "false"
            )
        },
        symptom="and the job is SUCCESSFUL",
    ),
    Rule(
        name="the next life checks cancel",
        story=a_job_asked_to_stop_does_not_start_over,
        off={
            "unseeing": replaced(
                outcomes, "CONTINUE_JOB", "cancel_requested_at is not null", "false"
            )
        },
        symptom="and the job is READY",
    ),
    Rule(
        name="promote guard",
        story=a_due_job_that_was_cancelled_stays_so,
        off={"unlocked": replaced(waits, "PROMOTE_DUE", "for no key update skip locked", "")},
        symptom="was promoted, or nearly",
    ),
    Rule(
        name="retry guard",
        story=a_retry_repeated_after_a_lost_answer_changes_nothing,
        off={"any state": cut(outcomes, "RETRY_JOBS", "\n        and (\n", "\n        )")},
        symptom="from its holder, or nearly",
    ),
    Rule(
        name="prune guard",
        story=a_job_retried_meanwhile_is_not_pruned,
        off={"unlocked": replaced(retention, "PRUNE_JOBS", "for update of job skip locked", "")},
        symptom="a live job was pruned",
    ),
    Rule(
        name="prune guard",
        story=only_jobs_of_the_state_are_pruned,
        off={
            "any state": both(
                replaced(retention, "PRUNE_JOBS", "where state = %(state)s::text", "where true"),
                replaced(retention, "PRUNE_JOBS", "job.state = %(state)s::text", "true"),
            )
        },
        symptom="was pruned that is kept",
    ),
]
