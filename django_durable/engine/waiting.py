"""The life of one wait: look whether it is over, else let the branch stand still.

    find     the checkpoint of an earlier run: over, or begun with a deadline
    look     has it come? then that is saved, and never asked again
    time out the recorded deadline is behind us: that is an outcome, and saved too
    suspend  neither: the slot is given up

The suspension is written when the task's function has unwound, with the rows locked that whoever
brings the event locks too, and looks once more: between the look here and that one nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import connections, transaction

from django_durable.engine.atomic import Adopted, LeaseLost, save_in_transaction
from django_durable.engine.checkpoints import NewCheckpoint
from django_durable.engine.families import settle_parents
from django_durable.engine.faults import (
    DATABASE_ERRORS,
    is_connection_error,
    is_held_up,
    is_repeatable,
)
from django_durable.engine.replay import FAILED, STARTED, SUCCESSFUL, Recorded, ReplayMismatch
from django_durable.engine.run import (
    Ending,
    Run,
    Stop,
    active_step,
    require_run,
)
from django_durable.engine.states import WaitKind
from django_durable.engine.threads import refuse_in_transaction, release_connections
from django_durable.engine.waits import (
    Suspended,
    Wait,
    has_come,
    lock_waits,
    suspend_job,
    wake_jobs,
)
from django_durable.exceptions import WaitInStepError, WaitOutsideJobError

T = TypeVar("T")

LOCK_MILLISECONDS = 250
LEASE_LOST = Ending(stop=Stop.LEASE_LOST)
AGAIN = timedelta(seconds=1)
"""When a job looks again for an event whose row somebody's open transaction holds."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between tries to reach the database


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitRule:
    """What a verb waits for. ``name`` and ``checkpoint_kind`` are its identity and kind on replay.

    It ends at ``until`` or after ``timeout``, with the value ``timed_out``; or when ``look`` finds
    what is waited for, and has saved that.
    """

    call: str
    name: str
    checkpoint_kind: str
    identity: str | None = None
    """Where it was given elsewhere: that of the call which started a child."""
    fingerprint: str | None = None
    kind: WaitKind
    reason: str
    until: datetime | None = None
    timeout: timedelta | None = None
    timed_out: str = "null"
    has_branches: bool = False
    """Whether code runs before it is over, so that a rehearsal goes on inside."""
    event_key: str | None = None
    message_name: str | None = None
    awaited_as: str | None = None
    look: Callable[[Point], Recorded | None] = lambda point: None
    on_timeout: Callable[[Any, Point], None] = lambda connection, point: None
    """Written on the given connection in the commit of the timeout."""


@dataclass(slots=True, kw_only=True, eq=False)
class Point:
    """One call of a verb that waits, in one run."""

    rule: WaitRule
    run: Run
    identity: str
    seq: int
    earlier: Recorded | None
    place: str | None = None
    """The path of the scope that the call stands in, if its identity was given elsewhere."""

    @property
    def is_over(self) -> bool:
        """Whether the deadline is behind us: the recorded one, or one that was no time at all."""
        now = self.run.now()
        if self.earlier is not None:
            deadline = self.earlier.next_attempt_at
            return deadline is not None and deadline <= now
        until, timeout = self.rule.until, self.rule.timeout
        return (until is not None and until <= now) or timeout == timedelta(0)

    def checkpoint(
        self, state: str = SUCCESSFUL, *, value: str | None = None, error: str | None = None
    ) -> NewCheckpoint:
        job = self.run.job
        return NewCheckpoint(
            job_id=job.id,
            lease_token=job.lease_token,
            identity=self.identity,
            seq=self.seq,
            kind=self.rule.checkpoint_kind,
            state=state,
            function=self.rule.call,
            fingerprint=self.rule.fingerprint if self.place is None else self.place,
            attempt=self.earlier.attempt if self.earlier else 1,
            elapsed=timedelta(0),
            value=value,
            error=error,
        )

    @property
    def wait(self) -> Wait:
        rule = self.rule
        return Wait(
            checkpoint=self.checkpoint(STARTED),
            kind=rule.kind,
            reason=rule.reason,
            until=rule.until,
            timeout=rule.timeout,
            event_key=rule.event_key,
            message_name=rule.message_name,
            awaited_as=rule.awaited_as,
        )

    def save(self, *, value: str | None = None, error: str | None = None) -> Recorded:
        """Save how the wait ended, under the lease."""
        state = SUCCESSFUL if error is None else FAILED
        return self.run.save(self.checkpoint(state, value=value, error=error))


def require_wait(call: str) -> Run:
    """The run that may wait here.

    Raises: WaitOutsideJobError, WaitInStepError, StepInTransactionError, Suspension.
    """
    run = require_place(call)
    if run is None:
        raise WaitOutsideJobError(call=call)
    return run


def require_place(call: str) -> Run | None:
    """The run whose task calls this between its steps; None outside jobs.

    Raises: WaitInStepError, StepInTransactionError, Suspension.
    """
    run = require_run(call)
    if run is None:
        return None
    outer = active_step()
    if outer is not None:
        raise WaitInStepError(call=call, step=outer.identity)
    refuse_in_transaction(call)
    return run


