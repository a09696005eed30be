"""Sessions that race: each in a thread of its own, stopped between two of its statements."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any, ParamSpec, TypeVar

import psycopg
from django.db import connection, connections, transaction

from django_durable.engine.sessions import connect
from django_durable.engine.writer import GroupWriter
from tests.protocol.lossy import Fate, Flight, Loss, Lossy
from tests.scenarios.harness import eventually
from tests.sessions import BLOCKED, end_other_sessions

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which what has not come about fails a test; nothing waits so long in peace."""
ALIAS = "default"


class Actor:
    """One thread with its own Django connection. What it is given it does in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self.pid = self.do(_backend_pid)

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._thread.submit(function, *args, **kwargs)

    def do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.start(function, *args, **kwargs).result(PATIENCE)

    def begin(self) -> None:
        """From now on nothing is committed, whatever the code under test does."""
        self.do(transaction.set_autocommit, False)

    def commit(self) -> None:
        self.do(_end, transaction.commit)

    def rollback(self) -> None:
        self.do(_end, transaction.rollback)

    def is_stopped_in(self, future: Future[Any]) -> bool:
        """Once it is known: does its statement wait for a lock (True), or is it done (False)?"""

        def fact() -> str:
            return "done" if future.done() else "stopped" if waits_for_a_lock(self.pid) else ""

        return eventually(fact, f"{self.name} is stopped or done", PATIENCE) == "stopped"

    def close(self) -> None:
        self._thread.submit(connections.close_all)
        self._thread.shutdown()


class Stage:
    """Makes actors, writers and gates, and clears them all away, wherever they stand."""

    def __init__(self) -> None:
        self._actors: list[Actor] = []
        self._writers: list[GroupWriter] = []
        self._gates: list[Event] = []
        self._flights: list[Flight] = []

    def actor(self, name: str) -> Actor:
        actor = Actor(name)
        self._actors.append(actor)
        return actor

    def actors(self, *names: str) -> list[Actor]:
        return [self.actor(name) for name in names]

    def gate(self) -> Event:
        gate = Event()
        self._gates.append(gate)
        return gate

    def writer(self) -> GroupWriter:
        return self._keep(GroupWriter(lambda: connect(ALIAS)))

    def lossy_writer(
        self,
        statement: str,
        fate: Fate,
        *,
        meanwhile: Callable[[], object] = lambda: None,
        kind: type[GroupWriter] = GroupWriter,
    ) -> tuple[GroupWriter, Flight]:
        """A writer that loses its connection at a statement, and that statement's fate.

        ``meanwhile`` happens before the writer connects again.
        """
        loss = self._loss(statement, fate)

        def connect_or_again() -> Any:
            if loss.has_happened:
                meanwhile()
            return Lossy(connect(ALIAS), loss)

        return self._keep(kind(connect_or_again)), loss.flight

    def lose_connection(self, statement: str, fate: Fate) -> Flight:
        """The calling thread will lose its Django connection at a statement, or at ``COMMIT``."""
        loss = self._loss(statement, fate)
        wrapper: Any = connections[ALIAS]
        wrapper.close()
        new_connection = wrapper.get_new_connection
        wrapper.get_new_connection = lambda params: Lossy(new_connection(params), loss)
        return loss.flight

    def _loss(self, statement: str, fate: Fate) -> Loss:
        loss = Loss(statement, fate)
        self._flights.append(loss.flight)
        return loss

    def _keep(self, writer: GroupWriter) -> GroupWriter:
        self._writers.append(writer)
        return writer

    def close(self) -> None:
        """End whatever still stands: sessions first, so that nobody waits for anybody."""
        for gate in self._gates:
            gate.set()
        for flight in self._flights:
            flight.crash()
        end_other_sessions()
        for actor in self._actors:
            actor.close()
        for writer in self._writers:
            writer._drop_connection()
        self.__init__()  # type: ignore[misc]  # as new, so that closing twice is harmless


def waits_for_a_lock(pid: int) -> bool:
    return truth(f"select exists (select {BLOCKED} and pid = %s)", pid)


def somebody_waits(sessions: int = 1) -> bool:
    """Whether so many sessions of this database wait for a lock."""
    return truth(f"select count(*) >= %s {BLOCKED}", sessions)


def is_held_up(future: Future[Any]) -> bool:
    """Once it is known: does somebody wait for a lock (True), or is this done (False)?"""

    def fact() -> str:
        return "done" if future.done() else "held up" if somebody_waits() else ""

    return eventually(fact, "somebody waits for a lock, or all is done", PATIENCE) == "held up"


def truth(question: str, *params: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(question, params)
        return bool(cursor.fetchone()[0])


def failure_of(future: Future[Any]) -> BaseException | None:
    """What a session's work raised, or None."""
    return future.exception(PATIENCE)


def _backend_pid() -> int:
    connection.ensure_connection()
    raw: psycopg.Connection[Any] = connections[ALIAS].connection
    return raw.info.backend_pid


def _end(how: Callable[[], None]) -> None:
    how()
    transaction.set_autocommit(True)
