"""The places in which jobs run: daemon threads that take runs from a queue, one at a time.

A synchronous body cannot be interrupted. When a step overstays its timeout its thread is given up:
the failure is recorded, the database connections it holds are closed, and another thread takes the
slot. What the body does outside the database may go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connections

from django_durable.engine import liveness, stepping
from django_durable.engine.backlog import Backlog, Pace
from django_durable.engine.clock import machine_seconds
from django_durable.engine.executor import execute, outcome_of
from django_durable.engine.faults import DATABASE_ERRORS
from django_durable.engine.outcomes import Outcome
from django_durable.engine.rebuilding import storable_error
from django_durable.engine.replay import FAILED
from django_durable.engine.reporting import tell_late
from django_durable.engine.run import Ending, Run, Stop
from django_durable.engine.sql import Connection
from django_durable.engine.states import JobState
from django_durable.engine.threads import has_connections, mark_pristine
from django_durable.engine.waits import Wait, suspend_job
from django_durable.engine.wear import Wear

logger = logging.getLogger("django_durable")
AT_ONCE = timedelta(0)
COMPUTING = 2
"""So many threads take runs that only compute."""
LONG_SECONDS = 0.01
"""A run that lasts so long waits for something."""
FLUSH_SECONDS = 1.0
"""How long a worker that must stop waits for the ends it has to write."""


@dataclass(slots=True, eq=False)
class Slots:
    """The slots of a worker, the runs in them, and those before and behind them."""

    count: int
    freed: Callable[[], None]
    """Called in a slot's thread when the backlog runs low, and when a timed step begins."""
    finish_later: Callable[[Run, Outcome], bool] = lambda run, outcome: False
    """Takes the outcome of a plain success; then ``forget`` is called when it is written."""
    wear: Wear = field(default_factory=Wear)
    given_up: int = 0
    tells_all: bool = False
    """Whether ``freed`` is called for every end, since ready jobs wait for places under limits."""
    settled: int = 0
    """Changes whenever a run's end is written."""
    low_water: int = 0
    """The length of the backlog from which on ``freed`` is called."""
    pace: Pace = field(default_factory=Pace)
    _backlog: Backlog = field(default_factory=Backlog)
    _runs: dict[Run, float] = field(default_factory=dict)
    """The runs in the slots, and when they began there."""
    _known: dict[Run, None] = field(default_factory=dict)
    """All that was claimed and is not written yet: waiting, running, or ended."""
    _wrappers: dict[Run, dict[Any, list[Any]]] = field(default_factory=dict)
    """The connections of the threads that run timed steps, by run and call."""

    def start(self) -> None:
        self._backlog.threads = self._backlog.at_work = self.count
        for _ in range(self.count):
            self._start_thread()

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name="durable-slot", daemon=True).start()

    @property
    def free(self) -> int:
        """Slots for which no run is there yet."""
        return min(max(0, self.count - len(self._runs) - len(self._backlog)), self.wear.room)

    @property
    def ended(self) -> int:
        """How many runs have ended here."""
        return self.wear.begun - len(self._runs) - len(self._backlog)

    @property
    def waiting(self) -> int:
        """Runs that no slot has taken yet."""
        return len(self._backlog)

    @property
    def runs(self) -> list[Run]:
        """The runs in the slots."""
        return list(self._runs)

    @property
    def known_runs(self) -> list[Run]:
        """Those, the ones that wait for a slot, and the ones whose outcome is being written."""
        return list(self._known)

    @property
    def own_runs(self) -> list[Run]:
        """The known runs whose jobs are still this worker's, as far as it knows."""
        stops = (Stop.LEASE_LOST, Stop.GIVEN_UP)
        return [run for run in self.known_runs if not (run.ending and run.ending.stop in stops)]

    def cancel(self, job_ids: Collection[UUID]) -> None:
        """Tell known runs that cancelling was asked for."""
        for run in self.known_runs:
            if run.job.id in job_ids:
                run.cancel_requested = True

    def lose(self) -> None:
        """The jobs of the known runs are others' by now."""
        for run in self.known_runs:
            run.ending = run.ending or Ending(stop=Stop.LEASE_LOST)

    def known_claims(self) -> list[tuple[UUID, int]]:
        """The (job, token) pairs of all known runs."""
        return [(run.job.id, run.job.lease_token) for run in self.known_runs]

    def put_all(self, runs: Sequence[Run]) -> None:
        """Take claimed runs; those that were claimed ahead wait behind all others."""
        self.wear.begun += len(runs)
        for run in runs:
            run.begin_timed = self._begin_timed
            self._known[run] = None
        for run in [run for run in reversed(runs) if not run.job.claimed_ahead]:
            self._backlog.put(run, first=True)
        for run in [run for run in runs if run.job.claimed_ahead]:
            self._backlog.put(run, first=False)

    def share_interpreter(self, task_paths: Collection[str]) -> None:
        """Let fewer threads take runs while jobs only compute, and more for each that does not."""
        if not self.pace.only_compute(task_paths):
            self._backlog.let_work(self.count)
            return
        before = machine_seconds() - LONG_SECONDS
        lasting = sum(begun < before for begun in list(self._runs.values()))
        self._backlog.let_work(COMPUTING + 2 * lasting)

    def let_all_work(self) -> None:
        """The loop cannot look for a while: no run is to wait for that."""
        self._backlog.let_work(self.count)

    @property
    def seconds_to_share(self) -> float | None:
        """Until the interpreter is to be shared anew; None: no thread rests beside work."""
        return LONG_SECONDS if self._backlog.rests else None

    def take_back(self, waiting_since: float) -> list[Run]:
        """Take out what has waited for a slot since then; it stays known until it is forgotten."""
        taken = self._backlog.take_back(waiting_since)
        self.wear.begun -= len(taken)
        return taken

    def _work(self) -> None:
        mark_pristine()
        while True:
            run = self._backlog.get()
            self._runs[run] = begun = machine_seconds()
            is_written = True
            try:
                is_written = execute(run, self.finish_later)
            except BaseException:  # a fault of the engine: the job is handed back by reconciling
                logger.exception("Job %s: its run broke down.", run.job.id)
            if run.ending is not None and run.ending.stop is Stop.GIVEN_UP:
                return
            drop_open_transactions()
            self.pace.note(run.job.task_path, machine_seconds() - begun)
            self._runs.pop(run, None)
            self._wrappers.pop(run, None)
            if is_written:
                self._known.pop(run, None)
                self.settled += 1
            if len(self._backlog) <= self.low_water or self.tells_all:
                self.freed()

    def forget(self, runs: list[Run]) -> None:
        """The outcomes of these are written, or they were handed back."""
        for run in runs:
            self._known.pop(run, None)
        self.settled += 1
        if not self._known or self.tells_all:
            self.freed()

    def flush(self, wait: Callable[[float], object]) -> None:
        """Let the ends be written of runs that have ended: handed back they would run again."""
        until = machine_seconds() + FLUSH_SECONDS
        while len(self._known) > len(self._runs) + len(self._backlog):
            if machine_seconds() >= until:
                break
            wait(0.01)

    def _begin_timed(self, run: Run, call: stepping.Call) -> None:
        """In the body's thread: note its connections, and have the worker watch the clock."""
        self._wrappers.setdefault(run, {})[call] = list(connections.all())
        self.freed()

    def seconds_to_timeout(self) -> float | None:
        """Until the first step overstays its timeout; None if none is timed."""
        left = [_seconds_left(call) for run in self.runs for call in tuple(run.timed_calls)]
        return max(0.0, min(left)) if left else None

    def give_up_late(self) -> None:
        """Give up every thread whose step has overstayed its timeout."""
        for run in self.runs:
            for call in tuple(run.timed_calls):
                if call.is_late and call.end_gate.acquire(blocking=False):
                    self._give_up(run, call)
                    break

    def tell_progress(self, connection: Connection) -> None:
        """Write what bodies have told of their progress and nobody has written yet."""
        for run in self.runs:
            tell_late(run, connection)

    def note_begun(self, connection: Connection, claimed_before: float) -> None:
        """Note of jobs claimed ahead that they have begun: if lost, that counts."""
        begun = [run for run in self.runs if run.job.claimed_ahead]
        if lasting := [run for run in begun if run.begun_at < claimed_before]:
            claims = [(run.job.id, run.job.lease_token) for run in lasting]
            noted = liveness.note_begun(connection, claims)
            for run in lasting:
                run.job.claimed_ahead = run.job.id not in noted

    def _give_up(self, run: Run, call: stepping.Call) -> None:
        self.given_up += 1
        for wrapper in self._wrappers.get(run, {}).pop(call, []):
            _take_away(wrapper)
        scope = run.history.scope_of(call.identity)
        if scope.abandon is not None:
            scope.is_abandoned = True
            scope.ending = record_timeout_of_branch(run, call)
            run.timed_calls.discard(call)
            scope.abandon()
        else:
            run.ending = Ending(stop=Stop.GIVEN_UP)
            record_timeout(run, call)
            self._start_thread()
            self._runs.pop(run, None)
            self._wrappers.pop(run, None)
            self.forget([run])
            self.freed()
        logger.error(
            "Job %s: step %s overstayed its timeout; its thread is given up.",
            run.job.id, call.identity, extra={"job_id": str(run.job.id), "step": call.identity},
        )  # fmt: skip


