"""Locks: in the order of ids, in one statement; chores skip what others hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection
from django.db.models import Model

from django_durable.engine import (
    checkpoints,
    claims,
    enqueueing,
    families,
    liveness,
    locking,
    outcomes,
    retention,
    sessions,
    waits,
)
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.states import JobState
from django_durable.models import Event, IdempotencyKey, Job, JobQuerySet, Worker
from tests import families as made
from tests.protocol.rules import Rule, Switch, both, patched, replaced
from tests.protocol.stage import Stage, failure_of
from tests.protocol.stories_claims import lock_row, reconcile
from tests.protocol.stories_verbs import ended_long_ago, promote, prune
from tests.protocol.world import (
    AT_ONCE,
    HOUR,
    cancel,
    claim,
    claimed_jobs,
    finish_all,
    lose,
    new_job,
    new_worker,
    retry,
    save_all,
    suspend,
    sweep,
)

# --- job rows are locked by id


def jobs_are_locked_in_the_order_of_their_ids(
    stage: Stage, lock_all: Callable[[list[Job]], Any]
) -> None:
    """A batch has come half-way and waits; another one wants its first and last job; it goes on.

    Locked by id, the second waits for the first. In any other order each holds what the other
    wants.
    """
    jobs = claimed_jobs(new_worker(), 3)
    holder, batch, other = stage.actors("holder", "batch", "another batch")
    holder.begin()
    holder.do(lock_row, jobs[1], "for no key update")
    first = batch.start(lock_all, jobs[::-1])
    assert batch.is_stopped_in(first), "the batch did not wait for the row in its middle"
    by_id = cancel_all if lock_all in (succeed_all, fail_all) else finish_all
    second = other.start(by_id, [jobs[0], jobs[2]])
    assert other.is_stopped_in(second), "the other batch did not wait for the first"
    holder.rollback()

    failures = [type(error).__name__ for one in (first, second) if (error := failure_of(one))]
    assert failures == [], f"two batches met in a deadlock: {failures}"


def retry_all(jobs: list[Job]) -> Any:
    return retry(*jobs)


def cancel_all(jobs: list[Job]) -> Any:
    return cancel(*jobs)


def release_all(jobs: list[Job]) -> None:
    assert jobs[0].worker_id is not None
    reconcile(jobs[0].worker_id)


def fail_all(jobs: list[Job]) -> Any:
    return finish_all(jobs, JobState.FAILED)


def succeed_all(jobs: list[Job]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sessions.BY_KEY_IN_ORDER)
    return finish_all(jobs)


_plain_ones_by_id = outcomes._plain_ones_by_id


def greatest_id_first(batch: Sequence[outcomes.Outcome]) -> list[int]:
    return _plain_ones_by_id(batch)[::-1]


BATCHES: dict[str, tuple[Callable[[list[Job]], Any], Switch]] = {
    "successes": (
        succeed_all,
        patched(outcomes, "_plain_ones_by_id", greatest_id_first),
    ),
    "outcomes": (
        fail_all,
        replaced(outcomes, "FINISH_JOBS", "order by job.id", "order by job.id desc"),
    ),
    "checkpoints": (
        save_all,
        replaced(checkpoints, "SAVE_CHECKPOINTS", "order by job.id", "order by job.id desc"),
    ),
    "cancels": (
        cancel_all,
        replaced(families, "LOCK_JOBS", "order by id", "order by id desc"),
    ),
    "retries": (
        retry_all,
        replaced(families, "LOCK_JOBS", "order by id", "order by id desc"),
    ),
    "releases": (
        release_all,
        replaced(claims, "RELEASE_UNKNOWN_JOBS", "order by id", "order by id desc"),
    ),
}


# --- chores skip what others hold


def locked_rows_are_skipped(
    stage: Stage, arrange: Callable[[], Sequence[Model]], chore: Callable[[], Any]
) -> None:
    """One row is held by somebody's open transaction; the chore does the others, at once."""
    held, *_ = arrange()
    holder, keeping_house = stage.actors("holder", "keeping house")
    holder.begin()
    holder.do(lock_row, held, "for no key update")
    done = keeping_house.start(chore)

    assert not keeping_house.is_stopped_in(done), "a chore waits for a locked row"
    count = done.result() if isinstance(done.result(), int) else len(done.result())
    assert count == 1, f"{count} jobs were done instead of the one that nobody holds"


def due_jobs() -> list[Job]:
    jobs = claimed_jobs(new_worker(), 2)
    for job in jobs:
        suspend(job, HOUR)
    Job.objects.update(due_at=StatementTimestamp())
    return jobs


def stranded_jobs() -> list[Job]:
    worker_id = new_worker()
    jobs = claimed_jobs(worker_id, 2)
    lose(worker_id)
    return jobs


def ended_jobs() -> list[Job]:
    return [ended_long_ago("FAILED") for _ in range(2)]


def ready_jobs() -> list[Job]:
    return [new_job() for _ in range(2)]


def blocked_jobs() -> list[Job]:
    jobs = claimed_jobs(new_worker(), 2)
    for job in jobs:
        outcomes.finish_jobs(
            connection,
            [
                outcomes.Outcome(
                    job_id=job.pk,
                    lease_token=job.lease_token,
                    state=JobState.WAITING,
                    reason="the code differs",
                )
            ],
        )
    return jobs


