"""When expressions come due: every day of the year, and the two on which clocks are changed."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_durable.engine import ticks
from django_durable.engine.ticks import Rule, parse_rule, read_rule
from django_durable.exceptions import InvalidOptionError


def walk(rule: Rule, start: datetime) -> Iterator[datetime]:
    tick = rule.next_after(start)
    while tick is not None:
        yield tick
        tick = rule.next_after(tick)


def wall_of(moment: datetime, tz: ZoneInfo) -> datetime:
    return moment.astimezone(tz).replace(tzinfo=None)


def walls(rule: Rule, start: datetime, end: datetime) -> Iterator[datetime]:
    """What fits of the times between on a clock that is never changed, and some around."""
    wall = rule._wall_after(start - timedelta(hours=2))
    while wall is not None and wall <= end + timedelta(hours=2):
        yield wall
        wall = rule._wall_after(wall)


def local_ticks(expression: str, zone: str, start: str, count: int) -> list[str]:
    """The first ticks after a local time, as that zone's clocks show them."""
    tz = ZoneInfo(zone)
    after = datetime.fromisoformat(start).replace(tzinfo=tz)
    found = islice(walk(read_rule(expression, zone), after), count)
    return [tick.astimezone(tz).strftime("%d %H:%M %z") for tick in found]


class ChangedClockTests:
    def test_a_skipped_time_comes_once_right_after_the_gap(self) -> None:
        assert local_ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", 3) == [
            "28 02:30 +0100",
            "29 03:00 +0200",
            "30 02:30 +0200",
        ]

    def test_several_skipped_times_come_as_one(self) -> None:
        assert local_ticks("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00", 3) == [
            "29 03:00 +0200",
            "29 03:30 +0200",
            "30 02:00 +0200",
        ]

    def test_a_repeated_time_comes_the_first_time_only(self) -> None:
        assert local_ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == [
            "25 02:30 +0200",
            "26 02:30 +0100",
        ]

    def test_a_fixed_time_is_not_found_again_from_within_the_repeated_hour(self) -> None:
        second = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))

        found = read_rule("30 2 * * *", "Europe/Berlin").next_after(second)

        assert found == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)

    def test_intervals_follow_real_time_over_a_gap(self) -> None:
        assert local_ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:00", 3) == [
            "29 01:30 +0100",
            "29 03:00 +0200",
            "29 03:30 +0200",
        ]

    def test_intervals_come_in_both_repeated_hours(self) -> None:
        assert local_ticks("*/30 * * * *", "Europe/Berlin", "2026-10-25T01:30", 5) == [
            "25 02:00 +0200",
            "25 02:30 +0200",
            "25 02:00 +0100",
            "25 02:30 +0100",
            "25 03:00 +0100",
        ]

    def test_the_southern_hemisphere_whose_midnight_is_skipped(self) -> None:
        assert local_ticks("30 0 * * *", "America/Santiago", "2026-09-05T00:00", 3) == [
            "05 00:30 -0400",
            "06 01:00 -0300",
            "07 00:30 -0300",
        ]

    def test_the_southern_hemisphere_whose_hour_is_repeated(self) -> None:
        assert local_ticks("30 2 * * *", "Australia/Sydney", "2026-04-04T12:00", 2) == [
            "05 02:30 +1100",
            "06 02:30 +1000",
        ]

    def test_half_an_hour_is_skipped(self) -> None:
        assert local_ticks("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", 2) == [
            "04 02:30 +1100",
            "05 02:15 +1100",
        ]

    def test_half_an_hour_is_repeated(self) -> None:
        assert local_ticks("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", 2) == [
            "05 01:45 +1100",
            "06 01:45 +1030",
        ]
        assert local_ticks("*/20 1 * * *", "Australia/Lord_Howe", "2026-04-05T01:00", 4) == [
            "05 01:20 +1100",
            "05 01:40 +1100",
            "05 01:40 +1030",
            "06 01:00 +1030",
        ]
        assert local_ticks("*/20 2 * * *", "Australia/Lord_Howe", "2026-04-05T01:00", 2) == [
            "05 02:00 +1030",
            "05 02:20 +1030",
        ]

    def test_a_day_that_a_zone_left_out(self) -> None:
        assert local_ticks("0 9 30 12 *", "Pacific/Apia", "2011-12-29T12:00", 1) == [
            "31 00:00 +1400"
        ]


