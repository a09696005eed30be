"""Deciding on ticks that are due: what is enqueued, skipped or missed.

No worker is the one that fires. Whoever locks a schedule's row that is due decides on its ticks,
enqueues and advances in one commit; a process that dies in it has done nothing.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeGuard
from uuid import UUID

from django.db import connections, transaction

from django_durable.engine import intake, outcomes, registry, schedules
from django_durable.engine.clock import machine_seconds
from django_durable.engine.faults import is_connection_error
from django_durable.engine.instances import decode_arguments, storable
from django_durable.engine.options import check_text
from django_durable.engine.schedules import Decision, LockedSchedule
from django_durable.engine.sql import execute
from django_durable.engine.states import TickOutcome
from django_durable.engine.ticks import Rule, parse_rule, read_rule
from django_durable.exceptions import InvalidOptionError, NotUniqueError

logger = logging.getLogger("django_durable")

GRACE = timedelta(seconds=60)
"""A tick that nobody has decided on for so long is missed; the schedule says what becomes of it."""
MOST_MADE_UP = 100
"""Of missed ticks the latest so many are made up by ``missed="all"``, and noted."""
MOST_BACKFILLED = 1000
"""Ticks in one backfill, which is one commit."""
MOST_AT_ONCE = 50
"""Schedules that a worker decides on before it claims again."""
EARLIEST_YEAR = 1970
AGAIN_SECONDS = 10.0
"""How long a worker leaves a schedule alone whose tick it could not decide on."""
LONGEST_PROBLEM = 500
SECONDS_BETWEEN_LOOKS = GRACE.total_seconds() / 6
"""Each worker looks at least so often, lest the ticks between two looks count as missed."""
BRIEF_LOCKS = "set local lock_timeout = '250ms'"
"""Somebody's open transaction may hold the same unique key, or the job that is to be cancelled."""


@dataclass(slots=True)
class Firing:
    """What one worker does about schedules that are due, and which it leaves alone for now."""

    alias: str
    has_more: bool = False
    _left_alone: dict[str, float] = field(default_factory=dict)

    def fire_due(self) -> int:
        """Decide on schedules that are due, one commit each; how many jobs were enqueued.

        ``has_more`` says whether the worker should look again, after it has claimed. One that
        cannot be decided on keeps its tick, notes the reason, and stops no other.
        """
        now = machine_seconds()
        self._left_alone = {name: at for name, at in self._left_alone.items() if at > now}
        seen: set[str] = set(self._left_alone)
        enqueued = looked = 0
        self.has_more = True
        while looked < MOST_AT_ONCE:
            if (fired := self._fire_one(seen)) is None:
                self.has_more = False
                break
            name, decisions = fired
            seen.add(name)
            looked += 1
            if decisions:
                _log(name, decisions)
            enqueued += sum(one.job_id is not None for one in decisions)
        return enqueued

    def _fire_one(self, seen: set[str]) -> tuple[str, list[Decision]] | None:
        with transaction.atomic(using=self.alias):
            row = schedules.lock_due_schedule(
                connections[self.alias], task_paths=registry.known_paths(), except_names=seen
            )
            if row is None:
                return None
            try:
                with transaction.atomic(using=self.alias):
                    execute(connections[self.alias], BRIEF_LOCKS, {})
                    return row.name, _decide(self.alias, row)
            except Exception as error:
                if is_connection_error(error):
                    raise
                self._note(row, error)
                return row.name, []

    def _note(self, row: LockedSchedule, error: Exception) -> None:
        self._left_alone[row.name] = machine_seconds() + AGAIN_SECONDS
        problem = storable(f"{type(error).__name__}: {error}")[:LONGEST_PROBLEM]
        if problem != row.problem:
            logger.error("Schedule %s is due and cannot be fired: %s", row.name, problem)
            schedules.note_problem(self.alias, row.name, problem)


def _decide(alias: str, row: LockedSchedule) -> list[Decision]:
    rule = parse_rule(row.cron, row.timezone)
    due = _Due.of(row, rule)
    known = schedules.decided_ticks(alias, row.name, [*due.missed, *due.fresh])
    decisions = _Decider(alias, row, known).decide(due)
    connection = connections[alias]
    schedules.save_ticks(connection, row.name, decisions)
    last = max((one.tick_at for one in decisions), default=None)
    schedules.advance_schedule(connection, row.name, last=last, upcoming=rule.next_after(row.now))
    return decisions


