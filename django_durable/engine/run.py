"""One run of a job's function: what durable calls find when they ask where they are.

The run is ambient, in a context variable: no argument is passed through user code. It knows the
claim, the history and the writer, and it remembers why it must stop: once a durable call has raised
Suspension, each later one raises it again. A branch that only waits stops alone; its siblings go on
until each has ended or waits.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar
from uuid import UUID, uuid4, uuid5

from django.db import connections

from django_durable.conf import get_settings
from django_durable.engine.checkpoints import NewCheckpoint, Saved, read_checkpoint
from django_durable.engine.claims import check_lease
from django_durable.engine.clock import machine_seconds
from django_durable.engine.faults import DATABASE_ERRORS, is_connection_error, is_repeatable
from django_durable.engine.outcomes import Outcome, Written
from django_durable.engine.progress import Report
from django_durable.engine.replay import (
    COMPENSATION,
    History,
    Recorded,
    ReplayMismatch,
    Scope,
    life_path,
)
from django_durable.engine.sql import Connection
from django_durable.engine.waits import Wait
from django_durable.exceptions import (
    DeadlineExceededError,
    HistoryTooLongError,
    StepOutsideJobError,
    Suspension,
)

if TYPE_CHECKING:
    from django_durable.models import Job

T = TypeVar("T")
logger = logging.getLogger("django_durable")


class Writer(Protocol):
    """Writes durable points and waits until each is committed; survives outages."""

    def save(self, checkpoint: NewCheckpoint) -> Saved: ...
    def finish(self, outcome: Outcome) -> Written | None: ...
    def call(self, operation: Callable[[Connection], T]) -> T:
        """Run one store function, which may be repeated if the connection is lost."""
        ...


class Stop(Enum):
    """Why a run ends before its function does."""

    LEASE_LOST = "the lease is lost"
    CANCELLED = "cancelling was asked for"
    BLOCKED = "the code and the checkpoints differ"
    WAIT = "the job waits"
    OUTRUN = "another branch was first"
    GIVEN_UP = "a step took too long and its thread was given up"
    CONTINUED = "the job starts over"
    FAILED = "the job fails, whatever the task does about it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A reason to stop, with what is to be written for it."""

    stop: Stop
    reason: str = ""
    waits: tuple[Wait, ...] = ()
    again: timedelta | None = None
    """Look again after so long at the latest, whatever the waits say."""
    arguments: str | None = None
    """Those with which a CONTINUED job starts over."""
    error: BaseException | None = None
    """Why the job FAILED."""


@dataclass(slots=True, kw_only=True)
class ActiveStep:
    """The step whose body runs now: what ``current_step()`` returns."""

    name: str
    identity: str
    attempt: int
    namespace: UUID
    kind: str = "plain"
    stem: str = ""
    """What its key and the origins of calls in its body are made of, if not its identity."""
    calls: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    outbox: list[Any] = field(default_factory=list)
    """What an atomic step emitted and sent; written with its checkpoint."""

    @property
    def idempotency_key(self) -> str:
        """36 characters, the same over every retry and replay."""
        return str(uuid5(self.namespace, self.stem or self.identity))

    def origin_of(self, call: str) -> str:
        """The identity of a call made inside this step's body."""
        self.calls[call] += 1
        n = self.calls[call]
        origin = f"{self.stem or self.identity}/{call}"
        return origin if n == 1 else f"{origin}#{n}"