def drop_open_transactions() -> None:
    """Leave no transaction of a body's to the next one: the connection goes with it."""
    if not has_connections():
        return
    for wrapper in connections.all(initialized_only=True):
        if wrapper.in_atomic_block:
            logger.error("A job left a transaction open on %r; it is rolled back.", wrapper.alias)
            wrapper.close()
            del connections[wrapper.alias]


def _seconds_left(call: stepping.Call) -> float:
    assert call.rule.timeout is not None  # only timed steps are watched
    return call.rule.timeout.total_seconds() - (machine_seconds() - call.began)


def record_timeout(run: Run, call: stepping.Call) -> None:
    """Record a step's timeout under the lease and pass the job on: to a next try, or to replay.

    In a branch always to replay, which comes to what its siblings wait for.
    """
    stored, wait = judge_timeout(call)
    is_in_branch = run.history.scope_of(call.identity).parent is not None
    if wait is not None:
        again = AT_ONCE if is_in_branch else None
        suspended = run.writer.call(lambda connection: suspend_job(connection, [wait], again=again))
        if suspended is not None and suspended.cancelled:
            run.writer.finish(outcome_of(run, JobState.READY))
    elif run.writer.save(call.checkpoint(FAILED, error=stored)).held:
        run.writer.finish(outcome_of(run, JobState.READY))


