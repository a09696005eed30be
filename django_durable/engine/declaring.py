"""Schedules as the code declares them and as operators change them, brought into their rows.

A row remembers what the code said last and which version of the code said so. A later declaration
is taken over, but for values that an operator has changed since. While two versions run, the one
that was seen first is silent, so that a rolling deploy does not turn a row back and forth; after a
return to the older version that one is heard again, once no worker of the newer is left.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connections, transaction

from django_durable.cron import Cron, check_jitter, check_policies, check_schedule_name
from django_durable.engine import firing, instances, intake, registry, rows, schedules
from django_durable.engine.codec import UndecodableError
from django_durable.engine.schedules import LockedSchedule, ScheduleValues, Version
from django_durable.engine.ticks import parse_rule, read_rule
from django_durable.exceptions import DurableError, InvalidArgumentsError, InvalidOptionError

logger = logging.getLogger("django_durable")


def values_of(task: Any, cron: Cron) -> ScheduleValues:
    """What a declaration says. Raises: EnqueueError for arguments that cannot be stored."""
    return ScheduleValues(
        task_path=task.path,
        cron=cron.expression,
        timezone=default_zone() if cron.tz is None else cron.tz,
        arguments=intake.encode_call(task, tuple(cron.args), dict(cron.kwargs)),
        missed=cron.missed,
        overlap=cron.overlap,
        jitter=cron.jitter or None,
    )


def default_zone() -> str:
    return str(settings.TIME_ZONE)


# --- what the code declares


@dataclass(slots=True, kw_only=True)
class Declaring:
    """Brings the declarations of one worker's code into the rows."""

    alias: str
    worker_id: int
    _is_first: bool = True

    def sync(self) -> None:
        """Make, change and retire what differs, one commit each; nothing is asked of the others.

        At a worker's start and again from time to time. One that cannot be stored stops no other.
        """
        declared = self._declared_here()
        known = {row.name: row for row in rows.schedules(self.alias)}
        version, versions = self._own_version()
        _set_back(self.alias, known.values())
        for name in sorted({*declared, *known}):
            row, values = known.get(name), declared.get(name)
            if row is not None and not self._may_speak(row.declared_by, version, versions):
                continue
            try:
                self._bring_in(name, values, row, version)
            except DurableError as error:
                if self._is_first:
                    logger.error("Schedule %s cannot be changed: %s", name, error)
        self._is_first = False

    def _bring_in(self, name: str, values: ScheduleValues | None, row: Any, version: str) -> None:
        """Raises: DurableError, if a row's own values and those of the code do not fit together."""
        if values is not None:
            self._declare(name, values, row, version)
        elif row is not None and _is_gone(row):
            schedules.retire_schedule(self.alias, name, version)
            logger.warning("Schedule %s is declared no more, and rests from now on.", name)

    def _declared_here(self) -> dict[str, ScheduleValues]:
        found = {}
        for task in registry.iter_tasks():
            for cron in getattr(task, "schedules", ()):
                try:
                    found[cron.name] = values_of(task, cron)
                except DurableError as error:
                    if self._is_first:
                        logger.error("Schedule %s cannot be made: %s", cron.name, error)
        return found

    def _own_version(self) -> tuple[str, dict[str, Version]]:
        worker = rows.workers(self.alias).filter(pk=self.worker_id)
        code = worker.values_list("code_version", flat=True).first()
        return code or "", schedules.read_versions(self.alias)

    def _may_speak(
        self, declared_by: str | None, version: str, versions: Mapping[str, Version]
    ) -> bool:
        """Whether this code's word counts more than that of the version that declared a row."""
        if declared_by is None:
            return True
        if declared_by == version:
            return self._is_first
        other, own = versions.get(declared_by), versions.get(version)
        if other is None or not other.is_alive or own is None:
            return True
        return own.first_seen_at > other.first_seen_at

    def _declare(self, name: str, values: ScheduleValues, row: Any, version: str) -> None:
        text = _as_text(values)
        connection = connections[self.alias]
        with transaction.atomic(using=self.alias):
            if row is None:
                upcoming = parse_rule(values.cron, values.timezone).next_after(_now(self.alias))
                schedules.insert_schedule(
                    connection, name, values,
                    upcoming=upcoming, declared=text, declared_by=version,
                )  # fmt: skip
            elif row.declared is None:
                if self._is_first:
                    logger.error(
                        "Schedule %s is declared by the code, but an operator made one of that "
                        "name, which stays: give the declaration another name, or remove that one.",
                        name,
                    )
            elif row.retired_at is not None or _differs(row.declared, text):
                _take_over(self.alias, name, values, text, version)


