"""A worker process: claim, hand to slots, keep house, stop in good order.

The main thread claims and keeps house; slots run jobs; a listener sends heartbeats. Whatever
database error reaches the loop, it reconnects and goes on: its jobs are its own until another
worker says otherwise, and then it registers anew.
"""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine import boot, claims, liveness, registry, sessions, waits
from django_durable.engine.backlog import LONGEST_WAIT
from django_durable.engine.bell import Bell
from django_durable.engine.checkpoints import load_checkpoints
from django_durable.engine.clock import machine_seconds
from django_durable.engine.executor import outcome_of
from django_durable.engine.faults import DATABASE_ERRORS
from django_durable.engine.finishing import Finisher
from django_durable.engine.listener import Hooks
from django_durable.engine.membership import Membership, WorkerOptions, join
from django_durable.engine.outcomes import finish_jobs
from django_durable.engine.replay import Recorded
from django_durable.engine.run import Ending, Run, Stop, mark_worker_process
from django_durable.engine.slots import Slots
from django_durable.engine.states import JobState
from django_durable.engine.wear import EXIT_AGAIN, Wear
from django_durable.engine.writer import GroupWriter

if TYPE_CHECKING:
    from django_durable.models import Job

logger = logging.getLogger("django_durable")
T = TypeVar("T")

RECONCILE_SECONDS = 60.0
OUTAGE_SECONDS = 0.5


