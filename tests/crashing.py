"""The death of a process at a durable point, in the test's own process and transaction.

``run_jobs`` runs jobs by the engine's rules on one connection. A ``Life`` stands around every
statement on it, counts the durable points as tests/scenarios/mortal.py does, and "kills" at one:
from then on nothing reaches the database, open transactions are rolled back, and what is left on
the stack unwinds. Works inside a ``TestCase``'s transaction, where a COMMIT is RELEASE SAVEPOINT.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from django.db import connection
from django.db.transaction import Atomic

from django_durable.engine.claims import MARK_RUNNING
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.liveness import RECOVER_JOBS
from django_durable.engine.waits import PROMOTE_DUE
from django_durable.models import Worker

WRITES = re.compile(r"\b(?:insert\s+into|update|delete\s+from)\s+\"?durable_(?!worker)\w+", re.I)
CHORES = frozenset({PROMOTE_DUE, RECOVER_JOBS})
"""What any worker may do at any time; not counted."""


class Crashed(BaseException):
    """The process is dead."""


@dataclass(frozen=True, slots=True)
class Death:
    """Before or after the ``at``-th durable point of a process."""

    when: str
    at: int

    def __str__(self) -> str:
        return f"{self.when} durable point {self.at}"


class Life:
    """One process: the durable points it came by, and where it dies, if it does.

    What runs jobs in its ``with`` blocks is that process. When it dies a block ends early, and the
    worker is known to be lost.
    """

    def __init__(self, death: Death | None = None) -> None:
        self.points = 0
        self.is_dead = False
        self._death = death
        self._has_begun = False
        self._has_written = False
        self._depth = len(connection.savepoint_ids)
        self._stack = ExitStack()

    def __enter__(self) -> Life:
        self._stack.enter_context(connection.execute_wrapper(self._stand_around))
        enter = Atomic.__enter__

        def enter_for_real(block: Any) -> None:
            """Outside a test, one without a savepoint would begin a transaction here."""
            block.savepoint = block.savepoint or len(connection.savepoint_ids) == self._depth
            enter(block)

        self._stack.enter_context(patch.object(Atomic, "__enter__", enter_for_real))
        return self

    def __exit__(self, _: object, error: object, __: object) -> bool:
        self._stack.close()
        if isinstance(error, Crashed):
            Worker.objects.filter(stopped_at=None).update(lost_at=StatementTimestamp())
        return isinstance(error, Crashed)

    def _stand_around(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        def send(text: str = sql) -> Any:
            return execute(text, params if text is sql else None, many, context)

        if self.is_dead:
            return self._unwind(send, sql)
        self._has_begun = self._has_begun or sql == MARK_RUNNING
        if not self._has_begun:
            return send()
        is_inside = len(connection.savepoint_ids) > self._depth
        if sql.startswith("RELEASE SAVEPOINT") and not is_inside and self._has_written:
            self._has_written = False
            return self._pass(send, undo=lambda: send(_rollback_of(sql)))
        if sql.startswith("ROLLBACK TO SAVEPOINT") and not is_inside:
            self._has_written = False
        if sql in CHORES or not WRITES.search(sql):
            return send()
        if is_inside:
            self._has_written = True
            return send()
        return self._pass(send)

    def _pass(self, send: Callable[[], Any], undo: Callable[[], Any] = lambda: None) -> Any:
        """Come by a durable point. ``undo`` is what becomes of a commit that never arrived."""
        self.points += 1
        if self._death == Death("before", self.points):
            undo()
            self._die()
        answer = send()
        if self._death == Death("after", self.points):
            self._die()
        return answer

    def _die(self) -> None:
        self.is_dead = True
        raise Crashed

    def _unwind(self, send: Callable[..., Any], sql: str) -> Any:
        """Of a dead process only its transactions' rollbacks are carried out, by the server."""
        if sql.startswith("RELEASE SAVEPOINT"):
            send(_rollback_of(sql))
            return send()
        if sql.startswith("ROLLBACK TO SAVEPOINT"):
            return send()
        raise Crashed


def _rollback_of(release: str) -> str:
    return release.replace("RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT")
