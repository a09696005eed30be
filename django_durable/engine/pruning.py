"""The chore of pruning: little at a time, and as often as there is something to prune.

A look takes one chunk of each kind, then rests four times as long as it took, so that claims go on
between. A pass remembers where it is: what it spared does not stand in the way of what is behind,
and is looked at again in an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from django_durable.conf import get_settings
from django_durable.engine import limits, retention, schedules
from django_durable.engine.clock import machine_seconds
from django_durable.engine.faults import DATABASE_ERRORS
from django_durable.engine.states import FINISHED

WORKER_RETENTION = timedelta(days=7)
TICK_RETENTION = timedelta(days=90)
PRUNE_SECONDS = 60.0
FROM_THE_TOP_SECONDS = 3600.0
RESTS = 4.0
"""A look is followed by a rest of so many times its length."""
LOOK_SECONDS = 0.05
"""How long a chunk should take: the next one is larger or smaller accordingly."""
SMALLEST_CHUNK, LARGEST_CHUNK = 10, 1000


@dataclass(slots=True)
class Pass:
    """How far the jobs of one rule are looked through; ``is_over`` until the next minute."""

    rule: retention.Rule
    place: retention.Place = retention.BEGINNING
    is_over: bool = False
    top_at: float = 0.0

    def begin(self, now: float) -> None:
        """Go on where it ended, or each hour from the top."""
        self.is_over = False
        if now >= self.top_at:
            self.top_at = now + FROM_THE_TOP_SECONDS
            self.place = retention.BEGINNING

    def note(self, chunk: retention.Chunk) -> None:
        self.place = chunk.end
        self.is_over = chunk.is_last


@dataclass(slots=True)
class Pruner:
    """Prunes on one connection, one look after the other."""

    connection: Any
    chunk: int = 100
    _passes: list[Pass] = field(default_factory=list)
    _rules: list[retention.Rule] = field(default_factory=list)

    def look(self) -> float | None:
        """Take one chunk of each kind; the seconds until the next ones, None if none are left."""
        began = machine_seconds()
        if all(each.is_over for each in self._passes):
            self._begin(began)
        more = [self._timed(kind) for kind in self._kinds()]
        return (1 + RESTS) * (machine_seconds() - began) if any(more) else None

    def _begin(self, now: float) -> None:
        rules = [rule for state in FINISHED for rule in retention.rules_of(state.value)]
        if rules != self._rules:
            self._rules = rules
            self._passes = [Pass(rule) for rule in rules if rule.kept is not None]
        for each in self._passes:
            each.begin(now)

    def _kinds(self) -> Iterator[Callable[[], bool]]:
        """What takes a chunk of each kind, and says whether there are more."""
        for each in self._passes:
            if not each.is_over:
                yield partial(self._prune_jobs, each)
        yield self._prune_events
        yield lambda: retention.prune_keys(self.connection, limit=self.chunk) == self.chunk
        yield lambda: limits.prune_starts(self.connection, limit=self.chunk) == self.chunk
        yield self._prune_ticks
        yield self._prune_workers

    def _timed(self, take: Callable[[], bool]) -> bool:
        """Take a chunk, and fit the size of the next one to how long it took."""
        began = machine_seconds()
        try:
            more = take()
        except DATABASE_ERRORS:  # such as its timeout: the same chunk would fail for ever
            self.chunk = SMALLEST_CHUNK
            raise
        took = machine_seconds() - began
        if took > LOOK_SECONDS:
            self.chunk = max(SMALLEST_CHUNK, self.chunk // 2)
        elif more and took < LOOK_SECONDS / 4:
            self.chunk = min(LARGEST_CHUNK, self.chunk * 2)
        return more

    def _prune_jobs(self, each: Pass) -> bool:
        each.note(
            retention.prune_jobs(self.connection, each.rule, after=each.place, limit=self.chunk)
        )
        return not each.is_over

    def _prune_events(self) -> bool:
        kept = get_settings().retention("EVENT")
        if kept is None:
            return False
        return retention.prune_events(self.connection, kept, limit=self.chunk) == self.chunk

    def _prune_ticks(self) -> bool:
        pruned = schedules.prune_ticks(self.connection, TICK_RETENTION, limit=self.chunk)
        return pruned == self.chunk

    def _prune_workers(self) -> bool:
        retention.prune_workers(self.connection, WORKER_RETENTION)
        return False