@dataclass(kw_only=True, eq=False)
class Run:
    """One run, from claim to outcome. Made by the executor, used by durable calls.

    ``session_timeout`` (seconds) bounds idle transactions where sessions cannot be ended by others;
    ``prepares`` says that no pooler stands between, so statements can be prepared.
    ``parallel`` says whether branches may have threads of their own. ``begin_timed`` tells the
    worker of a step with a timeout, ``after_save`` tests of a checkpoint.
    """

    job: Job
    """The row as it was claimed; users get a copy, since what they do to it must change nothing."""
    task: Any
    alias: str
    writer: Writer
    records: Sequence[Recorded] = ()
    """The checkpoints it was claimed with."""
    lease_is_fresh: Callable[[], bool] = lambda: True
    begin_timed: Callable[[Run, Any], None] = lambda run, call: None
    after_save: Callable[[str], None] = lambda identity: None
    in_task_transaction: bool = False
    rehearses: bool = False
    """Whether this is only a rehearsal: nothing is run that is not recorded, nothing is written."""
    session_timeout: float | None = None
    prepares: bool = False
    cancel_requested: bool = False
    has_warned: bool = False
    parallel: bool = False
    ending: Ending | None = None
    """Why the whole run stops; a scope has its own for a wait."""
    timed_calls: set[Any] = field(default_factory=set)
    outbox: list[Any] = field(default_factory=list)
    """What an atomic task emitted and sent; written with its outcome."""
    report: Report = field(default_factory=Report)
    begun_at: float = field(default_factory=machine_seconds)

    @property
    def history(self) -> History:
        """How far the run has come in its records; made for its first durable call.

        Two threads may come first: they get the same one.
        """
        made: History | None = self.__dict__.get("_made")
        if made is None:
            path, allowed = life_path(self.job.continued_count), self.job.allowed_steps
            new = History(self.records, allowed_steps=allowed, root_path=path)
            made = self.__dict__.setdefault("_made", new)
        return made

    @property
    def is_plain(self) -> bool:
        """Whether it has, by now, neither checkpoints nor waits nor branches."""
        return not self.records and "_made" not in self.__dict__

    @cached_property
    def public_job(self) -> Job:
        """The row for user code."""
        return copy.copy(self.job)

    def now(self) -> datetime:
        """The database's time, as of the claim and the machine's clock since."""
        assert self.job.claimed_at is not None  # set by the claim
        since: datetime = self.job.claimed_at + timedelta(seconds=machine_seconds() - self.begun_at)
        return since

    @property
    def scope(self) -> Scope:
        """The scope of the branch this code runs in; outside branches the task's own."""
        return _current_scope.get() or self.history.root

    def find_ending(self) -> Ending | None:
        """Why this branch must stop, if it must."""
        return self.ending or (None if self.is_plain else self.scope.find_ending())

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline has passed of a job that has not yet decided how it ends."""
        deadline_at, ends_as = self.job.deadline_at, self.job.ends_as
        return deadline_at is not None and ends_as is None and self.now() >= deadline_at

    @property
    def deadline_error(self) -> DeadlineExceededError:
        job = self.job
        fields = {"job_id": job.id, "task_path": job.task_path, "deadline_at": job.deadline_at}
        return DeadlineExceededError(**fields)

    def check(self) -> None:
        """Raise Suspension if this run, or this branch of it, must not go on."""
        ending = self.find_ending()
        if ending is not None:
            raise Suspension(ending.stop.value)
        if self.cancel_requested and self.job.ends_as is None:
            self.stop(Ending(stop=Stop.CANCELLED))
        if self.is_overdue:
            self.stop(Ending(stop=Stop.FAILED, error=self.deadline_error))

    def suspend(self, *waits: Wait, again: timedelta | None = None) -> NoReturn:
        """Let this branch wait. What is waited for is written when the function has unwound."""
        ending = Ending(stop=Stop.WAIT, waits=waits, again=again)
        self.scope.ending = self.scope.ending or ending
        raise Suspension(ending.stop.value)

    def stop(self, ending: Ending) -> NoReturn:
        if self.ending is None:
            self.ending = ending
        raise Suspension(self.ending.stop.value)

    def block(self, mismatch: ReplayMismatch) -> NoReturn:
        self.stop(Ending(stop=Stop.BLOCKED, reason=f"replay mismatch: {mismatch}"))

    def place(self, earlier: Recorded | None, *, has_branches: bool = False) -> int:
        """The place in the history of a call that has not ended yet. A new one needs room for it.

        Raises: Suspension if the history is too long, which fails the job; and where a rehearsal
        ends, since nothing is run in it that is not recorded.
        """
        if self.rehearses and not has_branches:
            self.suspend()
        if earlier is not None:
            return earlier.seq
        if not self.scope.path.removeprefix(self.history.root.path).startswith(COMPENSATION):
            self._check_length(len(self.history.records))
        return self.history.next_seq()

    def _check_length(self, length: int) -> None:
        settings, job = get_settings(), self.job
        if length >= settings.MAX_CHECKPOINTS:
            error = HistoryTooLongError(job_id=job.id, task_path=job.task_path, count=length)
            self.stop(Ending(stop=Stop.FAILED, error=error))
        if length >= settings.WARN_CHECKPOINTS and not self.has_warned:
            self.has_warned = True
            logger.warning(
                "Job %s (%s) has %s checkpoints, and fails when it needs more than %s. Start "
                "endless work over with continue_as(); give many items to map_task().",
                job.id, job.task_path, length, settings.MAX_CHECKPOINTS,
                extra={"job_id": str(job.id), "task_path": job.task_path},
            )  # fmt: skip

    def check_may_start(self) -> None:
        """No body starts on a lease that may have run out, unless the database says it is good."""
        if not self.lease_is_fresh():
            self.check_lease()

    def check_lease(self) -> None:
        """Ask the database whether the claim is good, waiting for it if it is away."""
        job_id, token = self.job.id, self.job.lease_token
        if not self.writer.call(lambda connection: check_lease(connection, job_id, token)):
            self.stop(Ending(stop=Stop.LEASE_LOST))

    def repeat(self, operation: Callable[[], T]) -> T:
        """Run an engine's operation on this thread's connection, again if that dies, or on 40P01.

        Not inside a transaction, which is gone then.
        """
        while True:
            try:
                return operation()
            except DATABASE_ERRORS as error:
                connection = connections[self.alias]
                if connection.in_atomic_block or not (
                    is_connection_error(error) or is_repeatable(error)
                ):
                    raise
                connection.close()
            self.check_lease()

    def save(self, checkpoint: NewCheckpoint, *, obeys_cancel: bool = True) -> Recorded:
        """Save a checkpoint; what now stands there, which may be an earlier save of the same.

        Brings a request to cancel, too, and obeys it unless this is only the start of a step.
        """
        saved = self.writer.save(checkpoint)
        if not saved.held:
            self.stop(Ending(stop=Stop.LEASE_LOST))
        record = checkpoint.as_recorded() if saved.saved else self.read(checkpoint.identity)
        if record is None or not (saved.saved or record.is_final):
            self.stop(Ending(stop=Stop.LEASE_LOST))
        self.settle(record, cancelled=saved.cancelled, obeys_cancel=obeys_cancel)
        return record

    def settle(self, record: Recorded, *, cancelled: bool, obeys_cancel: bool = True) -> None:
        """Take a committed checkpoint into the history, then obey a request to cancel."""
        self.history.add(record)
        self.after_save(record.identity)
        if obeys_cancel:
            self.cancel_requested = self.cancel_requested or cancelled
            self.check()

    def read(self, identity: str) -> Recorded | None:
        job_id: UUID = self.job.id
        return self.writer.call(lambda connection: read_checkpoint(connection, job_id, identity))


_current_run: ContextVar[Run | None] = ContextVar("durable_run", default=None)
_current_step: ContextVar[ActiveStep | None] = ContextVar("durable_step", default=None)
_current_scope: ContextVar[Scope | None] = ContextVar("durable_scope", default=None)
_outside: ContextVar[bool] = ContextVar("durable_outside", default=False)
_worker_process = False


def set_run(run: Run | None) -> Any:
    return _current_run.set(run)


def reset_run(token: Any) -> None:
    _current_run.reset(token)


def current_run() -> Run | None:
    return _current_run.get()


def enter_scope(scope: Scope) -> Any:
    """From now on durable calls of this context belong to a branch."""
    return _current_scope.set(scope)


def leave_scope(token: Any) -> None:
    _current_scope.reset(token)


def enter_step(step: ActiveStep) -> Any:
    return _current_step.set(step)


def leave_step(token: Any) -> None:
    _current_step.reset(token)


def active_step() -> ActiveStep | None:
    return _current_step.get()


def mark_worker_process(*, on: bool = True) -> None:
    """From now on a durable call in a thread without a job is an error in this process."""
    global _worker_process
    _worker_process = on


def mark_outside() -> Any:
    """Allow plain calls in this context of a worker: signal receivers, chores."""
    return _outside.set(True)


def require_run(call: str) -> Run | None:
    """The run a durable call belongs to; None where it is a plain call.

    Raises: StepOutsideJobError in a worker's thread that carries no job, Suspension if the run has
    to stop.
    """
    run = _current_run.get()
    if run is None:
        if _worker_process and not _outside.get():
            raise StepOutsideJobError(call=call)
        return None
    run.check()
    return run


def plain_step(name: str) -> ActiveStep:
    """What ``current_step()`` returns outside a worker's job: the same interface, a fresh key."""
    return ActiveStep(name=name, identity=name, attempt=1, namespace=uuid4())


def on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
