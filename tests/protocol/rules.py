"""A rule of the protocol: the story that needs it, and the ways to switch it off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from django.db import connection

from tests.protocol.stage import Stage

Switch = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``story`` holds as the code is. With any of ``off`` it fails, saying ``symptom``."""

    name: str
    story: Callable[[Stage], None]
    off: Mapping[str, Switch]
    symptom: str

    def __str__(self) -> str:
        return f"{self.name}: {self.story.__name__}".replace("_", " ")


def replaced(module: ModuleType, statement: str, old: str, new: str) -> Switch:
    """The statement of a store module says ``new`` wherever it said ``old``."""

    def switch() -> AbstractContextManager[None]:
        text = getattr(module, statement)
        assert old in text, f"{statement} does not say {old!r}"
        return _patch(module, statement, text.replace(old, new))

    return switch


def cut(module: ModuleType, statement: str, start: str, end: str) -> Switch:
    """The statement of a store module without a part, from ``start`` to ``end``."""

    def switch() -> AbstractContextManager[None]:
        before, found, rest = getattr(module, statement).partition(start)
        _, also_found, after = rest.partition(end)
        assert found, f"{statement} does not say {start!r}"
        assert also_found, f"{statement} does not say {end!r} after it"
        return _patch(module, statement, before + after)

    return switch


def patched(owner: Any, name: str, value: Any) -> Switch:
    """A function of the code does something else."""

    def switch() -> AbstractContextManager[None]:
        assert getattr(owner, name) is not value
        return _patch(owner, name, value)

    return switch


def both(*switches: Switch) -> Switch:
    @contextmanager
    def switch() -> Iterator[None]:
        with ExitStack() as stack:
            for one in switches:
                stack.enter_context(one())
            yield

    return switch


def executed(off: str, on: str) -> Switch:
    """The schema is another one meanwhile."""

    @contextmanager
    def switch() -> Iterator[None]:
        with connection.cursor() as cursor:
            cursor.execute(off)
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute(on)

    return switch


@contextmanager
def _patch(owner: Any, name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(owner, name, value)
        yield
