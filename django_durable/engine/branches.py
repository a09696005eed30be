"""Branches of a job: each a scope of its own, run side by side, ended or suspended one by one.

Whatever becomes of one branch, the others go on until each has ended or waits. Only then does the
job go on, fail or wait itself; so it never matters which branch was faster, unless the job asked
for the first one, and then that is recorded.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from django.db import connections

from django_durable.engine.replay import Scope
from django_durable.engine.run import (
    Ending,
    Run,
    Stop,
    enter_scope,
    leave_scope,
)
from django_durable.engine.threads import release_connections
from django_durable.engine.waits import put_messages_back
from django_durable.exceptions import Suspension, SuspensionSwallowedError

OUTRUN = Ending(stop=Stop.OUTRUN)
MOST_THREADS = 32
"""How many branches of one job have threads at once; the others take their turn."""


@dataclass(slots=True, eq=False)
class Branch:
    """One branch in one run. ``is_inline``: it never blocks, so it needs no thread."""

    scope: Scope
    function: Callable[[], Any]
    is_inline: bool = False
    value: Any = None
    error: BaseException | None = None
    has_run: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether it returned or raised, rather than being suspended."""
        return self.has_run and self.scope.ending is None

    def run(self) -> None:
        token = enter_scope(self.scope)
        try:
            self.value = self.function()
        except BaseException as error:  # user code may raise anything
            self.error = error
        finally:
            leave_scope(token)
            self.has_run = True

    async def arun(self, awaitable: Awaitable[Any]) -> None:
        token = enter_scope(self.scope)
        try:
            self.value = await awaitable
        except BaseException as error:
            self.error = error
            if isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling():  # type: ignore[union-attr]  # in a task
                raise
        finally:
            leave_scope(token)
            self.has_run = True


def make_branches(run: Run, composite: str, functions: Sequence[Callable[[], Any]]) -> list[Branch]:
    """The branches of one composite call, whose identity is ``composite``."""
    outer = run.scope
    outer.reach(composite)
    return [
        Branch(
            scope=run.history.scope(f"{composite}/{index}/", outer),
            function=function,
            is_inline=getattr(function, "is_inline", False),
        )
        for index, function in enumerate(functions)
    ]


def run_all(run: Run, branches: Sequence[Branch]) -> None:
    """Run branches until each has ended or waits."""
    for branch in branches:
        if branch.is_inline or not run.parallel:
            branch.run()
    todo = [branch for branch in branches if not branch.has_run]
    ended: SimpleQueue[Branch] = SimpleQueue()
    _start_threads(todo, ended)
    for _ in todo:
        ended.get()


def run_until_first(
    run: Run, branches: Sequence[Branch], record: Callable[[int], object]
) -> Branch | None:
    """Run branches until one has ended, let the others stop, and ``record`` its index.

    A branch stops at its next durable call; until then this waits for it. A message that it took
    and made nothing of is put back. None: each one waits.
    """
    winner = _find_first(run, branches)
    if winner is None:
        return None
    with suppress(Suspension):  # the run remembers; ``conclude`` raises it
        put_back(run, [branch.scope for branch in branches if branch is not winner])
        record(branches.index(winner))
    return winner


def _find_first(run: Run, branches: Sequence[Branch]) -> Branch | None:
    for branch in branches:
        if branch.is_inline or not run.parallel:
            branch.run()
            if branch.has_ended and run.ending is None:
                return branch
    todo = [branch for branch in branches if not branch.has_run]
    ended: SimpleQueue[Branch] = SimpleQueue()
    _start_threads(todo, ended)
    winner: Branch | None = None
    for _ in todo:
        branch = ended.get()
        if winner is None and branch.has_ended and run.ending is None:
            winner = branch
            _stop_others(winner, branches)
    return winner


def _stop_others(winner: Branch, branches: Sequence[Branch]) -> None:
    for branch in branches:
        if branch is not winner:
            branch.scope.ending = branch.scope.ending or OUTRUN


def put_back(run: Run, losers: Sequence[Scope]) -> None:
    """Put messages back that these branches took last.

    What a branch went on from stays, even if it only waits since. Nothing is recorded after what is
    undone, so it can be undone alone: should the process die now, the branch would wait again.
    """
    job_id, token, history = run.job.id, run.job.lease_token, run.history
    taken = [
        record.identity
        for record in history.records.values()
        if any(record.identity.startswith(scope.path) for scope in losers)
        and record.is_taken_message
        and history.scope_of(record.identity).ending in (None, OUTRUN)
        and history.is_last(record)
    ]
    if not taken:
        return
    run.writer.call(lambda connection: put_messages_back(connection, job_id, token, taken))
    history.forget(taken)


def _start_threads(branches: Sequence[Branch], ended: SimpleQueue[Branch]) -> None:
    """Let a few daemon threads, each a copy of this context, take branches in their order.

    They share the worker's pool with this thread, which only waits for them: it gives its own
    connection back, or jobs that had queried would hold what their branches need.
    """
    release_connections()
    todo: SimpleQueue[Branch | None] = SimpleQueue()
    for branch in branches:
        todo.put(branch)
    for _ in range(min(len(branches), MOST_THREADS)):
        todo.put(None)
        _start_thread(contextvars.copy_context(), todo, ended)


def _start_thread(
    context: contextvars.Context,
    todo: SimpleQueue[Branch | None],
    ended: SimpleQueue[Branch],
) -> None:
    thread = threading.Thread(
        target=context.run,
        args=(_work, todo, ended),
        name="durable-branch",
        daemon=True,
    )
    thread.start()


def _work(todo: SimpleQueue[Branch | None], ended: SimpleQueue[Branch]) -> None:
    """Run one branch after the other; the rest is left to another thread if this is given up."""
    context = contextvars.copy_context()
    while (branch := todo.get()) is not None:

        def abandon(branch: Branch = branch) -> None:
            branch.error, branch.has_run = Suspension(Stop.GIVEN_UP.value), True
            _start_thread(context, todo, ended)
            ended.put(branch)

        branch.scope.abandon = abandon
        branch.run()
        if branch.scope.is_abandoned:
            return
        branch.scope.abandon = None
        try:
            connections.close_all()
        finally:
            ended.put(branch)


async def arun_all(branches: Sequence[Branch], awaitables: Sequence[Awaitable[Any]]) -> None:
    """The same for coroutines, as tasks of the running loop."""
    async with asyncio.TaskGroup() as group:
        for branch, awaitable in zip(branches, awaitables, strict=True):
            group.create_task(branch.arun(awaitable))


def conclude(run: Run, branches: Sequence[Branch]) -> None:
    """Stop or suspend this branch if one of its own did. Raises: Suspension, or that one swallowed
    it.
    """
    run.check()
    standing = [branch for branch in branches if branch.scope.ending is not None]
    for branch in standing:
        if not has_suspension(branch.error):
            raise SuspensionSwallowedError(task_path=run.job.task_path)
    if standing:
        endings: list[Ending] = [branch.scope.ending for branch in standing]
        agains = [ending.again for ending in endings if ending.again is not None]
        # several branches may await the same child
        waits = {wait.checkpoint.identity: wait for one in endings for wait in one.waits}
        run.suspend(*waits.values(), again=min(agains, default=None))


def has_suspension(error: BaseException | None) -> bool:
    """Whether a Suspension came through, alone or wrapped by a TaskGroup."""
    if isinstance(error, BaseExceptionGroup):
        return any(has_suspension(inner) for inner in error.exceptions)
    return isinstance(error, Suspension)
