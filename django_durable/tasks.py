"""Tasks: functions whose calls are jobs.

>>> @task(queue_name="orders", retry=RetryPolicy(max_attempts=5))
... def fulfil_order(order: Order) -> str: ...
>>> fulfil_order.enqueue(order)
>>> fulfil_order.using(delay=timedelta(hours=1), priority=50).enqueue(order)

A task has the attributes and verbs of Django's ``Task``, on every supported Django.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    TypeVar,
    overload,
)
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async

from django_durable.children import ChildHandle, start_child
from django_durable.cron import Cron
from django_durable.engine import declaring, finding, instances, intake, registry
from django_durable.engine.options import check_options
from django_durable.engine.replay import check_name
from django_durable.exceptions import (
    InvalidArgumentsError,
    InvalidOptionError,
    TaskDefinitionError,
)
from django_durable.limits import Limit
from django_durable.retry import RetryPolicy
from django_durable.unique import Unique

if TYPE_CHECKING:
    from django_durable.models import Job

P = ParamSpec("P")
R = TypeVar("R")
DEFAULT_KEY_RETENTION = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """The first argument of a task declared with ``takes_context=True``."""

    task_result: Job
    """The job's row as it was claimed."""

    @property
    def attempt(self) -> int:
        return self.task_result.attempt


