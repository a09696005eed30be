"""What the search boxes look for: whole words and beginnings of ids, never a part of a text."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from django_durable.admin.filters import of_task
from django_durable.models import IdempotencyKey

_ID_BEGINNING = re.compile(r"[0-9a-f]{8,32}")
_MOST_KEYS = 100
"""One key may be known in several scopes."""


def find_jobs(jobs: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Jobs named by an idempotency key, an id or its beginning (8 characters), or a task's path."""
    wanted = id_range(term.strip())
    named = find_keys(IdempotencyKey.objects.using(jobs.db), term).filter(job_id__isnull=False)
    ids = list(named.order_by().values_list("job_id", flat=True)[:_MOST_KEYS])
    if wanted or ids:
        return jobs.filter(Q(pk__in=ids) | Q(pk__range=wanted) if wanted else Q(pk__in=ids))
    return of_task(jobs, term.strip())


def find_keys(keys: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Keys that read so, or ``scope: key`` as it is shown."""
    wanted = Q(key__in=[term, term.strip()])
    scope, colon, key = term.strip().partition(": ")
    return keys.filter(wanted | Q(scope=scope, key=key) if colon else wanted)


def id_range(term: str) -> tuple[UUID, UUID] | None:
    """The ids that begin so; None if no id does."""
    digits = term.lower().replace("-", "")
    if not _ID_BEGINNING.fullmatch(digits):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