def _set_back(alias: str, found: Iterable[Any]) -> None:
    """Let schedules go on from now whose latest tick lies ahead: the clock went back since.

    What was decided on is not decided on again.
    """
    now = _now(alias)
    for row in found:
        if row.last_tick_at is None or row.last_tick_at <= now:
            continue
        try:
            upcoming = parse_rule(row.cron, row.timezone).next_after(now)
        except DurableError:
            continue  # edited by hand; who fires it says so
        if upcoming is not None and row.next_tick_at is not None and upcoming < row.next_tick_at:
            unchanged = rows.schedules(alias).filter(pk=row.pk, next_tick_at=row.next_tick_at)
            unchanged.filter(cron=row.cron, timezone=row.timezone).update(next_tick_at=upcoming)
            logger.warning("Schedule %s goes on from now: the clock was ahead.", row.pk)


def _is_gone(row: Any) -> bool:
    """Whether a row was declared by the code, which has its task still, and does so no more."""
    is_declared = row.declared is not None and row.retired_at is None
    return is_declared and registry.find_task(row.task_path) is not None


def _as_text(values: ScheduleValues) -> str:
    """A declaration as the row remembers it; a duration in seconds."""
    seconds = values.jitter.total_seconds() if values.jitter else None
    return json.dumps(asdict(values) | {"jitter": seconds})


