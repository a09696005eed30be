"""New jobs made of others: forks, which keep what was done before a step, and restarts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django_durable.conf import get_settings
from django_durable.engine.sql import Connection, fetch_one, load

COPY_JOB = load("copy_job")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A job to make of ``source_id``. ``from_step`` None: a restart; ``arguments`` None: the same.

    ``deadline_at`` is aware; ``deadline`` counts from the database's now.
    """

    id: UUID
    source_id: UUID
    from_step: str | None = None
    arguments: str | None = None
    deadline_at: datetime | None = None
    deadline: timedelta | None = None

    def parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Copy.__slots__}


def copy_job(connection: Connection, copy: Copy) -> bool:
    """Make the job in one statement; False if the source, or the place to fork it, is not there."""
    params = copy.parameters() | get_settings().notify_parameters
    return fetch_one(connection, COPY_JOB, params) is not None
