"""Connections that are lost at one statement, or at COMMIT, so that nobody knows what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")


class Fate(Enum):
    """What the server makes of a statement whose answer is never heard."""

    NEVER_ARRIVED = "it never arrived"
    ANSWER_LOST = "it is done"
    IN_FLIGHT = "it is still under way"


class Flight:
    """A transaction that the server is still at, though its client has given up."""

    def __init__(self) -> None:
        self.is_lost = False
        """Whether the answer was lost by now."""
        self._session: psycopg.Connection[Any] | None = None

    @property
    def is_up(self) -> bool:
        return self._session is not None

    def take_off(self, session: psycopg.Connection[Any]) -> None:
        self._session = session

    def land(self) -> None:
        """The COMMIT succeeds after all."""
        assert self._session is not None, "nothing is in flight"
        self._session.execute("commit")
        self.crash()

    def crash(self) -> None:
        """The transaction is rolled back."""
        if self._session is not None:
            self._session.close()
        self._session = None


@dataclass(slots=True)
class Loss:
    """A connection to be lost, once: at a statement that says ``statement``, or at ``COMMIT``."""

    statement: str
    fate: Fate
    flight: Flight = field(default_factory=Flight)
    has_happened: bool = False

    def happens_at(self, text: str) -> bool:
        happens = not self.has_happened and self.statement in text
        self.has_happened = self.has_happened or happens
        return happens


class Lossy:
    """A psycopg connection, as far as Django and the store use one, that may be lost."""

    def __init__(self, raw: psycopg.Connection[Any], loss: Loss) -> None:
        self.raw = raw
        self._loss = loss
        self._is_lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def cursor(self, *args: Any, **kwargs: Any) -> LossyCursor:
        self._check()
        return LossyCursor(self, self.raw.cursor(*args, **kwargs))

    def commit(self) -> None:
        self.pass_on("COMMIT", self.raw.commit)

    def rollback(self) -> None:
        self._check()
        self.raw.rollback()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As psycopg's, with a COMMIT that may be lost."""
        self._check()
        self.raw.execute("begin")
        try:
            yield
        except BaseException:
            if not self.closed:
                self.raw.execute("rollback")
            raise
        self.pass_on("COMMIT", lambda: self.raw.execute("commit"))

    def close(self) -> None:
        if not self._is_lost:
            self.raw.close()

    @property
    def closed(self) -> bool:
        return self._is_lost or self.raw.closed

    @property
    def autocommit(self) -> bool:
        return self.raw.autocommit

    @autocommit.setter
    def autocommit(self, on: bool) -> None:
        self._check()
        self.raw.autocommit = on

    def pass_on(self, text: str, act: Callable[[], T]) -> T:
        """Do it; or, if this is the statement, be lost and raise as a lost connection does."""
        self._check()
        if not self._loss.happens_at(text):
            return act()
        self._is_lost = self._loss.flight.is_lost = True
        if self._loss.fate is Fate.IN_FLIGHT:
            self._leave_open(text, act)
        else:
            if self._loss.fate is Fate.ANSWER_LOST:
                act()
            self.raw.close()
        raise psycopg.OperationalError("the connection was lost, by this test")

    def _leave_open(self, text: str, act: Callable[[], Any]) -> None:
        """It is in flight when it has done its work: whoever lands it does so in another thread."""
        try:
            if text != "COMMIT":
                self.raw.execute("begin")
                act()
        finally:
            self._loss.flight.take_off(self.raw)

    def _check(self) -> None:
        if self._is_lost:
            raise psycopg.OperationalError("the connection is closed")


class LossyCursor:
    def __init__(self, owner: Lossy, raw: psycopg.Cursor[Any]) -> None:
        self._owner = owner
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def __enter__(self) -> LossyCursor:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(self._raw)

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
        return self._owner.pass_on(
            str(statement), lambda: self._raw.execute(statement, params, **options)
        )
