"""The rows of schedules and their ticks.

Whoever decides on a tick holds its schedule's row, so two workers never decide on one tick; the
unique index of the ticks would refuse the second if they did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Min, Q

from django_durable.engine import rows
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.sql import Connection, array, execute, fetch_one, load
from django_durable.engine.states import TickOutcome

LOCK_DUE_SCHEDULE = load("lock_due_schedule")
LOCK_SCHEDULE = load("lock_schedule")
SAVE_TICKS = load("save_ticks")
ADVANCE_SCHEDULE = load("advance_schedule")
NAME_SCHEDULE = load("name_schedule")
INSERT_SCHEDULE = load("insert_schedule")
PRUNE_TICKS = load("prune_ticks")


@dataclass(frozen=True, slots=True)
class LockedSchedule:
    """A schedule whose row this transaction holds, and the database's time."""

    name: str
    task_path: str
    cron: str
    timezone: str
    arguments: str
    missed: str
    overlap: str
    jitter: timedelta | None
    next_tick_at: datetime | None
    problem: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is made of one tick."""

    tick_at: datetime
    outcome: TickOutcome
    reason: str = ""
    job_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleValues:
    """What a schedule says: the columns that code declares and operators change."""

    task_path: str
    cron: str
    timezone: str
    arguments: str
    missed: str
    overlap: str
    jitter: timedelta | None


# --- firing


def lock_due_schedule(
    connection: Connection, *, task_paths: Sequence[str], except_names: Collection[str]
) -> LockedSchedule | None:
    """Lock one schedule that is due, of these tasks; None: there is none that nobody else holds."""
    params = {"task_paths": list(task_paths), "except_names": list(except_names)}
    row = fetch_one(connection, LOCK_DUE_SCHEDULE, params)
    return None if row is None else LockedSchedule(*row)


def lock_schedule(connection: Connection, name: str) -> LockedSchedule | None:
    """Lock a schedule, after whoever holds it; None: there is none."""
    row = fetch_one(connection, LOCK_SCHEDULE, {"name": name})
    return None if row is None else LockedSchedule(*row)


def decided_ticks(alias: str, name: str, ticks: Iterable[datetime]) -> dict[datetime, UUID | None]:
    """Those of some ticks that were decided on, each with the job it enqueued, if it did."""
    found = rows.ticks(alias).filter(schedule_name=name, tick_at__in=list(ticks))
    return dict(found.values_list("tick_at", "job_id"))


def unfinished_jobs(alias: str, name: str) -> list[UUID]:
    """The jobs of a schedule that are not finished, oldest first."""
    jobs = rows.jobs(alias).filter(schedule_name=name, finished_at__isnull=True)
    return list(jobs.order_by("pk").values_list("pk", flat=True))


def name_schedule(connection: Connection, job_id: UUID, name: str, tick_at: datetime) -> None:
    """Write on a job that this transaction inserted for which tick of which schedule it is."""
    execute(
        connection, NAME_SCHEDULE, {"job_id": job_id, "schedule_name": name, "tick_at": tick_at}
    )


def save_ticks(
    connection: Connection, name: str, decisions: Sequence[Decision], *, again: bool = False
) -> None:
    """Note decisions. ``again``: also on ticks that enqueued a job before.

    Raises: RuntimeError for such a tick otherwise, so that the transaction with its second job is
    rolled back.
    """
    params = {
        "schedule_name": name,
        "ticks_at": array(one.tick_at for one in decisions),
        "outcomes": array(one.outcome.value for one in decisions),
        "reasons": array(one.reason for one in decisions),
        "job_ids": array(one.job_id for one in decisions),
        "again": again,
    }
    if execute(connection, SAVE_TICKS, params) != len(decisions):
        raise RuntimeError(f"a tick of schedule {name} was decided on before")


def advance_schedule(
    connection: Connection, name: str, *, last: datetime | None, upcoming: datetime | None
) -> None:
    """Go on to the next tick, and forget the problem. ``last`` None: it stays as it is."""
    params = {"name": name, "last_tick_at": last, "next_tick_at": upcoming}
    execute(connection, ADVANCE_SCHEDULE, params)


def note_problem(alias: str, name: str, problem: str) -> None:
    """Say why a tick that is due could not be decided on; it stays due."""
    rows.schedules(alias).filter(pk=name).update(problem=problem)


def prune_ticks(connection: Connection, retention: timedelta, *, limit: int) -> int:
    """Delete up to ``limit`` ticks older than the retention; how many."""
    return execute(connection, PRUNE_TICKS, {"retention": retention, "limit": limit})


# --- making and changing


def insert_schedule(
    connection: Connection,
    name: str,
    values: ScheduleValues,
    *,
    upcoming: datetime | None,
    declared: str | None = None,
    declared_by: str | None = None,
) -> bool:
    """Make a schedule; False: there is one of that name."""
    more = {"name": name, "next_tick_at": upcoming, "declared": declared}
    params = asdict(values) | more | {"declared_by": declared_by}
    return fetch_one(connection, INSERT_SCHEDULE, params) is not None


def change_schedule(alias: str, name: str, columns: Mapping[str, Any]) -> None:
    """Rewrite columns of a schedule whose row this transaction holds."""
    rows.schedules(alias).filter(pk=name).update(**columns)


def pause_schedule(alias: str, name: str) -> int:
    """Let a schedule rest; how many did not before. The database's clock says since when."""
    resting = rows.schedules(alias).filter(pk=name, paused_at__isnull=True)
    return resting.update(paused_at=StatementTimestamp())


def retire_schedule(alias: str, name: str, version: str) -> None:
    """Let a schedule rest that the code declares no more."""
    found = rows.schedules(alias).filter(pk=name, retired_at__isnull=True)
    found.update(retired_at=StatementTimestamp(), declared_by=version, problem="")


def delete_schedule(alias: str, name: str) -> None:
    """Delete a schedule with its ticks; its jobs stay."""
    rows.ticks(alias).filter(schedule_name=name).delete()
    rows.schedules(alias).filter(pk=name).delete()


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the code, as the workers' rows tell."""

    first_seen_at: datetime
    is_alive: bool


def read_versions(alias: str) -> dict[str, Version]:
    """The versions of the code that workers run or ran lately."""
    current = Min("started_at", filter=Q(lost_at__isnull=True, stopped_at__isnull=True))
    found = rows.workers(alias).order_by().values("code_version")
    aggregated = found.annotate(first=Min("started_at"), current=current)
    listed = aggregated.values_list("code_version", "first", "current")
    return {code: Version(first, alive is not None) for code, first, alive in listed}
