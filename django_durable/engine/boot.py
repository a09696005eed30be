"""What a worker makes sure of before it claims anything."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from django_durable.engine import limits, registry
from django_durable.engine.faults import DATABASE_ERRORS, is_connection_error
from django_durable.engine.sessions import (
    SlotSessions,
    count_connections,
    engine_aliases,
    find_strays,
    look_at_slots,
)
from django_durable.exceptions import DurableError

logger = logging.getLogger("django_durable")

T = TypeVar("T")
WAIT_SECONDS = 1.0


class NotReadyError(DurableError):
    """The worker must not start: unmigrated, no tasks in order, told to stop meanwhile."""


def wait_for_database(alias: str, wait: Callable[[float], bool]) -> None:
    """Try to connect until the database answers. ``wait(seconds)`` says whether to give up."""
    said = False
    while True:
        try:
            connections[alias].ensure_connection()
        except DATABASE_ERRORS as error:
            if not said:
                logger.warning("Waiting for database %r: %s", alias, error)
                said = True
        else:
            return
        if wait(WAIT_SECONDS):
            raise NotReadyError(reason=f"told to stop while waiting for database {alias!r}.")


def through_outages(alias: str, part: Callable[[], T], wait: Callable[[float], bool]) -> T:
    """Do a part of the boot, again if the database goes away in its middle; its answer.

    Raises: NotReadyError if told to stop meanwhile.
    """
    while True:
        wait_for_database(alias, wait)
        try:
            return part()
        except DATABASE_ERRORS as error:
            if not is_connection_error(error):
                raise
            logger.warning("The database went away while the worker started: %s", error)
            connections[alias].close()


def look_around(alias: str) -> SlotSessions:
    """What has to be so before anything is claimed, and what the sessions of jobs are like.

    Raises: NotReadyError.
    """
    check_migrations(alias)
    check_tasks()
    declare_limits(alias)
    check_aliases(alias)
    return examine_slots(alias)


def check_vendors(alias: str) -> None:
    """Raises: NotReadyError if an alias of the engine's leads to another kind of database."""
    for name in engine_aliases(alias):
        if connections[name].vendor != "postgresql":
            kind = connections[name].display_name
            raise NotReadyError(reason=f"database {name!r} is {kind}, not PostgreSQL.")


def check_migrations(alias: str) -> None:
    """Raises: NotReadyError if a migration of the app is not applied."""
    executor = MigrationExecutor(connections[alias])
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "durable"]
    missing = [migration.name for migration, _ in executor.migration_plan(targets)]
    if missing:
        raise NotReadyError(
            reason=f"database {alias!r} lacks migrations ({', '.join(missing)}). "
            "Run: manage.py migrate"
        )


def check_tasks() -> None:
    """Raises: NotReadyError if two functions claim one task path."""
    if conflicts := registry.get_conflicts():
        raise NotReadyError(reason=" ".join(str(conflict) for conflict in conflicts))


def declare_limits(alias: str) -> None:
    """Make the rows of the limits that tasks declare, and take changed numbers over."""
    written = limits.declare_limits(connections[alias], registry.declared_limits().values())
    if written:
        logger.info("Limits declared by the code: %s.", ", ".join(written))


def check_aliases(alias: str) -> None:
    """Raises: NotReadyError if an alias of the engine's own leads to another database."""
    if strays := find_strays(alias):
        raise NotReadyError(reason=f"{describe_strays(strays, alias)} {STRAYS_HINT}")


STRAYS_HINT = "ENGINE_DATABASE and DIRECT_DATABASE name other ways to the same database."


def describe_strays(strays: Sequence[str], alias: str) -> str:
    names = ", ".join(repr(name) for name in strays)
    return f"Not the database of {alias!r}, which holds the jobs: {names}."


def examine_slots(alias: str) -> SlotSessions:
    """Find out about the sessions that jobs borrow; warn if the engine may not end them."""
    found = look_at_slots(alias)
    if not found.may_be_ended:
        logger.warning(
            "The engine's role may not end sessions of role %s: if a worker is frozen, rows that "
            "its jobs have locked stay locked for up to a lease longer. Cure: grant %s to the "
            "engine's role, or grant it pg_signal_backend.",
            found.role, found.role,
        )  # fmt: skip
    return found


def code_version() -> str:
    """A fingerprint of the modules that declare tasks, twelve hexadecimal digits."""
    files = {inspect.getsourcefile(task.func) for task in registry.iter_tasks()}
    digest = hashlib.sha256()
    for name in sorted(name for name in files if name is not None):
        digest.update(Path(name).read_bytes())
    return digest.hexdigest()[:12]


def announce(*, worker_id: int, alias: str, queues: str, slots: int, code: str) -> None:
    """Say what this worker serves and how many connections it may use."""
    ceiling = count_connections(alias, slots)
    tasks = sum(1 for _ in registry.iter_tasks())
    logger.info(
        "Worker %s serves %s with %s slot(s) and %s task(s), code %s, database %r, "
        "at most %s connections.",
        worker_id, queues or "all queues", slots, tasks, code, alias, ceiling,
        extra={"worker_id": worker_id},
    )  # fmt: skip
