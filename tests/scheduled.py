"""Schedules whose time has come, by rewriting their rows."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from django_durable import Cron, add_schedule
from django_durable.engine.declaring import Declaring
from django_durable.engine.firing import Firing
from django_durable.engine.liveness import Registration, register_worker
from django_durable.models import Job, Schedule, Tick
from tests.testapp.durable_stories import quick

HOURLY = "0 * * * *"


def database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("select statement_timestamp()")
        now: datetime = cursor.fetchone()[0]
        return now


def minute_but_now() -> int:
    """A minute of the hour that is half an hour away, whenever this is called."""
    return (database_now().minute + 30) % 60


def hourly_but_now() -> str:
    """An expression whose ticks are half an hour away, whenever this is called."""
    return f"{minute_but_now()} * * * *"


def new_schedule(
    name: str = "tea", *, cron: str | None = None, task: Any = quick, **more: Any
) -> str:
    """A schedule that an operator made; while a test runs only what it says comes due."""
    options = {"args": ("a",)} | more
    return add_schedule(task, Cron(cron or hourly_but_now(), name=name, **options)).name


def rewrite(name: str, **columns: Any) -> None:
    """Change a row by hand, as in psql."""
    Schedule.objects.filter(pk=name).update(**columns)


def due_since(name: str, ago: timedelta) -> datetime:
    """Let a tick have been due for so long; the tick."""
    tick = database_now() - ago
    rewrite(name, next_tick_at=tick)
    return tick


def fire() -> int:
    """Decide on what is due as a worker does; how many jobs were enqueued."""
    return Firing("default").fire_due()


def ticks_of(name: str = "tea") -> list[str]:
    """The outcomes of a schedule's ticks, oldest first."""
    rows = Tick.objects.filter(schedule_name=name).order_by("tick_at")
    return list(rows.values_list("outcome", flat=True))


def jobs_of(name: str = "tea") -> list[Job]:
    return list(Job.objects.filter(schedule_name=name).order_by("tick_at", "pk"))


def row_of(name: str = "tea") -> Schedule:
    return Schedule.objects.get(pk=name)


def names() -> list[str]:
    """The schedules there are, but for the example project's."""
    rows = Schedule.objects.exclude(pk="nightly report").order_by("pk")
    return list(rows.values_list("pk", flat=True))


def worker_of(version: str) -> int:
    """A live worker that runs a version of the code."""
    lease = timedelta(minutes=5)
    return register_worker(
        "default",
        Registration(
            hostname=version, pid=1, queues=[], slots=1, code_version=version, lease=lease
        ),
    )


def boot(worker_id: int) -> Declaring:
    """A worker's first bringing of its declarations into the rows."""
    declaring = Declaring(alias="default", worker_id=worker_id)
    declaring.sync()
    return declaring