@dataclass(eq=False)
class Worker:
    """One boot of a worker process."""

    options: WorkerOptions
    alias: str = field(default_factory=lambda: get_settings().DATABASE)
    tell_ready: Callable[[], None] = lambda: None
    """Called when it has registered."""
    bell: Bell = field(default_factory=Bell)
    slots: Slots = field(init=False)
    writer: GroupWriter = field(init=False)
    finisher: Finisher = field(init=False)
    member: Membership = field(init=False)
    _is_empty: bool = False
    _is_lost: bool = False
    _slot_sessions: sessions.SlotSessions = field(init=False)
    _must_reconcile: bool = False
    _next_reconcile: float = 0.0

    # --- the story

    def run(self) -> int:
        """Work until told to stop, or with ``burst`` until nothing is ready; the exit code.

        Raises: NotReadyError.
        """
        self._boot()
        while not self._is_over():
            try:
                self._tick()
            except DATABASE_ERRORS as error:
                self._survive(error)
            else:
                woken = self.bell.wait(self._seconds_to_next())
                self.member.claimer.woken_queues.update(woken)
        return self._end()

    def _tick(self) -> None:
        if self._is_lost:
            self._join()
        if self._must_reconcile or machine_seconds() >= self._next_reconcile:
            self._reconcile()
        self.bell.listen()
        self.slots.share_interpreter(self.member.claimer.latest_tasks)
        self.slots.give_up_late()
        self.slots.tell_progress(connections[self.alias])
        self.member.maintenance.run_due()
        self._look_at_claimed_ahead(machine_seconds() - LONGEST_WAIT)
        self.slots.wear.look(ended=self.slots.ended)
        was_idle = not self.slots.known_runs  # before the look: what ends after it may enqueue
        self._claim()
        self.slots.share_interpreter(self.member.claimer.latest_tasks)
        self._is_empty = self.options.burst and was_idle and self._has_nothing_left()

    def _is_over(self) -> bool:
        return bool(self.bell.stop_signals) or self._is_empty or self._is_worn_out

    def _has_nothing_left(self) -> bool:
        """Nothing is ready, nothing runs here, and nobody looks dead who may hold jobs."""
        is_idle = self.member.claimer.found_nothing and not self.slots.known_runs
        return is_idle and not self.member.maintenance.suspects_anybody()

    @property
    def _is_worn_out(self) -> bool:
        is_worn = self.slots.wear.room == 0 and not self.slots.known_runs
        return is_worn or self.slots.given_up >= self.slots.count

    # --- starting

    def _is_told_to_stop(self, after: float) -> bool:
        self.bell.wait(after)
        return bool(self.bell.stop_signals)

    def _boot(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:  # nohup
                signal.signal(number, self.bell.stop)
        mark_worker_process()
        boot.check_vendors(self.alias)
        sessions.switch_on_pools(self.options.slots)
        sessions.use_own_connection(self.alias)
        self._slot_sessions = self._through_outages(lambda: boot.look_around(self.alias))
        self.writer = GroupWriter(lambda: sessions.connect(sessions.engine_alias(self.alias)))
        self.finisher = Finisher(
            self.writer,
            is_busy=lambda: self.slots.waiting > 0,
            written=lambda runs: self.slots.forget(runs),
        )
        self.slots = Slots(
            self.options.slots,
            freed=self.bell.ring_once,
            finish_later=self.finisher.take,
            wear=Wear(max_jobs=self.options.max_jobs, max_memory=self.options.max_memory),
        )
        self._through_outages(self._join)
        self.slots.start()
        self.finisher.start()
        gc.freeze()  # what is there by now stays; looking through it again and again is slow
        self._through_outages(self._wake_blocked)
        boot.announce(
            worker_id=self.member.worker_id,
            alias=self.alias,
            queues=str(self.options.serving),
            slots=self.options.slots,
            code=self.member.code_version,
        )
        self.tell_ready()

    def _through_outages(self, part: Callable[[], T]) -> T:
        return boot.through_outages(self.alias, part, self._is_told_to_stop)

    def _wake_blocked(self) -> None:
        waits.wake_blocked(connections[self.alias], code_version=self.member.code_version)

    def _join(self) -> None:
        """Register: at the start, and anew after having been declared lost."""
        if self._is_lost:
            logger.warning("This worker was declared lost; its jobs are others'. Registering anew.")
            self.member.end()
        self.member = join(
            self.options,
            self.alias,
            slots=self.slots,
            writer=self.writer,
            hooks=Hooks(
                woken=self.bell.ring_for, cancelled=self.slots.cancel, lost=self._note_lost
            ),
            wake=self.bell.ring,
        )
        self._is_lost = False
        self._next_reconcile = machine_seconds() + RECONCILE_SECONDS

    # --- working

    def _claim(self) -> None:
        """Claim, and put what was claimed into slots."""
        try:
            jobs = self.member.claimer.claim()
            records = load_checkpoints(self.alias, [j.pk for j in jobs if j.lease_token > 1])
        except claims.WorkerLost:
            self._note_lost()
            return
        except BaseException:
            self._must_reconcile = True
            raise
        runs = [self._make_run(job, records.get(job.pk, [])) for job in jobs]
        self.slots.put_all(runs)
        if self.member.claimer.must_look_again:
            self.member.claimer.must_look_again = False
            self.bell.ring()

    def _make_run(self, job: Job, records: list[Recorded]) -> Run:
        slot_sessions, lease = self._slot_sessions, self.options.lease.total_seconds()
        return Run(
            job=job,
            task=registry.get_task(job.task_path),
            alias=self.alias,
            records=records,
            writer=self.writer,
            lease_is_fresh=self.member.lease.is_fresh,
            session_timeout=None if slot_sessions.end_with_worker else lease,
            prepares=not slot_sessions.is_pooled,
            parallel=True,
        )

    def _look_at_claimed_ahead(self, claimed_before: float) -> None:
        """Hand back what has not begun for a second, and note what has: if lost, that counts."""
        if waiting := self.slots.take_back(claimed_before):
            self.slots.pace.forget()  # the slots are not as quick as that, or they claim it again
            self._hand_back(waiting)
        self.slots.note_begun(connections[self.alias], claimed_before)

    def _reconcile(self) -> None:
        """Give back what runs under this worker's name without its knowing."""
        with transaction.atomic(using=self.alias):
            released = claims.release_unknown_jobs(
                connections[self.alias],
                worker_id=self.member.worker_id,
                known=self.slots.known_claims(),
            )
        if released:
            logger.warning("Gave back %s job(s) whose claim went unanswered.", len(released))
        self._must_reconcile = False
        self._next_reconcile = machine_seconds() + RECONCILE_SECONDS

    def _survive(self, error: BaseException) -> None:
        logger.warning("The worker's loop met a database error and goes on: %s", error)
        connections[self.alias].close()
        self.member.maintenance.distrust()
        self.slots.let_all_work()
        self.bell.wait(OUTAGE_SECONDS)

    def _note_lost(self) -> None:
        """Declared lost: what runs here is others' by now and must not begin anything more."""
        self.member.lease.good_until = 0.0
        self.slots.lose()
        self._is_lost = True
        self.bell.ring()

    # --- waiting

    def _seconds_to_next(self) -> float:
        others = [
            self.slots.seconds_to_timeout(),
            self.slots.seconds_to_share,
            self.member.claimer.seconds_to_next(),
        ]
        if self.slots.waiting:
            others.append(LONGEST_WAIT)
        known = [seconds for seconds in others if seconds is not None]
        return min([self.member.maintenance.seconds_to_next(), *known])

    # --- stopping

    def _end(self) -> int:
        """Let jobs finish for the time of grace, hand the rest back, and leave."""
        until = machine_seconds() + self.options.grace.total_seconds()
        worker_id = self.member.worker_id
        try:
            liveness.mark_stopping(self.alias, worker_id)
            self._hand_back(self.slots.take_back(machine_seconds()))
            while self.slots.own_runs and self.bell.stop_signals < 2 and machine_seconds() < until:
                self.bell.listen()
                self.slots.give_up_late()
                self.bell.wait(min(0.5, max(0.0, until - machine_seconds())))
            self.slots.flush(self.bell.wait)
            self._hand_back(self.slots.own_runs)
            self.member.end()
            liveness.mark_stopped(self.alias, worker_id)
        except DATABASE_ERRORS as error:
            logger.error("Stopped without the database; others will recover its jobs: %s", error)
            return 1
        logger.info("Worker %s stopped.", worker_id, extra={"worker_id": worker_id})
        return EXIT_AGAIN if self._is_worn_out else 0

    def _hand_back(self, runs: list[Run]) -> None:
        """Make jobs that wait for a slot, or still run, ready again, with their attempt."""
        if not runs:
            return
        for run in runs:
            run.ending = Ending(stop=Stop.LEASE_LOST)
        try:
            finish_jobs(connections[self.alias], [outcome_of(run, JobState.READY) for run in runs])
        except BaseException:  # no slot has them any more: reconciling finds those still ours
            self._must_reconcile = True
            raise
        finally:
            self.slots.forget(runs)
        logger.warning("Handed %s job(s) back.", len(runs))