ZONES = ["UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "America/St_Johns"]
FIELDS = st.tuples(
    st.sampled_from(["0", "*/7", "15,45", "30", "*", "5-8"]),
    st.sampled_from(["*", "2", "0-3", "*/5", "1,2,3", "23"]),
    st.sampled_from(["*", "*", "1", "*/10", "L"]),
    st.sampled_from(["*", "*", "3,10", "4"]),
    st.sampled_from(["*", "*", "0", "1-5", "6L"]),
)
# around the days on which these zones change their clocks, and any other
STARTS = st.one_of(
    st.datetimes(datetime(2026, 3, 26), datetime(2026, 4, 7)),  # noqa: DTZ001
    st.datetimes(datetime(2026, 9, 3), datetime(2026, 11, 3)),  # noqa: DTZ001
    st.datetimes(datetime(1995, 1, 1), datetime(2037, 1, 1)),  # noqa: DTZ001
)


class WalkingTests:
    @given(FIELDS, st.sampled_from(ZONES), STARTS)
    @settings(max_examples=200)
    def test_ticks_only_grow(self, fields: tuple[str, ...], zone: str, start: datetime) -> None:
        after = start.replace(tzinfo=UTC)
        found = [after, *islice(walk(parse_rule(" ".join(fields), zone), after), 12)]

        assert all(one < next_one for one, next_one in pairwise(found))

    @given(FIELDS, st.sampled_from(ZONES), STARTS)
    @settings(max_examples=60)
    def test_none_is_lost(self, fields: tuple[str, ...], zone: str, start: datetime) -> None:
        """Each minute whose wall clock fits is a tick, but for the second one of a fixed time."""
        rule = parse_rule(" ".join(fields), zone)
        after = start.replace(tzinfo=UTC, second=0, microsecond=0)
        until = after + timedelta(hours=30)
        tz = ZoneInfo(zone)

        at = after - timedelta(hours=3)
        fitting = set(walls(rule, wall_of(at, tz), wall_of(until, tz)))
        expected, seen = set(), set()
        while at < until:
            at += timedelta(minutes=1)
            wall = wall_of(at, tz)
            if wall in fitting and at > after and not (rule._is_fixed and wall in seen):
                expected.add(at)
            seen.add(wall)

        found = set(rule.between(after, until))
        assert expected <= found
        assert rule._is_fixed or found == expected

    @given(FIELDS, st.sampled_from(ZONES), STARTS, st.integers(1, 20))
    @settings(max_examples=60)
    def test_the_latest_are_the_end_of_all(
        self, fields: tuple[str, ...], zone: str, start: datetime, most: int
    ) -> None:
        rule = parse_rule(" ".join(fields), zone)
        after = start.replace(tzinfo=UTC)
        until = after + timedelta(days=2)

        every = list(rule.between(after, until))

        assert rule.latest(after, until, most=most) == (every[-most:], len(every) <= most)

    def test_a_rule_of_seconds_that_rested_for_years_is_no_work(self) -> None:
        years = timedelta(days=3650)
        now = datetime(2026, 1, 1, tzinfo=UTC)

        found, is_complete = parse_rule("* * * * * *", "UTC").latest(now - years, now, most=3)

        assert not is_complete
        assert found == [now - timedelta(seconds=n) for n in (2, 1, 0)]

    def test_a_rare_rule_is_looked_back_on_to_the_beginning_of_time(self) -> None:
        yearly, beginning = parse_rule("0 0 1 1 *", "UTC"), datetime(1, 1, 2, tzinfo=UTC)

        found, _ = yearly.latest(beginning, datetime(2026, 6, 1, tzinfo=UTC), most=3000)

        assert len(found) == 2025


class RefusalTests:
    @pytest.mark.parametrize(
        ("expression", "said"),
        [
            ("", "must be a cron expression"),
            ("61 * * * *", "Bad minute"),
            ("* * * *", "Wrong number of fields"),
            ("@daily", "Wrong number of fields"),
            ("0 0 31 2 *", "Bad day-of-month"),
            ("0 0 * 2 MON#5", "no time within the next 10 years"),
            ("*/0 * * * *", "Bad minute"),
            ("0," * 200 + "0 * * * *", "more than 200 characters"),
            (None, "must be text"),
            (["*"], "must be text"),
        ],
    )
    def test_an_expression_is_refused_with_the_reason(self, expression: str, said: str) -> None:
        with pytest.raises(InvalidOptionError, match=said):
            read_rule(expression, "UTC")

    @pytest.mark.parametrize("zone", ["Europe", "Europe/Atlantis", "", "../etc/passwd", "/etc"])
    def test_an_unknown_zone_is_refused(self, zone: str) -> None:
        with pytest.raises(InvalidOptionError, match="no such time zone"):
            read_rule("0 6 * * *", zone)

    def test_a_missing_library_is_named_with_its_cure(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "cronsim", None)
        ticks.parse_rule.cache_clear()

        with pytest.raises(InvalidOptionError, match=r"pip install .*\[cron\]"):
            read_rule("0 6 * * *", "UTC")

    def test_leap_days_are_no_never(self) -> None:
        assert read_rule("0 0 29 2 *", "UTC").next_after(datetime(2026, 1, 1, tzinfo=UTC)) == (
            datetime(2028, 2, 29, tzinfo=UTC)
        )
