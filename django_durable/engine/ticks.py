"""When a cron expression comes due, also on days when clocks are changed. No database here.

cronsim reads expressions and walks the wall clock; this module places what it finds in real time.
Where minute and hour are both fixed (neither begins with ``*``) a tick belongs to the wall clock:
a time that the clock skips comes once, right after the gap, and a time that comes twice counts the
first time only. All other expressions follow real time: what is skipped does not come, what comes
twice is due twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import import_module
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from django_durable.exceptions import InvalidOptionError

LONGEST_EXPRESSION = 200
HORIZON_YEARS = 10
"""An expression that does not come due within so many years never does."""
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_MISSING = (
    "reading it needs the package cronsim, which is not installed: "
    'pip install "django-durable-jobs[cron]".'
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A cron expression in a time zone. Made by ``read_rule``; all its answers are in UTC."""

    expression: str
    timezone: str

    def next_after(self, moment: datetime) -> datetime | None:
        """The first tick later than an aware time; None: none comes."""
        after = moment.astimezone(UTC)
        found = self._next_fixed(after) if self._is_fixed else self._next_real(after)
        is_far = found is not None and found.year > after.year + HORIZON_YEARS
        return None if is_far else found

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The ticks later than ``after``, up to ``until`` and including it."""
        tick = self.next_after(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_after(tick)

    def latest(self, after: datetime, until: datetime, *, most: int) -> tuple[list[datetime], bool]:
        """The last ``most`` ticks of those between, oldest first, and whether these are all.

        Looks back in growing windows, so that a rule of seconds may have rested for years.
        """
        window = timedelta(minutes=1)
        while True:
            start = after if window >= until - after else until - window
            found = deque(self.between(start, until), maxlen=most + 1)
            if start == after or len(found) > most:
                return list(found)[-most:], len(found) <= most
            window *= 8

    @property
    def _is_fixed(self) -> bool:
        minute, hour = self.expression.split()[-5:-3]
        return not (minute.startswith("*") or hour.startswith("*"))

    @property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def _wall_after(self, wall: datetime) -> datetime | None:
        """The next match on a clock that is never changed."""
        found: datetime | None = next(_cronsim().CronSim(self.expression, wall), None)
        return found

    def _next_fixed(self, after: datetime) -> datetime | None:
        wall: datetime | None = _wall(after, self._zone)
        while wall is not None and (wall := self._wall_after(wall)) is not None:
            if (tick := self._placed(wall)) > after:
                return tick
        return None

    def _placed(self, wall: datetime) -> datetime:
        """When the wall clock first shows a time, or passes it in a gap."""
        tick = wall.replace(tzinfo=self._zone).astimezone(UTC)
        if _wall(tick, self._zone) == wall:
            return tick
        before = wall.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        return _first_turn(self._zone, before, tick) or tick

    def _next_real(self, after: datetime) -> datetime | None:
        """Search under the offset in force; where it ends before the match, go on from there."""
        at = after.replace(microsecond=0)
        while at.year <= after.year + HORIZON_YEARS:
            offset = _offset(self._zone, at + _SECOND)
            wall = self._wall_after((at + offset).replace(tzinfo=None))
            if wall is None:
                return None
            tick = wall.replace(tzinfo=UTC) - offset
            turn = _first_turn(self._zone, at + _SECOND, tick)
            if turn is None:
                return tick
            at = turn - _SECOND
        return None


def read_rule(expression: object, timezone: object) -> Rule:
    """The rule of an expression and the name of a time zone.

    Five fields: minute, hour, day, month, weekday; six: the seconds first. Raises:
    InvalidOptionError with the reason, also for a rule that never comes due.
    """
    if not isinstance(expression, str) or not isinstance(timezone, str):
        _refuse(expression, f"it and its time zone, {timezone!r}, must be text.")
    rule = parse_rule(expression, timezone)
    if rule.next_after(datetime.now(UTC)) is None:
        _refuse(expression, f"it names no time within the next {HORIZON_YEARS} years.")
    return rule


@lru_cache(maxsize=1024)
def parse_rule(expression: str, timezone: str) -> Rule:
    """The same without asking whether it ever comes due."""
    if not expression.strip():
        _refuse(expression, "it must be a cron expression such as 0 6 * * 1-5.")
    if len(expression) > LONGEST_EXPRESSION:
        _refuse(expression, f"it must not have more than {LONGEST_EXPRESSION} characters.")
    _check_zone(timezone)
    try:
        _cronsim().CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 (a wall clock)
    except (_cronsim().CronSimError, ValueError, TypeError, AssertionError) as error:
        said = str(error) or "it is no cron expression"
        meaning = "minute hour day month weekday, or six fields with the second first"
        _refuse(expression, f"{said}; the fields are {meaning}.")
    return Rule(" ".join(expression.split()), timezone)


def _refuse(expression: object, reason: str) -> NoReturn:
    raise InvalidOptionError(option="cron", value=expression, reason=reason)


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (OSError, KeyError, ValueError, TypeError):
        reason = "there is no such time zone; use a name such as Europe/Berlin."
        raise InvalidOptionError(option="tz", value=name, reason=reason) from None


def _cronsim() -> Any:
    """The library, from the extra ``cron``. Raises: InvalidOptionError with the cure."""
    try:
        return import_module("cronsim")
    except ImportError:
        raise InvalidOptionError(option="cron", value="expression", reason=_MISSING) from None


# --- clocks


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def _first_turn(zone: ZoneInfo, start: datetime, end: datetime) -> datetime | None:
    """The first second after ``start``, up to ``end``, whose offset is not that of ``start``."""
    offset = _offset(zone, start)
    low = start
    while low < end:
        high = min(low + _DAY, end)
        if _offset(zone, high) != offset:
            while high - low > _SECOND:
                middle = low + (high - low) // 2
                middle = middle.replace(microsecond=0)
                low, high = (low, middle) if _offset(zone, middle) != offset else (middle, high)
            return high
        low = high
    return None
