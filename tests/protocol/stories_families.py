"""Parents and children: both rows are locked before an end is written, and looked at after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from django_durable.engine import claims, families, outcomes, waits, writer
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
    wait_for,
    waiting,
)
from tests.protocol.lossy import Fate
from tests.protocol.rules import Rule, Switch, both, cut, patched, replaced
from tests.protocol.runs import declare_plain
from tests.protocol.stage import PATIENCE, Stage, failure_of
from tests.protocol.stories_commits import assert_state, forget_what_is_unanswered
from tests.protocol.stories_losses import new_maintenance
from tests.protocol.world import (
    cancel,
    claim,
    finish,
    new_job,
    new_worker,
    perform,
    retry,
    save,
    state_of,
)

# --- ends meet


def ends_that_meet_wake_the_parent(
    stage: Stage, first: Callable[[Job], Any], second: Callable[[Job], Any]
) -> None:
    """Two last children end at once, in transactions that do not see each other."""
    parent = parent_job()
    one, two = mapped_children(parent, 2, max_failures=9)
    waiting(parent, MAP)
    (one,) = claim_only(one)
    (two,) = claim_only(two) if second is finish else (two,)
    here, there = stage.actors("here", "there")
    here.begin()
    here.do(first, one)
    ending = there.start(second, two)
    there.is_stopped_in(ending)
    here.commit()
    ending.result(PATIENCE)

    assert state_of(parent) == "READY", f"both have ended, and the parent is {state_of(parent)}"


def two_last_children_at_once_wake_the_parent(stage: Stage) -> None:
    ends_that_meet_wake_the_parent(stage, finish, finish)


def a_cancel_and_an_end_at_once_wake_the_parent(stage: Stage) -> None:
    ends_that_meet_wake_the_parent(stage, finish, cancel)


def a_child_that_ends_while_its_parent_goes_to_sleep_wakes_it(stage: Stage) -> None:
    """The suspension has looked, found the child alive, and is not committed yet."""
    parent = parent_job()
    (child,) = children_of(parent, CHILD)
    (child,) = claim_only(child)
    sleeper, other = stage.actors("parent", "child")
    sleeper.begin()
    assert sleeper.do(go_to_sleep, parent) is False
    ending = other.start(finish, child)
    other.is_stopped_in(ending)
    sleeper.commit()
    ending.result(PATIENCE)

    assert state_of(parent) == "READY", f"the child has ended, and the parent is {state_of(parent)}"


def go_to_sleep(parent: Job) -> bool:
    """Suspend for a child, then look once more; whether it had ended."""
    wait = wait_for(parent, CHILD)
    with transaction.atomic():
        assert waits.suspend_job(connection, [wait]) is not None
        return waits.has_come(connection, [wait])


def a_child_that_is_just_ending_is_seen_by_a_parent_going_to_sleep(stage: Stage) -> None:
    parent = parent_job()
    (child,) = children_of(parent, CHILD)
    (child,) = claim_only(child)
    sleeper, other = stage.actors("parent", "child")
    other.begin()
    other.do(finish, child)
    sleeping = sleeper.start(go_to_sleep, parent)
    sleeper.is_stopped_in(sleeping)
    other.commit()

    assert sleeping.result(PATIENCE), "the parent sleeps although its child has ended"


def two_ends_at_once_let_two_siblings_go(stage: Stage) -> None:
    parent = parent_job()
    one, two, three, four = mapped_children(parent, 4, max_concurrency=2)
    one, two = claim_only(one, two)
    here, there = stage.actors("here", "there")
    here.begin()
    here.do(finish, one)
    ending = there.start(finish, two)
    there.is_stopped_in(ending)
    here.commit()
    ending.result(PATIENCE)

    freed = [state_of(job) for job in (three, four)]
    assert freed == ["READY", "READY"], f"two places are free, and the next are {freed}"


# --- a retry and the join


def a_child_that_is_being_retried_is_not_joined(stage: Stage) -> None:
    """The parent looks at its failed child while an operator's retry is not committed yet."""
    parent = parent_job()
    (child,) = children_of(parent, CHILD)
    end(child, JobState.FAILED)
    operator, holder = stage.actors("operator", "parent")
    operator.begin()
    operator.do(retry, child)
    joining = holder.start(join, parent, child)
    holder.is_stopped_in(joining)
    operator.commit()

    joined = joining.result(PATIENCE)
    assert not joined, "the parent has recorded the failure of a child that is alive"


def join(parent: Job, child: Job) -> bool:
    """Record how a child ended, as ``result()`` does; whether it had."""
    with transaction.atomic():
        assert claims.hold_lease(connection, parent.pk, parent.lease_token)
        if state_of(child) != "FAILED":
            return False
        return save(parent, CHILD, kind="child", state="FAILED", value=None, error="{}").saved


# --- children that end with their parent


def a_child_started_late_is_cancelled_too(stage: Stage) -> None:
    parent = parent_job()
    cancel(parent)
    new_maintenance().cancel_children()
    (late,) = children_of(parent, CHILD)
    finish(parent)
    new_maintenance().cancel_children()

    assert state_of(late) == "CANCELLED", f"a late child escaped: it is {state_of(late)}"


