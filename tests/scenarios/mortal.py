"""A worker process that dies by SIGKILL at a chosen durable point, and one that does not.

Made to be forked from a server that has loaded Django once (``multiprocessing``'s forkserver
preloads this module), since a test kills a worker at every point of a story.

A durable point is a commit of rows about jobs: a statement that writes them outside any
transaction, or the COMMIT of a transaction that did. Counting begins with the first claim;
heartbeats, registrations and chores, which any worker may do at any time, are not counted.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import psycopg
import psycopg_pool  # noqa: F401 (once for every fork)
from django.apps import apps
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from psycopg.pq import TransactionStatus

if not apps.ready:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    MigrationLoader(None)  # imports them all, once for every fork

from django_durable.engine.claims import MARK_RUNNING
from django_durable.engine.maintenance import Maintenance
from django_durable.engine.membership import WorkerOptions
from django_durable.engine.worker import Worker
from django_durable.management.commands.durable_worker import configure_logging

WRITES = re.compile(r"\b(?:insert\s+into|update|delete\s+from)\s+\"?(durable_(?!worker)\w+)", re.I)
LEASE = timedelta(seconds=20)
POLL = timedelta(seconds=0.5)
HEIRS_POLL = timedelta(seconds=0.1)
"""The heir keeps house for all, who else hear of what is ready by NOTIFY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bomb:
    """Kills its process ``when`` ("before" or "after") the ``at``-th durable point."""

    at: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} durable point {self.at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a forked worker is told. ``points``: the file in which it lists the points it met."""

    queue: str
    slots: int
    poll: timedelta
    database: str
    points: Path
    log: Path
    variables: dict[str, str] = field(default_factory=dict)
    bomb: Bomb | None = None


def work(orders: Orders) -> None:
    """In the forked process: be a worker."""
    with orders.log.open("ab") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    os.environ.update(orders.variables)
    connections.settings["default"]["NAME"] = orders.database
    Points(orders).install()
    configure_logging(1, is_one_of_many=False)
    options = WorkerOptions(
        queues=[orders.queue], slots=orders.slots, lease=LEASE, poll_interval=orders.poll
    )
    code = Worker(options).run()
    sys.stderr.flush()
    os._exit(code)


class Points:
    """Counts the durable points of this process, lists them in a file, and kills at one."""

    def __init__(self, orders: Orders) -> None:
        self._bomb = orders.bomb
        self._list = orders.points.open("a", buffering=1)
        self._count = 0
        self._has_begun = False
        self._lock = threading.Lock()
        self._chores = threading.local()
        self._written: dict[int, set[str]] = {}

    def install(self) -> None:
        """Stand around every statement and COMMIT of this process."""
        execute, commit = psycopg.Cursor.execute, psycopg.Connection.commit
        leave, run_due = psycopg.Transaction.__exit__, Maintenance.run_due

        def counted_execute(cursor: Any, query: Any, *args: Any, **options: Any) -> Any:
            return self._execute(cursor, query, lambda: execute(cursor, query, *args, **options))

        def counted_commit(connection: Any) -> None:
            self._commit(connection, lambda: commit(connection))

        def counted_leave(block: Any, error: Any, *rest: Any) -> Any:
            if error is not None or block.savepoint_name:
                return leave(block, error, *rest)
            return self._commit(block.connection, lambda: leave(block, error, *rest))

        def uncounted_run_due(chores: Any) -> None:
            self._chores.under_way = True
            try:
                run_due(chores)
            finally:
                self._chores.under_way = False

        for owner, name, function in (
            (psycopg.Cursor, "execute", counted_execute),
            (psycopg.Connection, "commit", counted_commit),
            (psycopg.Transaction, "__exit__", counted_leave),
            (Maintenance, "run_due", uncounted_run_due),
        ):
            setattr(owner, name, function)

    def _execute(self, cursor: Any, query: Any, execute: Callable[[], Any]) -> Any:
        connection = cursor.connection
        is_idle = connection.info.transaction_status == TransactionStatus.IDLE
        if is_idle:
            self._written.pop(id(connection), None)  # of a transaction that was rolled back
        self._has_begun = self._has_begun or query == MARK_RUNNING
        tables = set(WRITES.findall(query if isinstance(query, str) else str(query)))
        if not tables or not self._counts:
            return execute()
        if is_idle and connection.autocommit:
            return self._pass(f"writing {_listed(tables)}", execute)
        self._written.setdefault(id(connection), set()).update(tables)
        return execute()

    def _commit(self, connection: Any, commit: Callable[[], Any]) -> Any:
        tables = self._written.pop(id(connection), None)
        if tables is None:
            return commit()
        return self._pass(f"the COMMIT of {_listed(tables)}", commit)

    @property
    def _counts(self) -> bool:
        return self._has_begun and not getattr(self._chores, "under_way", False)

    def _pass(self, label: str, act: Callable[[], Any]) -> Any:
        with self._lock:
            self._count += 1
            number = self._count
        self._come_by(number, "before", label)
        answer = act()
        self._come_by(number, "after", label)
        return answer

    def _come_by(self, number: int, when: str, label: str) -> None:
        self._list.write(f"{number} {when} {label}\n")
        if self._bomb == Bomb(at=number, when=when):
            os.kill(os.getpid(), signal.SIGKILL)


def _listed(tables: set[str]) -> str:
    return ", ".join(sorted(tables))
