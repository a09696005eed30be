"""The tasks this process knows, by path. A row's path is looked up here, never imported."""

import difflib
from collections.abc import Iterator
from typing import Any, Protocol

from django_durable.exceptions import DuplicateTaskPathError, UnknownTaskError


class RegisteredTask(Protocol):
    """What the registry needs to know of a task."""

    @property
    def path(self) -> str: ...
    @property
    def aliases(self) -> tuple[str, ...]: ...
    @property
    def func(self) -> Any: ...
    @property
    def limit(self) -> Any: ...


_tasks: dict[str, Any] = {}
_conflicts: dict[str, DuplicateTaskPathError] = {}


def register(task: RegisteredTask) -> None:
    """Make a task known under its path and aliases. A clash is kept for ``get_conflicts``."""
    for path in (task.path, *task.aliases):
        known = _tasks.get(path)
        if known is not None and _home(known) != _home(task):
            _conflicts[path] = DuplicateTaskPathError(
                path=path, name=path, first=_home(known), second=_home(task)
            )
        else:
            _tasks[path] = task


def _home(task: RegisteredTask) -> str:
    return f"{task.func.__module__}.{task.func.__qualname__}"


def get_task(path: str) -> Any:
    """The task of a path or alias. Raises: UnknownTaskError, with the nearest known paths."""
    task = _tasks.get(path)
    if task is None:
        near = difflib.get_close_matches(path, _tasks, n=3)
        hint = f" Nearest known: {', '.join(near)}." if near else ""
        raise UnknownTaskError(path=path, hint=hint)
    return task


def find_task(path: str) -> Any | None:
    return _tasks.get(path)


def check_conflict(path: str) -> None:
    """Raises: DuplicateTaskPathError if two functions claim this path."""
    if path in _conflicts:
        raise _conflicts[path]


def get_conflicts() -> list[DuplicateTaskPathError]:
    return list(_conflicts.values())


def known_paths() -> list[str]:
    """Every path and alias that can be run here, without those in conflict."""
    return [path for path in _tasks if path not in _conflicts]


def iter_tasks() -> Iterator[Any]:
    """Each task once, ordered by path."""
    seen: dict[str, Any] = {task.path: task for task in _tasks.values()}
    return iter([seen[path] for path in sorted(seen)])


def declared_limits() -> dict[str, Any]:
    """The limits that tasks are declared with, by name."""
    return {task.limit.name: task.limit for task in iter_tasks() if task.limit is not None}


def forget(path: str) -> None:
    """Remove a path (for tests that declare tasks)."""
    _tasks.pop(path, None)
    _conflicts.pop(path, None)