def _log(name: str, decisions: Sequence[Decision]) -> None:
    counts = Counter(one.outcome for one in decisions)
    said = ", ".join(f"{count} {outcome.lower()}" for outcome, count in counts.items())
    level = logging.WARNING if counts[TickOutcome.MISSED] else logging.INFO
    jobs = ", ".join(str(one.job_id) for one in decisions if one.job_id is not None) or "none"
    logger.log(level, "Schedule %s: %s; jobs: %s.", name, said, jobs, extra={"schedule": name})


@dataclass(frozen=True, slots=True)
class _Due:
    """The ticks of a schedule up to now, oldest first; ``more``: there were earlier ones."""

    missed: list[datetime]
    fresh: list[datetime]
    more: bool

    @classmethod
    def of(cls, row: LockedSchedule, rule: Rule) -> _Due:
        assert row.next_tick_at is not None  # it is due
        ticks, is_complete = rule.latest(row.next_tick_at, row.now, most=MOST_MADE_UP)
        if is_complete and len(ticks) < MOST_MADE_UP:
            ticks = [row.next_tick_at, *ticks]
        else:
            is_complete = False
        late = [tick for tick in ticks if row.now - tick > GRACE]
        return cls(late, ticks[len(late) :], not is_complete)


@dataclass(slots=True)
class _Decider:
    """Decides on the ticks of one schedule, whose row is locked."""

    alias: str
    row: LockedSchedule
    known: dict[datetime, UUID | None]
    """Ticks that were decided on before; they stay so."""
    _busy: list[UUID] = field(default_factory=list)

    def decide(self, due: _Due) -> list[Decision]:
        self._busy = schedules.unfinished_jobs(self.alias, self.row.name)
        decisions = []
        for tick in due.missed:
            if tick not in self.known:
                decisions.append(self._decide_missed(tick, due))
        for tick in due.fresh:
            if tick not in self.known:
                decisions.append(self._decide_fresh(tick))
        return decisions

    def _decide_missed(self, tick: datetime, due: _Due) -> Decision:
        if self.row.missed == "all":
            return self._enqueue(tick, "made up")
        if self.row.missed == "one" and tick == due.missed[-1] and not due.fresh:
            return self._decide_fresh(tick, "made up")
        reason = "no worker was there to decide on it in time"
        if due.more and tick == due.missed[0]:
            reason += "; so it was with earlier ticks, which are not noted"
        return Decision(tick_at=tick, outcome=TickOutcome.MISSED, reason=reason)

    def _decide_fresh(self, tick: datetime, note: str = "") -> Decision:
        if self._busy and self.row.overlap == "skip":
            reason = f"job {self._busy[-1]} of an earlier tick is not finished"
            return Decision(tick_at=tick, outcome=TickOutcome.SKIPPED, reason=reason)
        if self._busy and self.row.overlap == "cancel":
            outcomes.cancel_jobs(self.alias, self._busy)
            note = note or f"job {self._busy[-1]} of an earlier tick was cancelled for it"
            self._busy = []
        decision = self._enqueue(tick, note)
        if self.row.missed != "all" and decision.job_id is not None:
            self._busy.append(decision.job_id)
        return decision

    def _enqueue(self, tick: datetime, note: str) -> Decision:
        return enqueue_tick(self.alias, self.row, tick, note, jitter=self.row.jitter)


