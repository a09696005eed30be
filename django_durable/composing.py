"""Doing several things at once inside a job, and waiting for all, for some, or for the first.

>>> payment, stock = gather(lambda: charge(order), lambda: reserve(order))
>>> results = map_task(make_invoice, customers, max_concurrency=20, max_failures=5)
>>> winner = first(lambda: wait_for_event("paid"), lambda: sleep(timedelta(days=3)))

Each branch has identities of its own, so it does not matter which ends first; steps of different
branches run side by side. ``map_task`` makes a job of every item, on all workers.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from asgiref.sync import sync_to_async

from django_durable.engine import branches as engine
from django_durable.engine import instances, starting, waiting
from django_durable.engine.intake import Request
from django_durable.engine.replay import SUCCESSFUL, Recorded
from django_durable.engine.run import Run, on_event_loop
from django_durable.engine.states import WaitKind
from django_durable.exceptions import AsyncStepError, InvalidOptionError, MapFailedError
from django_durable.tasks import BoundCall, Task

T = TypeVar("T")
R = TypeVar("R")


def gather(*branches: Callable[[], Any], return_exceptions: bool = False) -> list[Any]:
    """Run branches side by side; what they return, in their order.

    A branch is a function without arguments, or the handle of a child. All run until each has ended
    or waits, also if one fails; then the error of the first that failed, in the order given, is
    raised, or stands in its place with ``return_exceptions``. What two branches share in memory is
    not protected. Branches have threads and database connections of their own.

    Raises: InvalidOptionError for none; WaitError outside a job or in a step; Suspension.
    """
    run = _require_branches("gather()", branches)
    scope = run.scope
    scope.enter("gather()")
    try:
        made = engine.make_branches(run, scope.identify("gather"), branches)
        engine.run_all(run, made)
        engine.conclude(run, made)
    finally:
        scope.leave()
    return _results(made, return_exceptions=return_exceptions)


async def agather(*branches: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
    """The same for coroutines: ``await agather(charge(order), reserve(order))``."""
    run = await sync_to_async(_require_branches, thread_sensitive=True)("agather()", branches)
    scope = run.scope
    scope.enter("agather()")
    try:
        made = engine.make_branches(run, scope.identify("gather"), [_nothing] * len(branches))
        await engine.arun_all(made, branches)
        engine.conclude(run, made)
    finally:
        scope.leave()
    return _results(made, return_exceptions=return_exceptions)


def _nothing() -> None:
    """In the place of a coroutine, which is run by its loop."""


def _require_branches(call: str, branches: Sequence[Any]) -> Run:
    run = waiting.require_wait(call)
    if not branches:
        reason = "there is nothing to do; give it at least one branch."
        raise InvalidOptionError(option="branches", value=(), reason=reason)
    if call in _INSTEAD and on_event_loop():
        raise AsyncStepError(step=call, call=call, cure=_INSTEAD[call])
    for branch in branches:
        fit = callable(branch) if call != "agather()" else isinstance(branch, Awaitable)
        if not fit:
            what = "a function without arguments" if call != "agather()" else "awaitable"
            reason = f"a branch must be {what}; wrap the call: lambda: charge(order)."
            raise InvalidOptionError(option="branch", value=branch, reason=reason)
    return run


_INSTEAD = {
    "gather()": "agather(...)",
    "first()": "sync_to_async(first, thread_sensitive=True)(...)",
}
"""What to write on an event loop."""


def _results(made: Sequence[engine.Branch], *, return_exceptions: bool) -> list[Any]:
    if not return_exceptions:
        for branch in made:
            if branch.error is not None:
                raise branch.error
    return [branch.value if branch.error is None else branch.error for branch in made]


@dataclass(frozen=True, slots=True)
class First:
    """Which branch ended first, and what it returned."""

    index: int
    value: Any


def first(*branches: Callable[[], Any]) -> First:
    """Run branches side by side until one ends; which one is recorded, and the same on replay.

    The others stop at their next durable call, and are not run again; what they have done so far
    stands, and children they started go on. An event sent to the job that one of them took, and
    made nothing of, is put back for the next wait. What the first one raises is raised.

    Raises: as ``gather``.
    """
    run = _require_branches("first()", branches)
    scope = run.scope
    scope.enter("first()")
    try:
        found = waiting.find(run, _FIRST)
        made = engine.make_branches(run, found.identity, branches)
        if isinstance(found, Recorded):
            winner: engine.Branch | None = made[int(found.value or 0)]
            made[int(found.value or 0)].run()
        else:
            point = found
            winner = engine.run_until_first(run, made, lambda index: point.save(value=str(index)))
        engine.conclude(run, made if winner is None else [winner])
    finally:
        scope.leave()
    assert winner is not None  # without one each branch waits, and so did this one above
    return First(made.index(winner), _results([winner], return_exceptions=False)[0])


_FIRST = waiting.WaitRule(
    call="first()",
    name="first",
    checkpoint_kind="first",
    kind=WaitKind.SEVERAL,
    reason="",
    has_branches=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFailure:
    """An item whose child failed or was cancelled."""

    index: int
    child_id: str
    error_type: str
    error_message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MapResult(Generic[R]):
    """What became of a map: iterate over it for the values."""

    values: list[R]
    """What the children returned that succeeded, in the order of their items."""
    failures: list[ItemFailure]
    """The items that failed, in their order; as many as were tolerated."""
    unfinished: list[int]
    """Indexes of items that were not needed any more when ``min_successes`` was reached."""

    def __iter__(self) -> Iterator[R]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)


@overload
def map_task(
    task: Task[..., R],
    items: Iterable[BoundCall],
    *,
    max_concurrency: int | None = None,
    min_successes: int | None = None,
    max_failures: int | None = None,
) -> MapResult[R]: ...
@overload
def map_task(
    task: Task[[T], R],
    items: Iterable[T | BoundCall],
    *,
    max_concurrency: int | None = None,
    min_successes: int | None = None,
    max_failures: int | None = None,
) -> MapResult[R]: ...
def map_task(
    task: Task[..., R],
    items: Iterable[Any],
    *,
    max_concurrency: int | None = None,
    min_successes: int | None = None,
    max_failures: int | None = None,
) -> MapResult[R]:
    """One child for each item, on all workers; the job waits for them and is woken once.

    An item is the task's argument, or a call bound with ``task.bind(...)``. At most
    ``max_concurrency`` run at once. By default one failure is too many: as soon as more than
    ``max_failures`` have failed the rest is cancelled and MapFailedError raised. With
    ``min_successes`` failures are tolerated, and the map is over as soon as so many succeeded; the
    rest is cancelled. No items: an empty result.

    Raises: MapFailedError, on every replay alike; BulkItemError naming the item that is refused;
    InvalidOptionError; WaitError; Suspension.
    """
    starting.refuse_key(task)
    requests = [_request(task, item) for item in items]
    rule = _check_rule(len(requests), max_concurrency, min_successes, max_failures)
    record = starting.run_map(requests, task.path, rule)
    if record.state != SUCCESSFUL:
        raise _map_failure(record, task.path)
    return _map_result(record, instances.hints_of(task.func).get("return", Any))


def _request(task: Task[..., Any], item: Any) -> Request:
    if isinstance(item, BoundCall):
        return Request(item.task, item.args, item.kwargs)
    return Request(task, (item,), {})


def _check_rule(
    total: int, max_concurrency: Any, min_successes: Any, max_failures: Any
) -> starting.MapRule:
    _refuse_number("max_concurrency", max_concurrency, least=1)
    _refuse_number("min_successes", min_successes, least=1)
    _refuse_number("max_failures", max_failures, least=0)
    if min_successes is not None and total and min_successes > total:
        reason = f"there are only {total} items."
        raise InvalidOptionError(option="min_successes", value=min_successes, reason=reason)
    if max_failures is None:
        max_failures = 0 if min_successes is None else max(total - min_successes, 0)
    return starting.MapRule(
        total=total,
        max_concurrency=max_concurrency,
        min_successes=min_successes if total else None,
        max_failures=max_failures,
    )


def _refuse_number(option: str, value: Any, least: int) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
        return
    reason = f"it must be an integer from {least} on, or None."
    raise InvalidOptionError(option=option, value=value, reason=reason)


def _map_result(record: Recorded, hint: Any) -> MapResult[Any]:
    stored = json.loads(record.value or "{}")
    values, failures = stored["values"], stored["failures"]
    return MapResult(
        values=list(instances.decode(json.dumps(values), hint=dict[str, hint]).values()),
        failures=[
            ItemFailure(
                index=int(index),
                child_id=failure.get("child", "?"),
                error_type=failure["type"],
                error_message=failure["message"],
            )
            for index, failure in failures.items()
        ],
        unfinished=[
            index
            for index in range(stored["total"])
            if str(index) not in values and str(index) not in failures
        ],
    )


def _map_failure(record: Recorded, task_path: str) -> MapFailedError:
    stored = json.loads(record.error or "{}")
    return MapFailedError(
        failed=stored.get("failed", "?"),
        total=stored.get("total", "?"),
        index=stored.get("index", "?"),
        task_path=task_path,
        error_type=stored.get("type", "?"),
        error_message=stored.get("message", ""),
    )


@overload
async def amap_task(
    task: Task[..., R], items: Iterable[BoundCall], **limits: int | None
) -> MapResult[R]: ...
@overload
async def amap_task(
    task: Task[[T], R], items: Iterable[T | BoundCall], **limits: int | None
) -> MapResult[R]: ...
async def amap_task(task: Task[..., R], items: Iterable[Any], **limits: Any) -> MapResult[R]:
    result: MapResult[R] = await sync_to_async(map_task, thread_sensitive=True)(
        task, items, **limits
    )
    return result