def wait(rule: WaitRule) -> Recorded:
    """How the wait ended, now or in an earlier run. Raises: Suspension until it has."""
    run = require_wait(rule.call)
    scope = run.scope
    scope.enter(rule.call)
    try:
        found = find(run, rule)
        return found if isinstance(found, Recorded) else settle(found)
    finally:
        scope.leave()


def find(run: Run, rule: WaitRule) -> Recorded | Point:
    """The recorded end of this wait, or the wait as it stands."""
    scope = run.scope
    identity = rule.identity or scope.identify(rule.name)
    try:
        earlier = run.history.find(
            scope, identity, kind=rule.checkpoint_kind, fingerprint=rule.fingerprint
        )
    except ReplayMismatch as mismatch:
        run.block(mismatch)
    if earlier is not None and earlier.is_final:
        return earlier
    seq = run.place(earlier, has_branches=rule.has_branches)
    place = scope.path if rule.identity is not None else None
    return Point(rule=rule, run=run, identity=identity, seq=seq, earlier=earlier, place=place)


def settle(point: Point) -> Recorded:
    """Look, time out, or suspend."""
    record = point.rule.look(point)
    if record is None and point.is_over:
        record = time_out(point) or point.rule.look(point)
    if record is None:
        point.run.suspend(point.wait)
    return record


def time_out(point: Point) -> Recorded | None:
    """Save that the time is over; None if what is waited for has come after all.

    Who brings an event locks its row, so it is locked here: either it comes first, or it is late
    and can be told so.
    """
    rule = point.rule
    if rule.event_key is None and rule.message_name is None:
        return point.save(value=rule.timed_out)
    checkpoint = point.checkpoint(value=rule.timed_out)

    def write(connection: Any) -> Recorded | None:
        lock_waits(connection, [point.wait])
        if has_come(connection, [point.wait]):
            return None
        rule.on_timeout(connection, point)
        save_in_transaction(connection, checkpoint)
        return checkpoint.as_recorded()

    record = in_transaction(point, write)
    if record is not None:
        point.run.settle(record, cancelled=False)
    return record


# --- transactions of the engine's on this thread's own connection


def in_transaction(point: Point, operation: Callable[[Any], T]) -> T | Recorded:
    """Run a fenced operation in a transaction of its own, until the database has answered it.

    Returns what it does, or the record that stands there already. Raises: Suspension, if the lease
    is lost, or somebody's open transaction holds what it must lock.
    """
    run = point.run
    while True:
        try:
            with lock_transaction(run.alias) as connection:
                return operation(connection)
        except Adopted as adopted:
            return adopted.record
        except LeaseLost:
            run.stop(LEASE_LOST)
        except DATABASE_ERRORS as error:
            if is_held_up(error):
                run.suspend(point.wait, again=AGAIN)
            if not (is_connection_error(error) or is_repeatable(error)):
                raise
            connections[run.alias].close()
        finally:
            release_connections()
        run.check_lease()


@contextmanager
def lock_transaction(alias: str) -> Iterator[Any]:
    """A transaction that locks first and looks in later statements, whatever the alias' isolation.

    It waits for a lock for a moment only. (A test's outer transaction is taken as it is.)
    """
    is_outermost = not connections[alias].in_atomic_block
    with transaction.atomic(using=alias):
        connection = connections[alias]
        if is_outermost:
            with connection.cursor() as cursor:
                cursor.execute(
                    "set transaction isolation level read committed;"
                    f"set local lock_timeout = '{LOCK_MILLISECONDS}ms'"
                )
        yield connection


def suspend(run: Run, ending: Ending) -> Suspended | None:
    """Write a suspension, when the function has unwound; None if the lease is lost, or it is done.

    A suspension for times only is one statement. For what others bring it is a transaction: lock,
    suspend, and look once more in a statement of its own.
    """
    waits, again = ending.waits, ending.again
    if again is not None or not any(wait.key for wait in waits):
        return run.writer.call(lambda connection: suspend_job(connection, waits, again=again))
    pause = SHORTEST_PAUSE
    while True:
        try:
            with lock_transaction(run.alias) as connection:
                return _suspend_and_look(connection, waits)
        except DATABASE_ERRORS as error:
            if is_held_up(error):
                return run.writer.call(
                    lambda connection: suspend_job(connection, waits, again=AGAIN)
                )
            if not (is_connection_error(error) or is_repeatable(error)):
                raise
            connections[run.alias].close()
        finally:
            release_connections()
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _suspend_and_look(connection: Any, waits: tuple[Wait, ...]) -> Suspended | None:
    lock_waits(connection, waits)
    suspended = suspend_job(connection, waits)
    if suspended is None or suspended.state != "WAITING":
        return suspended
    if not has_come(connection, waits):
        # children that a retry of this job holds back go on by the map's rule from here
        maps = [wait for wait in waits if wait.checkpoint.kind == "map"]
        settle_parents(connection, [(one.checkpoint.job_id, one.awaited_as) for one in maps])
        return suspended
    wake_jobs(connection, [waits[0].checkpoint.job_id])
    return Suspended(cancelled=False, state="READY", due_at=suspended.due_at)