@dataclass(frozen=True, slots=True)
class BoundCall(intake.Request):
    """A task and its arguments, for ``enqueue_many``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task(Generic[P, R]):
    """A function that runs as a job, with its options. Made by ``@task``, changed by ``using``."""

    func: Callable[..., Any]
    """The function itself."""
    path: str
    """The stored identity: module and qualified name, unless declared."""
    aliases: tuple[str, ...] = ()
    """Former paths under which stored jobs may still name this task."""
    queue_name: str = "default"
    priority: int = 0
    """-100 to 100, higher first."""
    run_after: datetime | None = None
    """Not before this aware time."""
    delay: timedelta | None = None
    """Not before this long after enqueueing, on the database's clock."""
    deadline: timedelta | datetime | None = None
    """Past this time after enqueueing, or this aware time, the job does not start, and fails.

    Jobs that it enqueues have the same deadline, or an earlier one of their own.
    """
    on_parent_end: Literal["cancel"] | None = None
    """What becomes of the job, enqueued by another one, if that ends first: it is cancelled."""
    takes_context: bool = False
    retry: RetryPolicy | None = None
    """When to try again; None: ``DURABLE["RETRY"]``."""
    limit: Limit | None = None
    """How many such jobs run at once, or start within a time; None: as many as there are slots."""
    atomic: bool = False
    """Whether the whole body and the job's outcome are one transaction."""
    on_missing: Literal["fail", "skip"] = "fail"
    """What becomes of the job if a model instance among its arguments is gone."""
    unique: Unique | None = None
    """What makes a job one of a kind, and what a second call gets."""
    idempotency_key: str | None = None
    idempotency_retention: timedelta = DEFAULT_KEY_RETENTION
    """How long the key answers, counted from enqueueing."""
    outside_transaction: bool = False
    """Whether a transaction on another database only is meant."""
    subject: Any = field(default=None, repr=False)
    """The model instance the job is about; lists can be filtered by it."""
    schedules: tuple[Cron, ...] = ()
    """When workers enqueue jobs of it by themselves; declared as ``schedule``."""

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f'Task "{self.path}" is not called directly: .call() runs it here and now, '
            ".enqueue() makes it a job (also inside another job)."
        )

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.func.__name__)

    @property
    def module_path(self) -> str:
        return f"{self.func.__module__}.{self.func.__qualname__}"

    @property
    def backend(self) -> str:
        return "default"

    @property
    def is_async(self) -> bool:
        return iscoroutinefunction(self.func)

    @property
    def signature(self) -> instances.Signature:
        """What the function says of the parameters that callers pass."""
        return instances.signature_of(self.func, takes_context=self.takes_context)

    def using(self, **options: Any) -> Task[P, R]:
        """The same task with other options: any field above but ``func``, ``path``, ``aliases``.

        Raises: InvalidOptionError.
        """
        check_options(options, allowed=_CHANGEABLE)
        if options.get("delay") is not None and options.get("run_after") is not None:
            reason = "run_after is given too, and a job is due only once."
            raise InvalidOptionError(option="delay", value=options["delay"], reason=reason)
        if "delay" in options:
            options.setdefault("run_after", None)
        elif "run_after" in options:
            options.setdefault("delay", None)
        return replace(self, **options)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> BoundCall:
        """This call as a value, for ``enqueue_many``."""
        return BoundCall(self, args, kwargs)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Make the call a job, in the caller's transaction. Raises: EnqueueError."""
        return intake.submit(intake.Request(self, args, kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        return await sync_to_async(self.enqueue, thread_sensitive=True)(*args, **kwargs)

    def start(self, *args: P.args, **kwargs: P.kwargs) -> ChildHandle[R]:
        """In a job: make the call a child whose ``result()`` this job can await.

        Exactly-once, as ``enqueue`` is. Raises: WaitError outside a job or in a step; EnqueueError.
        """
        return start_child(self, args, kwargs)

    async def astart(self, *args: P.args, **kwargs: P.kwargs) -> ChildHandle[R]:
        return await sync_to_async(self.start, thread_sensitive=True)(*args, **kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, without a job: its steps are plain calls."""
        result: R = (
            async_to_sync(self.func)(*args, **kwargs)
            if self.is_async
            else self.func(*args, **kwargs)
        )
        return result

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> R:
        function = self.func if self.is_async else sync_to_async(self.func, thread_sensitive=True)
        result: R = await function(*args, **kwargs)
        return result

    def get_result(self, result_id: UUID | str) -> Job:
        """The job of this task with that id. Raises: JobNotFoundError."""
        return finding.find_job(result_id, task_paths=(self.path, *self.aliases))

    async def aget_result(self, result_id: UUID | str) -> Job:
        return await sync_to_async(self.get_result, thread_sensitive=True)(result_id)

    def make_context(self, job: Job) -> TaskContext:
        """What a task declared with ``takes_context=True`` is given first."""
        return TaskContext(task_result=job)

    def bind_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments by position, then by name: the same however they were passed.

        Raises: InvalidArgumentsError if the function could not be called so.
        """
        given = (None, *args) if self.takes_context else args
        try:
            bound = instances.python_signature(self.func).bind(*given, **kwargs)
        except TypeError as error:
            raise InvalidArgumentsError(path=self.path, reason=str(error)) from None
        return bound.args[1:] if self.takes_context else bound.args, bound.kwargs


_FIXED = {"func", "path", "aliases", "takes_context", "atomic", "schedules"}
_CHANGEABLE = frozenset(f.name for f in fields(Task)) - _FIXED


class TaskDecorator:
    """What ``task(...)`` returns: takes the function, keeps its signature."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Task[..., Any]:
        return _declare(function, **self._options)


class ContextTaskDecorator(TaskDecorator):
    """The same for tasks that take a context, which callers do not pass."""

    @overload  # type: ignore[override]  # the first parameter is the engine's, not the caller's
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /
    ) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext, P], R], /) -> Task[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Task[..., Any]:
        return _declare(function, **self._options)


@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(*, takes_context: Literal[True], **options: Any) -> ContextTaskDecorator: ...
@overload
def task(
    *,
    path: str | None = None,
    aliases: tuple[str, ...] = (),
    queue_name: str = "default",
    priority: int = 0,
    deadline: timedelta | datetime | None = None,
    on_parent_end: Literal["cancel"] | None = None,
    retry: RetryPolicy | None = None,
    limit: Limit | None = None,
    unique: Unique | None = None,
    atomic: bool = False,
    on_missing: Literal["fail", "skip"] = "fail",
    schedule: Cron | tuple[Cron, ...] | None = None,
    takes_context: Literal[False] = False,
) -> TaskDecorator: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a task. The options are fields of ``Task``.

    ``path`` is the stored identity (default: where the function lives); give one to be free to move
    the function, and put former ones into ``aliases``. ``atomic=True`` makes the whole body and the
    job's outcome one transaction: exactly-once work for a task without steps.

    Raises: TaskDefinitionError, InvalidOptionError.
    """
    if function is not None:
        return _declare(function)
    if options.get("takes_context"):
        return ContextTaskDecorator(**options)
    return TaskDecorator(**options)


def _declare(
    function: Callable[..., Any],
    *,
    path: str | None = None,
    schedule: Cron | tuple[Cron, ...] | None = None,
    **options: Any,
) -> Task[..., Any]:
    if isinstance(function, Task) or not inspect.isfunction(function):
        raise TaskDefinitionError(name=repr(function), reason="a task is made from a function.")
    name = function.__qualname__
    if path is None:
        if "<" in name or "." in name:
            reason = "it is not at the top of a module; move it, or give it @task(path=...)."
            raise TaskDefinitionError(name=name, reason=reason)
        path = f"{function.__module__}.{name}"
    check_options(options, allowed=_CHANGEABLE | {"aliases", "takes_context", "atomic"})
    if options.get("atomic") and iscoroutinefunction(function):
        reason = "Django has no asynchronous transactions; an atomic task is def, not async def."
        raise TaskDefinitionError(name=name, reason=reason)
    aliases = options.pop("aliases", ())
    if isinstance(aliases, str):
        raise TaskDefinitionError(name=name, reason="aliases is a tuple of paths, not one text.")
    aliases = tuple(check_name(alias, what="task") for alias in aliases)
    declared: Task[..., Any] = Task(
        func=function, path=check_name(path, what="task"), aliases=aliases, **options
    )
    if schedule is not None:
        declared = replace(declared, schedules=_schedules_of(declared, schedule))
    _check_limit(declared)
    registry.register(declared)
    return declared


def _check_limit(declared: Task[..., Any]) -> None:
    """Raises: TaskDefinitionError if another task declares the same limit with other numbers."""
    if (limit := declared.limit) is None:
        return
    for other in registry.iter_tasks():
        same_name = other.limit is not None and other.limit.name == limit.name
        if same_name and other.path != declared.path and other.limit.numbers != limit.numbers:
            reason = (
                f'its limit "{limit.name}" has other numbers in task "{other.path}". '
                "Make it one Limit, and give that to both."
            )
            raise TaskDefinitionError(name=declared.path, reason=reason)


def _schedules_of(declared: Task[..., Any], schedule: object) -> tuple[Cron, ...]:
    """Raises: TaskDefinitionError."""
    crons = schedule if isinstance(schedule, tuple | list) else (schedule,)
    if not all(isinstance(cron, Cron) for cron in crons):
        reason = "schedule is a Cron(...), or a tuple of several, each with its own name."
        raise TaskDefinitionError(name=declared.name, reason=reason)
    try:
        return declaring.named(declared, crons)
    except (InvalidOptionError, InvalidArgumentsError) as error:
        raise TaskDefinitionError(name=declared.name, reason=str(error)) from None