def enqueue_tick(
    alias: str, row: LockedSchedule, tick: datetime, note: str, *, jitter: timedelta | None = None
) -> Decision:
    """Enqueue the job of a tick. Raises: DurableError."""
    task = registry.get_task(row.task_path)
    call = decode_arguments(row.arguments, row.task_path, f"of schedule {row.name}")
    if jitter and task.run_after is None:
        task = task.using(delay=(task.delay or timedelta(0)) + jitter * random.random())
    try:
        job = intake.submit_apart(intake.Request(task, tuple(call.args), call.kwargs))
    except NotUniqueError as error:
        return Decision(tick_at=tick, outcome=TickOutcome.SKIPPED, reason=str(error))
    if job.is_duplicate:
        reason = f"job {job.pk} is the same call"
        return Decision(tick_at=tick, outcome=TickOutcome.SKIPPED, reason=reason)
    schedules.name_schedule(connections[alias], job.pk, row.name, tick)
    job.schedule_name, job.tick_at = row.name, tick
    return Decision(tick_at=tick, outcome=TickOutcome.ENQUEUED, reason=note, job_id=job.pk)


# --- by hand


def is_name(name: object) -> TypeGuard[str]:
    """Whether the database could be asked for a schedule of that name."""
    return isinstance(name, str) and check_text(name) is None


def locked(alias: str, name: object) -> LockedSchedule:
    """Lock a schedule. Raises: InvalidOptionError if there is none of that name."""
    row = schedules.lock_schedule(connections[alias], name) if is_name(name) else None
    if row is None:
        reason = "there is no such schedule; manage.py durable schedules lists them."
        raise InvalidOptionError(option="schedule", value=name, reason=reason)
    return row


def run_now(alias: str, name: str) -> UUID:
    """Enqueue a job of a schedule now, paused or not, whatever overlaps. Raises: DurableError."""
    with transaction.atomic(using=alias):
        row = locked(alias, name)
        decision = enqueue_tick(alias, row, row.now, "run by hand")
        schedules.save_ticks(connections[alias], name, [decision])
    if decision.job_id is None:
        raise InvalidOptionError(option="schedule", value=name, reason=f"{decision.reason}.")
    return decision.job_id


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfilledTick:
    """A tick in the range of a backfill."""

    tick_at: datetime
    is_enqueued: bool
    """Whether a job was enqueued for it now; in a dry run, whether one would be."""
    job_id: UUID | None
    """Its job: the new one, or the one that it had before. None in a dry run, if it had none."""


def backfill(
    alias: str, name: str, since: datetime, until: datetime, *, dry_run: bool, again: bool
) -> list[BackfilledTick]:
    """Enqueue a job for each tick from ``since`` to ``until`` that has none; all, or none."""
    with transaction.atomic(using=alias):
        row = locked(alias, name)
        ticks = _ticks_of_range(row, since, until)
        known = schedules.decided_ticks(alias, name, ticks)
        wanted = [tick for tick in ticks if again or known.get(tick) is None]
        if dry_run:
            return [
                BackfilledTick(tick_at=t, is_enqueued=t in wanted, job_id=known.get(t))
                for t in ticks
            ]
        decisions = {tick: enqueue_tick(alias, row, tick, "made up by hand") for tick in wanted}
        schedules.save_ticks(connections[alias], name, list(decisions.values()), again=again)
    made = {tick: one.job_id for tick, one in decisions.items() if one.job_id is not None}
    return [
        BackfilledTick(tick_at=t, is_enqueued=t in made, job_id=made.get(t, known.get(t)))
        for t in ticks
    ]


def _ticks_of_range(row: LockedSchedule, since: Any, until: Any) -> Sequence[datetime]:
    for option, value in (("since", since), ("until", until)):
        if not isinstance(value, datetime) or value.tzinfo is None:
            reason = "it must be an aware datetime."
            raise InvalidOptionError(option=option, value=value, reason=reason)
    if not since <= until <= row.now:
        reason = "a range goes from an earlier to a later time, and not beyond now."
        raise InvalidOptionError(option="until", value=until, reason=reason)
    rule = read_rule(row.cron, row.timezone)
    if since.year < EARLIEST_YEAR:
        reason = f"there is nothing to make up before {EARLIEST_YEAR}."
        raise InvalidOptionError(option="since", value=since, reason=reason)
    before = since - timedelta(microseconds=1)
    ticks, is_complete = rule.latest(before, until, most=MOST_BACKFILLED)
    if not is_complete:
        reason = f"the range has more than {MOST_BACKFILLED} ticks; take it in parts."
        raise InvalidOptionError(option="until", value=until, reason=reason)
    return ticks
