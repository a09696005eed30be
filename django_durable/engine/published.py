"""What a job has told about itself: its progress and its named values. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.apps import apps

from django_durable.engine.instances import decode


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job has come, in its own counting, when it said so last."""

    done: int
    total: int | None
    """None: how much there is is not known."""
    note: str
    saved_at: datetime

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None if the total is not known. Of nothing, all is done."""
        if self.total is None:
            return None
        return self.done / self.total if self.total else 1.0

    def __str__(self) -> str:
        """Such as ``3 of 10: loading``, for lines of text."""
        count = f"{self.done}" if self.total is None else f"{self.done} of {self.total}"
        return f"{count}: {self.note}" if self.note else count


def read_progress(alias: str | None, job_id: UUID) -> JobProgress | None:
    """How far a job has come, or None: it has not said anything (one query)."""
    rows = apps.get_model("durable", "Progress")._base_manager.using(alias)
    found = rows.filter(pk=job_id).values("done", "total", "note", "saved_at").first()
    return JobProgress(**found) if found is not None else None


def read_values(alias: str | None, job_id: UUID) -> dict[str, Any]:
    """The values that a job has published, by name (one query, and one for each model among them).

    Raises: MissingInstanceError, UndecodableError.
    """
    rows = apps.get_model("durable", "JobValue")._base_manager.using(alias)
    texts = dict(rows.filter(job_id=job_id).order_by("key").values_list("key", "value"))
    return {key: decode(text) for key, text in texts.items()}
