"""``durable schedules``: every schedule in a table, and one with its latest ticks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.db.models import OuterRef, Subquery

from django_durable.engine import registry
from django_durable.engine.ticks import parse_rule
from django_durable.exceptions import InvalidOptionError
from django_durable.management.operations.operation import Operation, Options
from django_durable.management.operations.output import Output, age, moment, shortened
from django_durable.management.operations.reading import database_now, jobs_alias
from django_durable.models import Schedule, Tick

if TYPE_CHECKING:
    from django.db.models import QuerySet

HEADERS = ["SCHEDULE", "CRON", "ZONE", "NEXT", "LAST", "OUTCOME", "NOTE"]
MOST_TICKS = 20
UPCOMING = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSummary:
    """The columns of a schedule, and what became of its latest tick."""

    name: str
    task_path: str
    cron: str
    timezone: str
    arguments: Any
    missed: str
    overlap: str
    jitter: timedelta | None
    next_tick_at: datetime | None
    last_tick_at: datetime | None
    last_outcome: str | None
    paused_at: datetime | None
    retired_at: datetime | None
    is_declared: bool
    is_known: bool
    """Whether this process has its task."""
    problem: str

    @property
    def note(self) -> str:
        """Why it does not fire, if it does not."""
        if self.problem:
            return shortened(self.problem)
        if self.retired_at is not None:
            return "retired: the code declares it no more"
        if self.paused_at is not None:
            return "paused"
        if not self.is_known:
            return f"task {self.task_path} is unknown here"
        return ""


def with_last_tick() -> QuerySet[Schedule]:
    """Every schedule, annotated with its latest tick."""
    last = Tick.objects.using(jobs_alias()).filter(schedule_name=OuterRef("pk"))
    latest = last.order_by("-tick_at")
    return Schedule.objects.using(jobs_alias()).annotate(
        last_outcome=Subquery(latest.values("outcome")[:1]),
        last_at=Subquery(latest.values("tick_at")[:1]),
    )


def summary_of(row: Any) -> ScheduleSummary:
    return ScheduleSummary(
        name=row.name,
        task_path=row.task_path,
        cron=row.cron,
        timezone=row.timezone,
        arguments=json.loads(row.arguments),
        missed=row.missed,
        overlap=row.overlap,
        jitter=row.jitter,
        next_tick_at=None if row.paused_at or row.retired_at else row.next_tick_at,
        last_tick_at=row.last_at,
        last_outcome=row.last_outcome,
        paused_at=row.paused_at,
        retired_at=row.retired_at,
        is_declared=row.declared is not None,
        is_known=registry.find_task(row.task_path) is not None,
        problem=row.problem,
    )


def run(output: Output, options: Options) -> None:
    now = database_now()
    found = [summary_of(row) for row in with_last_tick().order_by("name")]
    if output.as_json:
        output.document({"now": now, "schedules": found})
    elif found:
        output.table(HEADERS, [_line(one, now) for one in found])
    else:
        output.line("No schedules: declare one with a task, @task(schedule=Cron(...)).")


def _line(one: ScheduleSummary, now: datetime) -> Sequence[object]:
    return [
        one.name, one.cron, one.timezone, age(one.next_tick_at, now), age(one.last_tick_at, now),
        one.last_outcome, one.note,
    ]  # fmt: skip


# --- one


def upcoming_of(one: ScheduleSummary, now: datetime) -> list[datetime]:
    """The next ticks, as the clocks of its zone show them; none of a rule that cannot be read."""
    try:
        rule = parse_rule(one.cron, one.timezone)
    except InvalidOptionError:
        return []
    zone, found = ZoneInfo(one.timezone), [now]
    while len(found) <= UPCOMING and (tick := rule.next_after(found[-1])) is not None:
        found.append(tick)
    return [tick.astimezone(zone) for tick in found[1:]]


def show(output: Output, name: str) -> None:
    """Say all about one schedule that exists."""
    now = database_now()
    one = summary_of(with_last_tick().get(pk=name))
    rows = Tick.objects.using(jobs_alias()).filter(schedule_name=name).order_by("-tick_at")
    ticks = list(rows.values("tick_at", "outcome", "reason", "job_id")[:MOST_TICKS])
    upcoming = upcoming_of(one, now)
    if output.as_json:
        output.document({"now": now, "schedule": one, "upcoming": upcoming, "ticks": ticks})
        return
    output.fields(
        [
            ("schedule", one.name),
            ("task", one.task_path),
            ("cron", f"{one.cron} ({one.timezone})"),
            ("arguments", json.dumps(one.arguments)),
            ("missed", one.missed),
            ("overlap", one.overlap),
            ("jitter", one.jitter),
            ("declared", "by the code" if one.is_declared else "by an operator"),
            ("note", one.note),
            ("next", moment(one.next_tick_at, now)),
        ]
    )
    output.heading("Next times")
    for tick in upcoming:
        output.line(f"  {tick:%a %Y-%m-%d %H:%M:%S %Z}")
    if ticks:
        output.heading("Latest ticks")
        output.table(
            ["TICK", "OUTCOME", "JOB", "NOTE"],
            [[moment(t["tick_at"], now), t["outcome"], t["job_id"], t["reason"]] for t in ticks],
        )


OPERATION = Operation(
    name="schedules", help="schedules in a table: when each is due, and what became of it", run=run
)
