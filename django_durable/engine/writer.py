"""Group commit: durable points of several slots share a statement; each slot waits for its own.

No thread of its own. A slot that finds nobody writing becomes the leader and writes what is
pending, its own included; those who came meanwhile wait, and one of them leads the next batch. A
lone slot thus writes its own without a hand-over.

A COMMIT whose answer was lost is repeated: every operation here is one idempotent statement under a
lease, so the repeat finds its own row, or none. A bad row of a batch is written alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django_durable.engine.checkpoints import NewCheckpoint, Saved, save_checkpoints
from django_durable.engine.faults import (
    DATABASE_ERRORS,
    is_connection_error,
    is_held_up,
    is_repeatable,
)
from django_durable.engine.outcomes import Outcome, Written, finish_jobs
from django_durable.engine.sql import Connection

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
logger = logging.getLogger("django_durable")

LARGEST_BATCH = 500
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between tries to reach the database


@dataclass(slots=True, eq=False)
class Entry:
    """One operation somebody waits for."""

    write: Callable[[Any, list[Any]], list[Any]]
    item: Any
    caller: Caller
    answer: Any = None
    error: BaseException | None = None
    is_done: bool = False
    held_up: int = 0
    """How often somebody's lock was in its way."""
    is_patient: bool = True
    """Whether it is repeated until nothing is in its way; else, alone, it is tried once."""


@dataclass(slots=True, eq=False)
class Caller:
    """A thread that waits for its operations: until all are done, or until it is to lead."""

    left: int
    leads: bool = False
    gate: threading.Lock = field(default_factory=threading.Lock)

    def wake(self) -> None:
        with suppress(RuntimeError):  # another leader was quicker
            self.gate.release()


class GroupWriter:
    """Writes durable points over one connection of the engine's own."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._mutex = threading.Lock()
        self._pending: list[Entry] = []
        self._has_leader = False
        self._is_stale = False

    def save(self, checkpoint: NewCheckpoint) -> Saved:
        return cast("Saved", self._submit_one(save_checkpoints, checkpoint))

    def finish(self, outcome: Outcome) -> Written | None:
        return cast("Written | None", self._submit_one(finish_jobs, outcome))

    def finish_many(self, outcomes: list[Outcome]) -> list[Written | BaseException | None]:
        """Write outcomes of several jobs; an error stands where one was refused, or held up."""
        entries = self._submit(finish_jobs, outcomes, is_patient=False)
        return [entry.answer if entry.error is None else entry.error for entry in entries]

    def call(self, operation: Callable[[Connection], T]) -> T:
        return cast("T", self._submit_one(_call_each, operation))

    def reconnect(self) -> None:
        """Open another session for the next batch."""
        self._is_stale = True

    def _submit_one(self, write: Callable[[Any, list[Any]], list[Any]], item: Any) -> Any:
        (entry,) = self._submit(write, [item])
        if entry.error is not None:
            raise entry.error
        return entry.answer

    def _submit(
        self,
        write: Callable[[Any, list[Any]], list[Any]],
        items: list[Any],
        *,
        is_patient: bool = True,
    ) -> list[Entry]:
        """Put operations among the pending ones; wait until they are done, leading if need be."""
        if not items:
            return []
        caller = Caller(len(items))
        entries = [Entry(write, item, caller, is_patient=is_patient) for item in items]
        caller.gate.acquire()
        with self._mutex:
            self._pending += entries
            caller.leads = not self._has_leader
            self._has_leader = True
        while caller.left:
            if caller.leads:
                self._lead(caller)
            else:
                caller.gate.acquire()
        return entries

    def _lead(self, own: Caller) -> None:
        """Write a batch, then hand over to the first who waits, which may be oneself."""
        with self._mutex:
            batch, self._pending = self._pending[:LARGEST_BATCH], self._pending[LARGEST_BATCH:]
        self._write(batch)
        with self._mutex:
            self._pending += [entry for entry in batch if not entry.is_done]
            successor = self._pending[0].caller if self._pending else None
            self._has_leader = successor is not None
            own.leads = False
            if successor is not None:
                successor.leads = True
            done = {entry.caller: None for entry in batch if entry.is_done}
            for entry in batch:
                entry.caller.left -= entry.is_done
        for caller in [*done, successor]:
            if caller is not None and caller is not own and (caller.leads or not caller.left):
                caller.wake()

    def _write(self, batch: list[Entry]) -> None:
        groups: dict[Any, list[Entry]] = {(save_checkpoints, False): []}  # slots wait for them
        for entry in batch:
            if not entry.held_up:  # plain successes are a commit of their own, and answered apart
                is_plain = getattr(entry.item, "is_plain_success", False)
                groups.setdefault((entry.write, is_plain), []).append(entry)
        for (write, _), entries in groups.items():
            if entries:
                self._write_group(write, entries)
        self._write_held_up([entry for entry in batch if entry.held_up and not entry.is_done])

    def _write_held_up(self, entries: list[Entry]) -> None:
        """Write what was held up, each alone, until one is held up again: the others wait for all.

        What is left undone comes again behind the others, what was tried least before the rest.
        """
        for entry in sorted(entries, key=lambda entry: entry.held_up):
            self._write_group(entry.write, [entry])
            if not entry.is_done or (entry.error is not None and is_held_up(entry.error)):
                return

    def _write_group(self, write: Any, entries: list[Entry]) -> None:
        """One statement for all; alone, each, if one of them is refused or held up."""
        try:
            answers = self._repeat(write, [entry.item for entry in entries])
        except BaseException as error:
            self._note_failure(write, entries, error)
            return
        for entry, answer in zip(entries, answers, strict=True):
            entry.answer = answer
            entry.is_done = True

    def _note_failure(self, write: Any, entries: list[Entry], error: BaseException) -> None:
        if is_held_up(error):
            logger.warning("A durable write waits for a lock that somebody holds: %s", error)
            for entry in entries:
                entry.held_up += 1
            if len(entries) == 1 and not entries[0].is_patient:
                entries[0].error = error
                entries[0].is_done = True
        elif len(entries) > 1:
            for entry in entries:
                self._write_group(write, [entry])
        else:
            entries[0].error = error
            entries[0].is_done = True

    def _repeat(self, write: Any, items: list[Any]) -> list[Any]:
        """Run a statement until the database has answered it."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                if self._is_stale:
                    self._is_stale = False
                    self._drop_connection()
                if self._connection is None or self._connection.closed:
                    self._connection = self._connect()
                answers: list[Any] = write(self._connection, items)
                return answers
            except DATABASE_ERRORS as error:
                if is_connection_error(error):
                    self._drop_connection()
                elif not is_repeatable(error):
                    raise
                logger.warning("A durable write is repeated in %.2f s: %s", pause, error)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _call_each(connection: Connection, operations: list[Callable[[Connection], Any]]) -> list[Any]:
    return [operation(connection) for operation in operations]
