"""Several hosts that migrate one database at once take turns, and the later ones find it done.

Django plans a migration right after the system checks of its database, so that is where a host
waits for its turn; the turn ends when everything that follows a migration is done, or with the
session.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import connections
from django.db.models.signals import post_migrate

LOCK = 0x64757262
"""The advisory lock of migrating hosts, in the form with one key."""


def wait_for_turn(alias: str) -> None:
    """Wait until no other host migrates this database, and hold the turn."""
    connection = connections[alias]
    if _is_pooled(connection) or _has_turn(connection):
        return
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(%s)", [LOCK])
    last_app = [app for app in apps.get_app_configs() if app.models_module is not None][-1]
    # Connected only now, so it is called after everybody else's receivers.
    post_migrate.connect(_end_turn, sender=last_app, dispatch_uid="durable.end_turn")


def _end_turn(*, using: str, **_: Any) -> None:
    connection = connections[using]
    if connection.vendor == "postgresql" and _has_turn(connection):
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_unlock(%s)", [LOCK])


def _has_turn(connection: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "select exists (select from pg_locks where locktype = 'advisory' and granted "
            "and pid = pg_backend_pid() and objid::bigint = %s and objsubid = 1)",
            [LOCK],
        )
        return bool(cursor.fetchone()[0])


def _is_pooled(connection: Any) -> bool:
    """Behind a pooler a session's lock may end up in somebody else's hands."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return bool(cursor.fetchone()[0] != connection.connection.info.backend_pid)
