"""Replaying a job's history against this process's code, to see whether it would go on.

A rehearsal calls the task's function as a worker would. Steps and waits that are recorded return
what is recorded; the first that is not ends the rehearsal of its branch, and so does every durable
write. What the code between the steps does happens in transactions that are rolled back.
"""

from __future__ import annotations

import contextvars
import copy
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import connections, transaction

from django_durable.engine import instances, registry, stepping
from django_durable.engine.context import restored
from django_durable.engine.faults import DATABASE_ERRORS, is_held_up
from django_durable.engine.replay import Recorded, ReplayMismatch
from django_durable.engine.run import Run, reset_run, set_run
from django_durable.engine.states import JobState
from django_durable.exceptions import (
    ChildFailedError,
    InvalidArgumentsError,
    JobRowError,
    MapFailedError,
    MissingInstanceError,
    StepFailedError,
)

if TYPE_CHECKING:
    from django_durable.models import Job

LOCK_SECONDS = 3
"""How long code between the steps may wait for somebody's lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a job would not go on with this code."""

    job_id: UUID
    task_path: str
    expected: str
    found: str


class Held(Exception):  # noqa: N818 (an answer: it cannot be told now)
    """Somebody holds what the code between the steps wants to lock."""


@dataclass(kw_only=True, eq=False)
class Rehearsal(Run):
    """A run that writes nothing and remembers where code and checkpoints differ."""

    mismatch: ReplayMismatch | None = None
    rehearses: bool = True

    def block(self, mismatch: ReplayMismatch) -> NoReturn:
        self.mismatch = self.mismatch or mismatch
        super().block(mismatch)

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.suspend()


class RefusingWriter:
    """Ends the rehearsal where something is to be written."""

    def __init__(self) -> None:
        self.refuse: Callable[[], NoReturn]

    def save(self, checkpoint: Any) -> NoReturn:
        self.refuse()

    def finish(self, outcome: Any) -> NoReturn:
        self.refuse()

    def call(self, operation: Any) -> NoReturn:
        self.refuse()


def rehearse(
    job: Job, records: Iterable[Recorded], *, alias: str, now: datetime
) -> Obstacle | None:
    """Replay one job; None if nothing that is recorded stands in its way.

    Raises: Held; database errors when a connection is lost; KeyboardInterrupt.
    """

    def obstacle(expected: str, found: object) -> Obstacle:
        shown = str(found)
        return Obstacle(job_id=job.pk, task_path=job.task_path, expected=expected, found=shown)

    task = registry.find_task(job.task_path)
    if task is None:
        return obstacle("a task of this path", "none is registered in this process")
    run = _run_of(job, task, records, alias, now)
    with rolled_back():
        try:
            arguments = instances.decode_arguments(job.arguments, job.task_path, job.pk)
            task.bind_arguments(tuple(arguments.args), arguments.kwargs)
        except (JobRowError, InvalidArgumentsError) as error:
            return obstacle("arguments that this code takes", error)
        except MissingInstanceError as error:
            is_fine = task.on_missing == "skip"
            return None if is_fine else obstacle("the instances it was enqueued with", error)
        raised = contextvars.copy_context().run(_call, run, arguments)
    if run.mismatch is not None:
        fields = vars(run.mismatch)
        return obstacle(fields["expected"], fields["found"])
    if raised is None or run.find_ending() is not None or _was_to_come(job, raised):
        return None
    ahead = run.history.root.ahead()
    expected = f"{ahead[0]} (recorded, not reached yet)" if ahead else "to go on from the last step"
    return obstacle(expected, f"{instances.error_path(raised)}: {instances.error_message(raised)}")


def _run_of(
    job: Job, task: Any, records: Iterable[Recorded], alias: str, now: datetime
) -> Rehearsal:
    claimed = copy.copy(job)
    claimed.state, claimed.claimed_at = JobState.RUNNING, now
    writer = RefusingWriter()
    run = Rehearsal(job=claimed, task=task, alias=alias, records=list(records), writer=writer)
    writer.refuse = run.suspend
    return run


def _call(run: Rehearsal, arguments: instances.Arguments) -> BaseException | None:
    """Call the function; what it raised."""
    task = run.task
    args = [task.make_context(run.public_job)] if task.takes_context else []
    function = async_to_sync(task.func) if task.is_async else task.func
    token = set_run(run)
    try:
        with restored(run.job):
            function(*args, *arguments.args, **arguments.kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # user code may raise anything
        if isinstance(error, DATABASE_ERRORS) and is_held_up(error):
            raise Held from error
        return error
    finally:
        reset_run(token)
    return None


def _was_to_come(job: Job, error: BaseException) -> bool:
    """Whether the job would end so with any code: its records say so, or its last attempt did."""
    if any(_is_recorded(one) for one in _all_of(error)):
        return True
    last = instances.TaskError.from_text(job.error) if job.error and job.attempt > 1 else None
    return last is not None and last.exception_class_path == instances.error_path(error)


def _is_recorded(error: BaseException) -> bool:
    """Whether a checkpoint raised this: as the engine's error, or as the declared one rebuilt."""
    if isinstance(error, StepFailedError | ChildFailedError | MapFailedError):
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_code is stepping.raise_recorded.__code__


def _all_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and what a group holds."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction on every database, and nothing of it left.

    Like the one that TestCase opens it is none of the user's: steps may stand in it.
    """
    with ExitStack() as stack:
        for alias in connections:
            block: Any = transaction.atomic(using=alias)
            block._from_testcase = True
            stack.enter_context(block)
            stack.callback(transaction.set_rollback, True, using=alias)  # noqa: FBT003 (Django's)
            if connections[alias].vendor == "postgresql":
                with connections[alias].cursor() as cursor:
                    cursor.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'")
        yield
