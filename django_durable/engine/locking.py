"""Locks ready rows for a claim by Django's own SELECT, written and planned once.

The values stand in the text, so that a session that is known to be direct can keep the plan: which
index to ride, it must not have to guess. Claimers ask for few different numbers of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from django.db import connections
from django.db.models import Q
from django.db.models.expressions import RawSQL

from django_durable.engine.preparing import prepared
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.rows import load_jobs
from django_durable.engine.sql import id_array
from django_durable.engine.states import JobState

if TYPE_CHECKING:
    from django_durable.models import Job


def lock_ready(
    alias: str, task_paths: Sequence[str], queue_name: str, fit: Q, *, most: int
) -> list[Job]:
    """Lock the first ready jobs of a queue, without limits, that nobody else holds."""
    if most <= 0:
        return []
    statement = _write(alias, tuple(task_paths), queue_name, fit, most)
    return load_jobs(prepared(connections[alias]), statement)


@lru_cache(maxsize=1024)
def _write(alias: str, task_paths: tuple[str, ...], queue_name: str, fit: Q, most: int) -> str:
    ready = (
        job_rows(alias)
        .filter(fit, state=JobState.READY, queue_name=queue_name)
        .filter(task_path__in=task_paths, limit_name__isnull=True)
        .order_by("-priority", "due_at", "id")
        .select_for_update(skip_locked=True, no_key=True)
    )
    statement, params = ready[:most].query.get_compiler(alias).as_sql()
    connections[alias].ensure_connection()
    return psycopg.ClientCursor(connections[alias].connection).mogrify(statement, params)


def lock_ids(alias: str, ids: Sequence[UUID]) -> list[Job]:
    """Lock those of some jobs that are still ready and that nobody else holds."""
    if not ids:
        return []
    statement, params = _write_ids(alias)
    known = [id_array(ids) if param is _IDS else param for param in params]
    return load_jobs(prepared(connections[alias]), statement, known)


_IDS = object()


@lru_cache(maxsize=16)
def _write_ids(alias: str) -> tuple[str, tuple[Any, ...]]:
    """The statement, and its parameters with something that stands for the ids."""
    wanted = RawSQL("select unnest(%s::uuid[])", [_IDS])
    ready = job_rows(alias).filter(pk__in=wanted, state=JobState.READY).order_by("pk")
    locking = ready.select_for_update(skip_locked=True, no_key=True)
    statement, params = locking.query.get_compiler(alias).as_sql()
    return statement, tuple(params)
