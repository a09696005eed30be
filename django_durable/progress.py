"""What a job tells about itself while it runs, and how others read it.

>>> @task
... def import_file(upload: Upload):
...     for number, line in enumerate(upload.lines, start=1):
...         import_line(line)
...         set_progress(number, upload.size, "importing")
...     set_value("report", upload.report_url)
>>> get_progress(job).fraction
0.4

Outside a job ``set_progress`` and ``set_value`` do nothing but check what they are given, so that a
task's function can be called as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.utils.asyncio import async_unsafe
from django.utils.functional import Promise

from django_durable.conf import get_settings
from django_durable.engine import instances, reporting
from django_durable.engine.finding import parse_id
from django_durable.engine.options import check_key, check_text
from django_durable.engine.progress import NewProgress
from django_durable.engine.published import JobProgress, read_progress, read_values
from django_durable.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from django_durable.models import Job

__all__ = [
    "JobProgress", "aget_progress", "aget_values", "aset_progress", "aset_value",
    "get_progress", "get_values", "set_progress", "set_value",
]  # fmt: skip

LARGEST = 2**63 - 1
LONGEST_NOTE = 500  # characters
_ON_LOOP = "On an event loop use: await a{}(...)."


@async_unsafe(_ON_LOOP.format("set_progress"))
def set_progress(done: int, total: int | None = None, note: str = "") -> None:
    """Tell how far this job has come: ``done`` of ``total``, in its own counting, and a note.

    Seen from outside at once, also while a transaction is open. Written at most five times a
    second; the latest is never lost but by a crash. While a replay repeats steps that are saved,
    nothing is written, so the bar does not go back.

    Raises: InvalidOptionError; StepOutsideJobError in a worker's thread that carries no job.
    """
    progress = _checked(done, total, note)
    run = reporting.run_to_tell("set_progress()")
    if run is not None:
        reporting.tell_progress(run, progress)


async def aset_progress(done: int, total: int | None = None, note: str = "") -> None:
    await sync_to_async(set_progress, thread_sensitive=True)(done, total, note)


@async_unsafe(_ON_LOOP.format("set_value"))
def set_value(key: str, value: Any) -> None:
    """Publish a value of this job under a name; a later one replaces it.

    Written when the call returns; in a transaction on the jobs' database, as a part of it. What can
    be an argument of a task can be a value.

    Raises: InvalidOptionError, NotSerializableError, PayloadTooLargeError; StepOutsideJobError in a
    worker's thread that carries no job.
    """
    if problem := check_key(key):
        raise InvalidOptionError(option="key", value=key, reason=problem)
    limit = get_settings().MAX_PAYLOAD_BYTES
    text = instances.encode(value, path="the value", limit=limit)
    run = reporting.run_to_tell("set_value()")
    if run is not None:
        reporting.publish_value(run, key, text)


async def aset_value(key: str, value: Any) -> None:
    await sync_to_async(set_value, thread_sensitive=True)(key, value)


def get_progress(job: Job | UUID | str) -> JobProgress | None:
    """How far a job has come, by what it said last; None if it has not said anything."""
    return read_progress(get_settings().DATABASE, _id_of(job))


async def aget_progress(job: Job | UUID | str) -> JobProgress | None:
    return await sync_to_async(get_progress, thread_sensitive=True)(job)


def get_values(job: Job | UUID | str) -> dict[str, Any]:
    """The values a job has published, by name; model instances among them are fetched fresh.

    Raises: MissingInstanceError if one of these is gone.
    """
    return read_values(get_settings().DATABASE, _id_of(job))


async def aget_values(job: Job | UUID | str) -> dict[str, Any]:
    return await sync_to_async(get_values, thread_sensitive=True)(job)


def _id_of(job: Any) -> UUID:
    return parse_id(getattr(job, "pk", job))


def _checked(done: int, total: int | None, note: str) -> NewProgress:
    for name, value in (("done", done), ("total", total)):
        if (name, value) != ("total", None) and (problem := _problem_of_count(value)):
            raise InvalidOptionError(option=name, value=value, reason=problem)
    if total is not None and done > total:
        reason = f"it is more than the total of {total}; count both in the same unit."
        raise InvalidOptionError(option="done", value=done, reason=reason)
    if problem := _problem_of_note(note):
        raise InvalidOptionError(option="note", value=note, reason=problem)
    return NewProgress(done=done, total=total, note=str(note))


def _problem_of_count(value: Any) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return "it must be an int; count in units that are whole, such as percent or bytes."
    if value < 0:
        return "it must not be negative."
    return None if value <= LARGEST else "it must be less than 2**63; count in larger units."


def _problem_of_note(note: Any) -> str | None:
    if not isinstance(note, str | Promise):
        return 'it must be text; leave it out, or pass "", to say nothing.'
    text = str(note)
    if len(text) > LONGEST_NOTE:
        return (
            f"it must not have more than {LONGEST_NOTE} characters; long texts go in set_value()."
        )
    return check_text(text)
