"""Jobs by what users hold of them: the row, the id, or its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django_durable.conf import get_settings
from django_durable.engine.rows import jobs as job_rows
from django_durable.exceptions import JobNotFoundError

if TYPE_CHECKING:
    from django_durable.models import Job


def parse_id(job_id: UUID | str) -> UUID:
    """Raises: JobNotFoundError for what no job's id can look like."""
    if isinstance(job_id, UUID):
        return job_id
    try:
        return UUID(job_id)
    except (ValueError, AttributeError, TypeError):
        raise JobNotFoundError(job_id=repr(job_id)) from None


def id_of(job: Any) -> UUID:
    """The id of a job given by its row, its id or the text of it. Raises: JobNotFoundError."""
    return parse_id(getattr(job, "pk", job))


def find_job(job_id: UUID | str, task_paths: Sequence[str] | None = None) -> Job:
    """A job by id, of these tasks if any are named. Raises: JobNotFoundError."""
    jobs = job_rows(get_settings().DATABASE).filter(pk=parse_id(job_id))
    if task_paths is not None:
        jobs = jobs.filter(task_path__in=task_paths)
    job = jobs.first()
    if job is None:
        raise JobNotFoundError(job_id=job_id)
    return job
