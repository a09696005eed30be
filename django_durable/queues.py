"""Verbs on queues: pause, so that none of its jobs is started, and resume.

>>> pause_queue("mails", until=tomorrow, reason="the mail server moves")
>>> resume_queue("mails")

Both write in the caller's transaction, and hold from its commit on, for every worker. Jobs that run
go on; jobs are enqueued as ever. In a job, call them in a step, so that no replay repeats it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async

from django_durable.conf import get_settings
from django_durable.engine import queues
from django_durable.engine.options import check_moment, check_text
from django_durable.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from django_durable.models import Queue

LONGEST_TEXT = 500


def pause_queue(name: str, *, until: datetime | None = None, reason: str = "") -> Queue:
    """Start no job of a queue any more, and return its row.

    ``until``: when it resumes by itself, an aware datetime; None: when ``resume_queue`` is called.
    Pausing a paused queue changes its end and reason.

    Raises: InvalidOptionError for a name that can be no queue's or is not in ``DURABLE["QUEUES"]``,
    a time that has passed, a reason that is no text of 500 characters at most.
    """
    _refuse("until", until, check_moment(until) if until is not None else None)
    _refuse("reason", reason, _check_text(reason))
    return queues.pause(get_settings().DATABASE, name, until=until, reason=reason)


async def apause_queue(name: str, *, until: datetime | None = None, reason: str = "") -> Queue:
    pause = sync_to_async(pause_queue, thread_sensitive=True)
    return await pause(name, until=until, reason=reason)


def resume_queue(name: str) -> bool:
    """Start the jobs of a queue again; whether it was paused.

    Raises: InvalidOptionError for a name that is no text.
    """
    _refuse("queue", name, _check_text(name))
    return queues.resume(get_settings().DATABASE, name)


async def aresume_queue(name: str) -> bool:
    return await sync_to_async(resume_queue, thread_sensitive=True)(name)


def _refuse(option: str, value: object, problem: str | None) -> None:
    if problem:
        raise InvalidOptionError(option=option, value=value, reason=problem)


def _check_text(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        return f"it must be a text of {LONGEST_TEXT} characters at most."
    return check_text(value)