def children_of_a_parent_retried_meanwhile_are_kept(stage: Stage) -> None:
    """The chore has found the child; then an operator retries the parent."""
    parent = parent_job()
    (child,) = children_of(parent, CHILD)
    cancel(parent)
    finish(parent)
    (found,) = families.find_children_to_cancel(connection, limit=9) or []
    retry(parent)
    outcomes.follow_parent("default", found)

    assert state_of(child) == "READY", f"its parent is to run again, and it is {state_of(child)}"


# --- deadlines


def a_job_claimed_just_now_is_left_to_its_holder(stage: Stage) -> None:
    """It was found overdue, and claimed before it was locked."""
    job = new_job()
    Job.objects.filter(pk=job.pk).update(deadline_at=job.enqueued_at)
    worker, worker_id, lock_jobs = stage.actor("worker"), new_worker(), outcomes.lock_jobs

    def lock_late(*args: Any, **options: Any) -> Any:
        worker.do(claim, worker_id)
        return lock_jobs(*args, **options)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(outcomes, "lock_jobs", lock_late)
        failing = stage.actor("chore").start(outcomes.fail_overdue, "default", limit=9)
        failure = failure_of(failing)

    assert failure is None, f"met {failure!r} at a job that runs"
    assert failing.result() == []
    assert state_of(job) == "RUNNING"


# --- a COMMIT whose answer is lost


def child_and_parent(stage: Stage) -> tuple[Job, Job]:
    declare_plain(lambda: "value")
    parent = parent_job()
    (child,) = children_of(parent, CHILD)
    waiting(parent, CHILD)
    Job.objects.filter(pk=child.pk).update(task_path="protocol.plain")
    (child,) = claim_only(Job.objects.get(pk=child.pk))
    return child, parent


def an_end_whose_commit_never_arrived_is_written_again(stage: Stage) -> None:
    child, parent = child_and_parent(stage)
    finishing, _ = stage.lossy_writer("COMMIT", Fate.NEVER_ARRIVED)
    stage.actor("slot").do(perform, child, finishing)

    assert_state(child, "SUCCESSFUL")
    assert_state(parent, "READY")


# --- switched off

PARENTS = (" || array(", "awaited_as is not null\n    )")
WITHOUT_PARENTS: Switch = both(
    cut(families, "LOCK_JOBS", *PARENTS),
    replaced(families, "LOCK_FREE_JOBS", "    for no key update skip locked\n)", ")"),
)
ALWAYS_CLEARED = both(
    replaced(families, "CLEAR_CANCELS_CHILDREN", " and finished_at is not null", ""),
    replaced(families, "CLEAR_CANCELS_CHILDREN", " and job.finished_at is not null", ""),
)

RULES = [
    *(
        Rule(
            name="an end locks the parent",
            story=story,
            off={"without parents": WITHOUT_PARENTS},
            symptom="the parent is WAITING",
        )
        for story in (
            two_last_children_at_once_wake_the_parent,
            a_cancel_and_an_end_at_once_wake_the_parent,
            a_child_that_ends_while_its_parent_goes_to_sleep_wakes_it,
        )
    ),
    Rule(
        name="a suspension looks after it has locked",
        story=a_child_that_is_just_ending_is_seen_by_a_parent_going_to_sleep,
        off={"without parents": WITHOUT_PARENTS},
        symptom="sleeps although its child has ended",
    ),
    Rule(
        name="an end locks the parent",
        story=two_ends_at_once_let_two_siblings_go,
        off={"without parents": WITHOUT_PARENTS},
        symptom="the next are .'READY', 'WAITING'",
    ),
    Rule(
        name="retry locks the parent",
        story=a_child_that_is_being_retried_is_not_joined,
        off={"without parents": WITHOUT_PARENTS},
        symptom="the failure of a child that is alive",
    ),
    Rule(
        name="the mark is kept while the parent lives",
        story=a_child_started_late_is_cancelled_too,
        off={"cleared at once": ALWAYS_CLEARED},
        symptom="a late child escaped",
    ),
    Rule(
        name="the mark is looked at under the lock",
        story=children_of_a_parent_retried_meanwhile_are_kept,
        off={
            "found is found": replaced(outcomes, "CANCEL_JOBS", "not %(follows)s::boolean", "true")
        },
        symptom="its parent is to run again",
    ),
    Rule(
        name="deadline guard",
        story=a_job_claimed_just_now_is_left_to_its_holder,
        off={
            "any state": replaced(
                outcomes, "FAIL_OVERDUE", "job.state in ('READY', 'SCHEDULED', 'WAITING')", "true"
            )
        },
        symptom="at a job that runs",
    ),
    Rule(
        name="repeat unknown",
        story=an_end_whose_commit_never_arrived_is_written_again,
        off={"forgotten": patched(writer.GroupWriter, "_repeat", forget_what_is_unanswered)},
        symptom="the job is RUNNING",
    ),
]
