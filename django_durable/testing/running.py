"""Run jobs in the caller's thread and connection, by the engine's own rules."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

from django.db import connections
from django.db.models import F

from django_durable.conf import get_settings
from django_durable.engine import claims, families, limits, liveness, outcomes, registry, waits
from django_durable.engine.checkpoints import (
    NewCheckpoint,
    Saved,
    load_checkpoints,
    save_checkpoints,
)
from django_durable.engine.executor import execute
from django_durable.engine.outcomes import Outcome, Written, finish_jobs
from django_durable.engine.replay import base_name
from django_durable.engine.run import Ending, Run, Stop
from django_durable.engine.sql import Connection
from django_durable.engine.states import FOREVER
from django_durable.models import DELAYED, Approval, Checkpoint, Job, LimitStart
from django_durable.retry import draw

T = TypeVar("T")
logger = logging.getLogger("django_durable")

MOST_JOBS = 10_000
"""A guard against jobs that enqueue themselves for ever."""
CODE_VERSION = "run_jobs"
_crash_point: ContextVar["CrashPoint | None"] = ContextVar("durable_crash_point", default=None)


class DirectWriter:
    """Writes on the caller's connection, each durable point on its own."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def save(self, checkpoint: NewCheckpoint) -> Saved:
        return save_checkpoints(connections[self._alias], [checkpoint])[0]

    def finish(self, outcome: Outcome) -> Written | None:
        return finish_jobs(connections[self._alias], [outcome])[0]

    def call(self, operation: Callable[[Connection], T]) -> T:
        return operation(connections[self._alias])


def run_jobs(*, ahead: timedelta = timedelta(0)) -> list[Job]:
    """Run what is due, and what that enqueues, until nothing is; the jobs run, in their order.

    ``ahead`` first moves due times back by so much. A job whose process "died" in an earlier call
    is recovered. Jobs that fail do not raise here: look at their ``state`` and ``errors``. No try
    is due at once by chance: between tries jobs wait as long as their policy ever lets them.
    Callbacks of ``transaction.on_commit`` run after each job, also inside ``TestCase``.
    """
    alias = get_settings().DATABASE
    if ahead:
        _move_back(alias, ahead)
    worker_id = _register(alias)
    limits.declare_limits(connections[alias], registry.declared_limits().values())
    crash = _crash_point.get() or CrashPoint(None)
    crash.happened = False
    done: list[Job] = []
    longest = draw.set(lambda: 1.0)
    try:
        while not crash.happened and (job := _claim_next(alias, worker_id)):
            _run(job, alias, crash)
            done.append(job)
            if len(done) >= MOST_JOBS:
                raise AssertionError(f"run_jobs() ran {MOST_JOBS} jobs and there are more.")
    finally:
        draw.reset(longest)
        liveness.mark_stopped(alias, worker_id)
    for job in done:
        job.refresh()
    return list({job.pk: job for job in done}.values())


@contextmanager
def crash_after(step_name: str) -> Iterator[None]:
    """Inside, ``run_jobs`` ends as if the process died right after that step's checkpoint.

    ``step_name`` is a step's name, or an identity such as ``charge#2``. The next ``run_jobs``
    recovers the job. Raises: AssertionError at the end if no such step was saved.
    """
    point = CrashPoint(step_name)
    token = _crash_point.set(point)
    try:
        yield
    finally:
        _crash_point.reset(token)
    if not point.crashes:
        raise AssertionError(f'No step "{step_name}" was saved, so nothing crashed after it.')


class CrashPoint:
    """Where the process is to "die"."""

    def __init__(self, step_name: str | None) -> None:
        self._step_name = step_name
        self.happened = False
        self.crashes = 0

    def watch(self, run: Run) -> Callable[[str], None]:
        def after_save(identity: str) -> None:
            if self._step_name in _names_of(identity):
                self.happened = True
                self.crashes += 1
                run.stop(Ending(stop=Stop.LEASE_LOST))

        return after_save


def _names_of(identity: str) -> tuple[str, str]:
    """What a checkpoint can be called: by its identity, or the name of the step in any branch."""
    return identity, base_name(identity.rpartition("/")[2].partition("#")[0])


def _move_back(alias: str, ahead: timedelta) -> None:
    delayed = Job.objects.using(alias).filter(state__in=DELAYED).exclude(due_at=FOREVER)
    delayed.update(due_at=F("due_at") - ahead)
    bounded = Job.objects.using(alias).live().filter(deadline_at__isnull=False)
    bounded.update(deadline_at=F("deadline_at") - ahead)
    waits = Checkpoint.objects.using(alias).filter(state__in=["STARTED", "RETRYING"])
    waits.update(started_at=F("started_at") - ahead, next_attempt_at=F("next_attempt_at") - ahead)
    Approval.objects.using(alias).open().update(deadline_at=F("deadline_at") - ahead)
    LimitStart.objects.using(alias).update(started_at=F("started_at") - ahead)


def _register(alias: str) -> int:
    return liveness.register_worker(
        alias,
        liveness.Registration(
            hostname="run_jobs",
            pid=0,
            queues=["-"],
            slots=1,
            code_version=CODE_VERSION,
            lease=timedelta(days=1),
        ),
    )


def _claim_next(alias: str, worker_id: int) -> Job | None:
    connection = connections[alias]
    liveness.recover_jobs(connection, limit=1000)
    waits.promote_due(connection, limit=1000)
    outcomes.fail_overdue(alias, limit=1000)
    _cancel_children(connection)
    claimant = claims.Claimant(
        worker_id=worker_id,
        alias=alias,
        task_paths=registry.known_paths(),
        code_version=CODE_VERSION,
        max_lost=get_settings().MAX_LOST,
    )
    queues = claims.find_ready_queues(connection)
    jobs = claims.claim_jobs(claimant, queues, limit=1).jobs
    jobs = jobs or claims.claim_suspect(claimant, queues).jobs
    return jobs[0] if jobs else None


def _cancel_children(connection: Any) -> None:
    """What ends with its parent is cancelled, and what ends with that."""
    while children := families.find_children_to_cancel(connection, limit=1000):
        for child_id in children:
            outcomes.follow_parent(connection.alias, child_id)
    if children is not None:
        families.clear_cancels_children(connection, limit=1000)


def _run(job: Job, alias: str, crash: CrashPoint) -> None:
    claimed_before = [job.pk] if job.lease_token > 1 else []
    records = load_checkpoints(alias, claimed_before).get(job.pk, [])
    run = Run(
        job=job,
        task=registry.get_task(job.task_path),
        alias=alias,
        records=records,
        writer=DirectWriter(alias),
    )
    run.after_save = crash.watch(run)
    with _on_commit_callbacks(alias):
        execute(run)


@contextmanager
def _on_commit_callbacks(alias: str) -> Iterator[None]:
    """Run what a job left to be run on commit, where a test's transaction never commits."""
    connection: Any = connections[alias]
    start = len(connection.run_on_commit)
    yield
    while len(connection.run_on_commit) > start:
        _sids, callback, robust = connection.run_on_commit.pop(start)
        try:
            callback()
        except Exception:
            if not robust:
                logger.exception("An on_commit callback failed after the job had committed.")