def record_timeout_of_branch(run: Run, call: stepping.Call) -> Ending:
    """Record it for a branch with a thread of its own, whose siblings go on: what it waits for.

    A next try is recorded with what they wait for; after the last one the job is replayed at once.
    """
    stored, wait = judge_timeout(call)
    if wait is not None:
        return Ending(stop=Stop.WAIT, waits=(wait,))
    run.writer.save(call.checkpoint(FAILED, error=stored))
    return Ending(stop=Stop.WAIT, again=AT_ONCE)


def judge_timeout(call: stepping.Call) -> tuple[str, Wait | None]:
    """The error to store, and the wait for a next try if there is one."""
    error = stepping.timeout_error(call)
    stored = storable_error(error, call.rule.raises)
    delay = stepping.next_delay(call, error)
    return stored, None if delay is None else stepping.retry_wait(call, stored, delay)


def _take_away(wrapper: Any) -> None:
    """Close a given-up thread's connection under it, and let it open no other."""
    wrapper.connect = _refuse_connection
    raw = wrapper.connection
    if raw is None:
        return
    try:
        raw.cancel_safe(timeout=1.0)
        raw.close()
        if wrapper.pool:
            wrapper.pool.putconn(raw)
    except (*DATABASE_ERRORS, ValueError) as error:
        logger.warning("A given-up thread's connection did not close: %s", error)


def _refuse_connection() -> None:
    raise RuntimeError("This thread was given up when its step overstayed its timeout.")
