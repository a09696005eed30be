"""Verbs on schedules: make, change, pause, run now, make up what was missed.

>>> @task(schedule=Cron("0 6 * * 1-5", tz="Europe/Berlin"))
... def report() -> None: ...
>>> pause_schedule("shop.tasks.report")
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from django_durable.conf import get_settings
from django_durable.cron import Cron as Cron
from django_durable.cron import Missed, Overlap
from django_durable.engine import declaring, finding, firing, intake, registry, rows
from django_durable.engine import schedules as store
from django_durable.engine.firing import BackfilledTick as BackfilledTick
from django_durable.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from django_durable.models import Job, Schedule


def get_schedule(name: object) -> Schedule:
    """A schedule by its name. Raises: InvalidOptionError."""
    found = rows.schedules(_alias()).filter(pk=name).first() if firing.is_name(name) else None
    if found is None:
        reason = "there is no such schedule; manage.py durable schedules lists them."
        raise InvalidOptionError(option="schedule", value=name, reason=reason)
    return found


def add_schedule(task: Any, cron: Cron) -> Schedule:
    """Make a schedule that is not declared with its task, such as one for each customer.

    In the caller's transaction. Raises: InvalidOptionError, also if the name is taken;
    InvalidArgumentsError; NotSerializableError.
    """
    if not isinstance(cron, Cron):
        raise InvalidOptionError(option="cron", value=cron, reason="it must be a Cron(...).")
    return get_schedule(declaring.add(_alias(), task, cron))


async def aadd_schedule(task: Any, cron: Cron) -> Schedule:
    return await sync_to_async(add_schedule, thread_sensitive=True)(task, cron)


def change_schedule(
    name: str,
    *,
    expression: str | None = None,
    tz: str | None = None,
    missed: Missed | None = None,
    overlap: Overlap | None = None,
    jitter: timedelta | None = None,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Schedule:
    """Change a schedule; what is None stays. Later declarations leave these values as they are.

    With a new expression or time zone it goes on from now. ``args`` and ``kwargs`` together are the
    new call. Raises: InvalidOptionError, InvalidArgumentsError, UnknownTaskError.
    """
    chosen: dict[str, Any] = {
        "cron": expression,
        "timezone": tz,
        "missed": missed,
        "overlap": overlap,
        "jitter": jitter,
    }
    changes = {column: value for column, value in chosen.items() if value is not None}
    if args is not None or kwargs is not None:
        task = registry.get_task(get_schedule(name).task_path)
        changes["arguments"] = intake.encode_call(task, tuple(args or ()), dict(kwargs or {}))
    declaring.change(_alias(), name, changes)
    return get_schedule(name)


async def achange_schedule(name: str, **changes: Any) -> Schedule:
    return await sync_to_async(change_schedule, thread_sensitive=True)(name, **changes)


def remove_schedule(name: str) -> None:
    """Delete a schedule that no code declares, with its ticks; its jobs stay.

    Raises: InvalidOptionError.
    """
    declaring.remove(_alias(), name)


async def aremove_schedule(name: str) -> None:
    await sync_to_async(remove_schedule, thread_sensitive=True)(name)


def pause_schedule(name: str) -> Schedule:
    """Let a schedule rest: no job is enqueued until it is resumed. Raises: InvalidOptionError."""
    get_schedule(name)
    store.pause_schedule(_alias(), name)
    return get_schedule(name)


async def apause_schedule(name: str) -> Schedule:
    return await sync_to_async(pause_schedule, thread_sensitive=True)(name)


def resume_schedule(name: str) -> Schedule:
    """Let a paused schedule go on with the next tick from now; what passed is not made up.

    Raises: InvalidOptionError.
    """
    declaring.resume(_alias(), name)
    return get_schedule(name)


async def aresume_schedule(name: str) -> Schedule:
    return await sync_to_async(resume_schedule, thread_sensitive=True)(name)


def run_schedule(name: str) -> Job:
    """Enqueue a job of a schedule now, also of a paused one, and whatever overlaps.

    Its ``tick_at`` is the time of this call. The next tick stays when it is. Raises:
    InvalidOptionError, UnknownTaskError, EnqueueError.
    """
    return finding.find_job(firing.run_now(_alias(), name))


async def arun_schedule(name: str) -> Job:
    return await sync_to_async(run_schedule, thread_sensitive=True)(name)


def backfill_schedule(
    name: str, since: datetime, until: datetime, *, dry_run: bool = False, again: bool = False
) -> list[BackfilledTick]:
    """Enqueue a job for each tick from ``since`` to ``until`` that has none; all, or none.

    ``again``: also for ticks that have one. ``dry_run``: only say what would be done. At most a
    thousand ticks. Raises: InvalidOptionError, UnknownTaskError, EnqueueError.
    """
    return firing.backfill(_alias(), name, since, until, dry_run=dry_run, again=again)


async def abackfill_schedule(
    name: str, since: datetime, until: datetime, *, dry_run: bool = False, again: bool = False
) -> list[BackfilledTick]:
    return await sync_to_async(backfill_schedule, thread_sensitive=True)(
        name, since, until, dry_run=dry_run, again=again
    )


def _alias() -> str:
    return get_settings().DATABASE
