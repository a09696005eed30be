"""The chores every worker does between claims: none is anybody's in particular, all are repeated.

Each skips rows that others hold, so that any number of workers may do it at once, and a chore that
died half-way is done by the next.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django_durable.engine import approvals, families, liveness, outcomes, waits
from django_durable.engine.clock import machine_seconds
from django_durable.engine.declaring import Declaring
from django_durable.engine.firing import SECONDS_BETWEEN_LOOKS, Firing
from django_durable.engine.pruning import PRUNE_SECONDS, Pruner
from django_durable.engine.states import JobState

logger = logging.getLogger("django_durable")

LOOK_SECONDS = 0.5
SECOND_LOOK_SECONDS = 0.4
CHUNK = 1000
CANCELLED_AT_ONCE = 50
"""Children cancelled before the worker claims again; each is a commit."""


@dataclass(slots=True)
class Chore:
    """Something done every so many seconds, with a fifth of jitter; sooner if it says so."""

    seconds: float
    do: Callable[[], float | None]
    """Returns: after how many seconds to do it again, 0 for at once; None: as usual."""
    due_at: float = 0.0

    def run_if_due(self, now: float) -> None:
        if now >= self.due_at:
            self.due_at = now + self.seconds * random.uniform(0.8, 1.2)
            if (pause := self.do()) is not None:
                self.due_at = now + pause


@dataclass(slots=True)
class Look:
    """What the first look at a suspicious worker saw."""

    suspicion: liveness.Suspicion
    at: float


@dataclass(slots=True, kw_only=True)
class Maintenance:
    """The chores of one worker, on the connection it claims with."""

    connection: Any
    worker_id: int
    lease: timedelta
    poll_interval: timedelta
    woken: Callable[[], None]
    _looks: dict[int, Look] = field(default_factory=dict)
    _trusts_from: float = 0.0
    _chores: list[Chore] = field(default_factory=list)
    _firing: Firing = field(init=False)

    def __post_init__(self) -> None:
        poll = self.poll_interval.total_seconds()
        self._firing = Firing(self.connection.alias)
        declaring = Declaring(alias=self.connection.alias, worker_id=self.worker_id)
        self._chores = [
            Chore(min(poll, LOOK_SECONDS), self.look_for_lost),
            Chore(min(poll, LOOK_SECONDS), self.recover),
            Chore(poll, self.promote),
            Chore(poll, self.fail_overdue),
            Chore(poll, self.cancel_children),
            Chore(PRUNE_SECONDS, declaring.sync),
            Chore(min(poll, SECONDS_BETWEEN_LOOKS), self.fire_schedules),
            Chore(PRUNE_SECONDS, self.close_approvals),
            Chore(PRUNE_SECONDS, Pruner(self.connection).look, machine_seconds() + PRUNE_SECONDS),
        ]

    def run_due(self) -> None:
        for chore in self._chores:
            chore.run_if_due(machine_seconds())

    def seconds_to_next(self) -> float:
        return max(0.0, min(chore.due_at for chore in self._chores) - machine_seconds())

    def distrust(self) -> None:
        """The own connection was lost: whatever took it may have taken others' heartbeats too."""
        self._looks.clear()
        self._trusts_from = machine_seconds() + self.lease.total_seconds()

    def suspects_anybody(self) -> bool:
        """Whether some worker looks dead by now, and its jobs may soon be ready."""
        return bool(liveness.find_suspicious_workers(self.connection, own_id=self.worker_id))

    def look_for_lost(self) -> None:
        """Declare lost whose lease expired, or whose lock was free in two looks."""
        now = machine_seconds()
        if now < self._trusts_from:
            return
        suspicions = liveness.find_suspicious_workers(self.connection, own_id=self.worker_id)
        seen = {suspicion.worker_id: self._look(suspicion, now) for suspicion in suspicions}
        for look in list(seen.values()):
            is_second = now - look.at >= SECOND_LOOK_SECONDS
            if (look.suspicion.expired or is_second) and self._declare_lost(look.suspicion):
                del seen[look.suspicion.worker_id]
            elif look.suspicion.expired and is_second:
                # Frozen in a claim, it holds its own row, and the declaration skips it for ever.
                liveness.end_sessions(self.connection, look.suspicion.worker_id)
        self._looks = seen

    def _look(self, suspicion: liveness.Suspicion, now: float) -> Look:
        """The earlier look if no heartbeat came since, else this one."""
        earlier = self._looks.get(suspicion.worker_id)
        if earlier and earlier.suspicion.heartbeat_at == suspicion.heartbeat_at:
            return Look(suspicion, earlier.at)
        return Look(suspicion, now)

    def _declare_lost(self, suspicion: liveness.Suspicion) -> bool:
        declared = liveness.declare_lost(self.connection.alias, suspicion)
        if declared is None:
            return False
        cause = "its lease expired" if suspicion.expired else "its lock is free"
        logger.warning(
            "Worker %s (%s:%s) is declared lost: %s.",
            suspicion.worker_id, declared.hostname, declared.pid, cause,
            extra={"worker_id": suspicion.worker_id},
        )  # fmt: skip
        if declared.problem is not None:
            logger.warning(
                "The sessions of lost worker %s could not be ended (%s); give all workers the same "
                "database role, or rows it holds stay locked until the server notices.",
                suspicion.worker_id, declared.problem, extra={"worker_id": suspicion.worker_id},
            )  # fmt: skip
        self.recover()
        return True

    def recover(self) -> None:
        """Give back the jobs of lost workers, until none is left."""
        while recovered := liveness.recover_jobs(self.connection, limit=CHUNK):
            for job in recovered:
                logger.warning(
                    "Job %s (%s) is recovered from worker %s.",
                    job.job_id, job.task_path, job.worker_id,
                    extra={"job_id": str(job.job_id), "task_path": job.task_path},
                )  # fmt: skip
            self.woken()

    def promote(self) -> None:
        """Make due jobs ready."""
        while promoted := waits.promote_due(self.connection, limit=CHUNK):
            self.woken()
            if promoted < CHUNK:
                break

    def fail_overdue(self) -> None:
        """Fail the jobs whose deadline passed while nobody ran them."""
        overdue = outcomes.fail_overdue(self.connection.alias, limit=CHUNK)
        for job in overdue:
            if job.state is JobState.FAILED:
                logger.error(
                    "Job %s failed: %s", job.job_id, job.task_path, exc_info=job.error,
                    extra={"job_id": str(job.job_id), "task_path": job.task_path},
                )  # fmt: skip
        if overdue:
            self.woken()

    def cancel_children(self) -> float | None:
        """Cancel children whose parents' end ends them too, one in each commit.

        Repeated, so that neither a crash nor a child started late lets one escape; at once if there
        are more.
        """
        children = families.find_children_to_cancel(self.connection, limit=CANCELLED_AT_ONCE)
        if children is None:
            return None
        for child_id in children:
            outcomes.follow_parent(self.connection.alias, child_id)
        if children:
            self.woken()
        families.clear_cancels_children(self.connection, limit=CHUNK)
        return 0.0 if len(children) == CANCELLED_AT_ONCE else None

    def fire_schedules(self) -> float | None:
        """Decide on ticks that are due; at once again if there are more."""
        if self._firing.fire_due():
            self.woken()
        return 0.0 if self._firing.has_more else None

    def close_approvals(self) -> None:
        """Mark questions closed whose job ended; nobody could answer them any more before that."""
        while approvals.close_some(self.connection.alias, limit=CHUNK) == CHUNK:
            pass
