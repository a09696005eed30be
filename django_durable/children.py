"""Children that a job has started: a handle for each, and its result.

>>> pdf = make_pdf.start(order)             # in a task: begins now, in its own slot
>>> mail(pdf.result())                      # the parent gives its slot up until it is there
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from django_durable.engine import instances, starting
from django_durable.engine.intake import Request
from django_durable.engine.replay import SUCCESSFUL, Recorded
from django_durable.engine.run import current_run
from django_durable.exceptions import ChildFailedError, JobNotFoundError, WaitOutsideJobError

if TYPE_CHECKING:
    from django_durable.models import Job
    from django_durable.tasks import Task

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True, kw_only=True)
class ChildHandle(Generic[R]):
    """A child that this job has started. A replay meets the same child."""

    task: Task[..., R]
    identity: str
    """That of the starting call; the child's ``origin``."""
    _job: Job | None = field(default=None, repr=False)
    is_inline = True

    @property
    def job(self) -> Job:
        """The child's row, as it was when first looked at. Raises: JobNotFoundError if pruned."""
        if self._job is None:
            run = current_run()
            if run is None:
                raise WaitOutsideJobError(call=".job")
            self._job = starting.find_started(run, self.identity)
        if self._job is None:
            raise JobNotFoundError(job_id=self.identity)
        return self._job

    def result(self) -> R:
        """What the child returned; until then the job is suspended.

        Raises: ChildFailedError if it failed or was cancelled, on every replay alike; WaitError
        where nothing can wait; Suspension.
        """
        record = starting.await_child(self.task.path, self.identity)
        if record.state != SUCCESSFUL:
            raise _failure_of(record)
        value: R = instances.decode(record.value or "null", hint=_return_hint(self.task))
        return value

    async def aresult(self) -> R:
        return await sync_to_async(self.result, thread_sensitive=True)()

    def __call__(self) -> R:
        """As a branch of ``gather``."""
        return self.result()


def start_child(task: Task[P, R], args: Any, kwargs: Any) -> ChildHandle[R]:
    """What ``Task.start`` does."""
    identity, job = starting.start(Request(task, args, kwargs))
    return ChildHandle(task=task, identity=identity, _job=job)


def _return_hint(task: Task[..., Any]) -> Any:
    return instances.hints_of(task.func).get("return", Any)


def _failure_of(record: Recorded) -> ChildFailedError:
    stored = json.loads(record.error or "{}")
    return ChildFailedError(
        child_id=stored.get("child", "?"),
        task_path=stored.get("task_path", "?"),
        state=stored.get("state", "failed"),
        error_type=stored.get("type", "?"),
        error_message=stored.get("message", ""),
    )