def _from_text(text: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(text)
    seconds = said.get("jitter")
    return said | {"jitter": None if seconds is None else timedelta(seconds=seconds)}


def _differs(one: str, other: str) -> bool:
    return bool(json.loads(one) != json.loads(other))


def _take_over(alias: str, name: str, values: ScheduleValues, text: str, version: str) -> None:
    """Take over what the code says now, but for what an operator changed since it said so last."""
    locked = schedules.lock_schedule(connections[alias], name)
    row = rows.schedules(alias).filter(pk=name).first()
    if locked is None or row is None or row.declared is None:
        return  # removed by an operator meanwhile
    before = _from_text(row.declared)
    untouched = {n: v for n, v in asdict(values).items() if getattr(row, n) == before.get(n)}
    check_policies(untouched.get("missed", row.missed), untouched.get("overlap", row.overlap))
    marks = {"declared": text, "declared_by": version, "retired_at": None}
    back = row.retired_at is not None
    schedules.change_schedule(alias, name, _with_next(locked, untouched, anew=back) | marks)
    logger.info("Schedule %s is changed as the code declares it now.", name)


def _with_next(
    row: LockedSchedule, changes: dict[str, Any], *, anew: bool = False
) -> dict[str, Any]:
    """Changes to a row, with the next tick if another rule holds from now on."""
    cron, zone = changes.get("cron", row.cron), changes.get("timezone", row.timezone)
    if anew or (cron, zone) != (row.cron, row.timezone):
        changes = changes | {"next_tick_at": parse_rule(cron, zone).next_after(row.now)}
    return changes | {"problem": ""}


def _now(alias: str) -> datetime:
    with connections[alias].cursor() as cursor:
        cursor.execute("select statement_timestamp()")
        now: datetime = cursor.fetchone()[0]
        return now


# --- what operators make and change


def add(alias: str, task: Any, cron: Cron) -> str:
    """Make a schedule that no code declares; its name. Raises: DurableError."""
    name = task.path if cron.name is None else cron.name
    make(alias, name, values_of(task, cron))
    return name


def make(alias: str, name: str, values: ScheduleValues) -> None:
    """Make a schedule of these values. Raises: DurableError."""
    check_schedule_name(name)
    check(values)
    upcoming = parse_rule(values.cron, values.timezone).next_after(_now(alias))
    with transaction.atomic(using=alias):
        if not schedules.insert_schedule(connections[alias], name, values, upcoming=upcoming):
            reason = "there is a schedule of that name already."
            raise InvalidOptionError(option="name", value=name, reason=reason)


def change(alias: str, name: str, changes: Mapping[str, Any]) -> None:
    """Change columns of a schedule, checked together. Raises: DurableError."""
    with transaction.atomic(using=alias):
        row = firing.locked(alias, name)
        values = ScheduleValues(
            **{name: getattr(row, name) for name in ScheduleValues.__slots__} | dict(changes)
        )
        check(values)
        schedules.change_schedule(alias, name, _with_next(row, dict(changes)))


def check(values: ScheduleValues) -> None:
    """Whether a schedule could be fired here. Raises: DurableError."""
    read_rule(values.cron, values.timezone)
    check_policies(values.missed, values.overlap)
    check_jitter(values.jitter)
    read_call(values.task_path, values.arguments)


def read_call(task_path: str, arguments: str) -> instances.Arguments:
    """The call in a text, which fits a task of this process. Raises: DurableError."""
    task = registry.get_task(task_path)
    try:
        if not isinstance(json.loads(arguments), dict):
            raise ValueError("it is no object")
        call = instances.read_arguments(arguments, task.signature)
    except RecursionError:
        raise InvalidArgumentsError(path=task_path, reason="they are nested too deep") from None
    except (ValueError, TypeError, KeyError, UndecodableError) as error:
        written = 'they are JSON such as {"args": [7], "kwargs": {}}'
        reason = f"{str(error).rstrip('.')}; {written}"
        raise InvalidArgumentsError(path=task_path, reason=reason) from None
    task.bind_arguments(tuple(call.args), call.kwargs)
    return call


def resume(alias: str, name: str) -> None:
    """Let a paused schedule go on, from its next tick. Raises: InvalidOptionError.

    One that does not rest is left alone: a tick of it may be due.
    """
    with transaction.atomic(using=alias):
        row = firing.locked(alias, name)
        if rows.schedules(alias).filter(pk=name, paused_at__isnull=True).exists():
            return
        anew = _with_next(row, {"paused_at": None}, anew=True)
        schedules.change_schedule(alias, name, anew)


def remove(alias: str, name: str) -> None:
    """Delete a schedule that no code declares any more. Raises: InvalidOptionError."""
    with transaction.atomic(using=alias):
        firing.locked(alias, name)
        if is_declared(rows.schedules(alias).get(pk=name)):
            reason = "the code declares it and would make it again; pause it, or change the code."
            raise InvalidOptionError(option="schedule", value=name, reason=reason)
        schedules.delete_schedule(alias, name)


def is_declared(row: Any) -> bool:
    """Whether code that this process has may declare a schedule."""
    is_known = registry.find_task(row.task_path) is not None
    return row.declared is not None and row.retired_at is None and is_known


def named(task: Any, crons: Iterable[Cron]) -> tuple[Cron, ...]:
    """The schedules of a task, each with its name, checked against those of all other tasks.

    Raises: InvalidOptionError, InvalidArgumentsError.
    """
    found = tuple(crons)
    if len(found) == 1 and found[0].name is None:
        check_schedule_name(task.path)
        found = (replace(found[0], name=task.path),)
    names = [cron.name for cron in found]
    if None in names or len(set(names)) < len(names):
        reason = "each of several schedules of a task needs its own name."
        raise InvalidOptionError(option="schedule", value=names, reason=reason)
    for other in registry.iter_tasks():
        taken = {cron.name for cron in getattr(other, "schedules", ())} & set(names)
        if taken and other.path != task.path:
            reason = f'task "{other.path}" has a schedule of that name.'
            raise InvalidOptionError(option="schedule", value=taken.pop(), reason=reason)
    for cron in found:
        task.bind_arguments(tuple(cron.args), dict(cron.kwargs))
    return found