def expired_keys() -> Sequence[Model]:
    for key in ("one", "two"):
        taken = enqueueing.NewKey(scope="once/", key=key, fingerprint="x", retention=AT_ONCE)
        enqueueing.insert_key(connection, taken)
    return list(IdempotencyKey.objects.all())


def ended_workers() -> Sequence[Model]:
    ids = [new_worker(), new_worker()]
    Worker.objects.update(stopped_at=StatementTimestamp() - HOUR)
    return list(Worker.objects.filter(pk__in=ids))


def claim_two() -> list[Job]:
    return claim(new_worker(), 2)


def prune_failed() -> int:
    return prune("FAILED")


def prune_keys() -> int:
    return retention.prune_keys(connection, limit=100)


def prune_workers() -> int:
    return retention.prune_workers(connection, AT_ONCE)


def old_events() -> Sequence[Model]:
    long_ago = StatementTimestamp() - HOUR
    Event.objects.bulk_create([Event(key=key, created_at=long_ago) for key in ("one", "two")])
    return list(Event.objects.all())


def prune_events() -> int:
    return retention.prune_events(connection, AT_ONCE, limit=100)


def overdue_jobs() -> list[Job]:
    jobs = ready_jobs()
    Job.objects.update(deadline_at=StatementTimestamp() - HOUR)
    return jobs


def overdue_children() -> list[Job]:
    """Jobs whose parents wait for them; one of the parents is held."""
    parents = [made.parent_job(), made.parent_job()]
    for parent in parents:
        made.children_of(parent, made.CHILD)
    Job.objects.filter(parent_id__isnull=False).update(deadline_at=StatementTimestamp() - HOUR)
    return parents


def fail_overdue() -> list[outcomes.Overdue]:
    return outcomes.fail_overdue(connection.alias, limit=100)


def children_of_a_cancelled_parent() -> list[Job]:
    parent = made.parent_job()
    children = made.children_of(parent, made.CHILD, f"{made.CHILD}#2")
    cancel(parent)
    return children


def cancel_children() -> list[Any]:
    found = families.find_children_to_cancel(connection, limit=100) or []
    return [row for one in found for row in outcomes.follow_parent("default", one)]


def marked_parents() -> list[Job]:
    jobs = ended_jobs()
    Job.objects.update(cancels_children=True)
    return jobs


def clear_marks() -> int:
    return families.clear_cancels_children(connection, limit=100)


def wake_blocked() -> int:
    return waits.wake_blocked(connection, code_version="two")


def wait_for_locks(self: JobQuerySet, *, skip_locked: bool, **options: Any) -> Any:
    assert skip_locked
    return super(JobQuerySet, self).select_for_update(**options)


LOCKING = replaced(families, "LOCK_FREE_JOBS", "skip locked", "")
CHORES: dict[str, tuple[Callable[[], Sequence[Model]], Callable[[], Any], Switch]] = {
    "promoting": (due_jobs, promote, replaced(waits, "PROMOTE_DUE", "skip locked", "")),
    "sweeping": (stranded_jobs, sweep, replaced(liveness, "RECOVER_JOBS", "skip locked", "")),
    "pruning": (ended_jobs, prune_failed, replaced(retention, "PRUNE_JOBS", "skip locked", "")),
    "pruning keys": (
        expired_keys,
        prune_keys,
        replaced(retention, "PRUNE_KEYS", "skip locked", ""),
    ),
    "pruning workers": (
        ended_workers,
        prune_workers,
        replaced(retention, "PRUNE_WORKERS", "skip locked", ""),
    ),
    "pruning events": (
        old_events,
        prune_events,
        replaced(retention, "PRUNE_EVENTS", "skip locked", ""),
    ),
    "failing overdue jobs": (overdue_jobs, fail_overdue, LOCKING),
    "failing overdue children": (overdue_children, fail_overdue, LOCKING),
    "cancelling children": (children_of_a_cancelled_parent, cancel_children, LOCKING),
    "clearing marks": (
        marked_parents,
        clear_marks,
        replaced(families, "CLEAR_CANCELS_CHILDREN", "skip locked", ""),
    ),
    "waking": (blocked_jobs, wake_blocked, replaced(waits, "WAKE_BLOCKED", "skip locked", "")),
    "claiming": (
        ready_jobs,
        claim_two,
        both(
            patched(JobQuerySet, "select_for_update", wait_for_locks),
            patched(locking, "_write", locking._write.__wrapped__),
        ),
    ),
}


def in_order(lock_all: Callable[[list[Job]], Any]) -> Callable[[Stage], None]:
    def told(stage: Stage) -> None:
        jobs_are_locked_in_the_order_of_their_ids(stage, lock_all)

    told.__name__ = jobs_are_locked_in_the_order_of_their_ids.__name__
    return told


def skipping(
    arrange: Callable[[], Sequence[Model]], chore: Callable[[], Any]
) -> Callable[[Stage], None]:
    def told(stage: Stage) -> None:
        locked_rows_are_skipped(stage, arrange, chore)

    told.__name__ = locked_rows_are_skipped.__name__
    return told


RULES = [
    *(
        Rule(
            name=f"lock order of {name}",
            story=in_order(lock_all),
            off={"the other way round": other_order},
            symptom="in a deadlock: .'",
        )
        for name, (lock_all, other_order) in BATCHES.items()
    ),
    *(
        Rule(
            name=f"skip locked when {name}",
            story=skipping(arrange, chore),
            off={"waiting": waiting},
            symptom="waits for a locked row",
        )
        for name, (arrange, chore, waiting) in CHORES.items()
    ),
]
