"""Several hosts that migrate one database at once take turns, and the later ones find it done.

Django plans a migration before it says so by ``pre_migrate``; a host that had to wait for another
there drops from its plan what the other has applied meanwhile.
"""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_migrate, pre_migrate

LOCK = 0x64757262
"""The advisory lock of migrating hosts, in the form with one key."""


def take_turns(app_config: Any) -> None:
    """Connect the two signals, sent for this app among others."""
    pre_migrate.connect(_wait_for_turn, sender=app_config, dispatch_uid="durable.turn")
    post_migrate.connect(_end_turn, sender=app_config, dispatch_uid="durable.turn")


def _wait_for_turn(*, using: str, plan: list[tuple[Any, bool]], **_: Any) -> None:
    connection = connections[using]
    if not plan or connection.vendor != "postgresql" or _is_pooled(connection):
        return
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(%s)", [LOCK])
    applied = MigrationRecorder(connection).applied_migrations()
    plan[:] = [
        (migration, backwards)
        for migration, backwards in plan
        if backwards or (migration.app_label, migration.name) not in applied
    ]


def _end_turn(*, using: str, **_: Any) -> None:
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "select pg_advisory_unlock(%s) from pg_locks where locktype = 'advisory' "
                "and pid = pg_backend_pid() and objid::bigint = %s and objsubid = 1",
                [LOCK, LOCK],
            )


def _is_pooled(connection: Any) -> bool:
    """Behind a pooler a session's lock may end up in somebody else's hands."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return bool(cursor.fetchone()[0] != connection.connection.info.backend_pid)
