"""How an operation speaks: sentences and aligned tables for people, or one JSON document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, is_dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils import timezone

if TYPE_CHECKING:
    from django.core.management.base import OutputWrapper
    from django.core.management.color import Style

NOTHING = "-"
_NUMBER = re.compile(r"\d+\+?|-")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PAINT = {
    "RUNNING": "NOTICE",
    "SUCCESSFUL": "SUCCESS",
    "FAILED": "ERROR",
    "CANCELLED": "WARNING",
    "OK": "SUCCESS",
    "WARN": "WARNING",
    "FAIL": "ERROR",
    "UNDONE": "SUCCESS",
    "NOT UNDONE": "ERROR",
    "live": "SUCCESS",
    "stopping": "WARNING",
    "silent": "ERROR",
    "lost": "ERROR",
}
"""Words that are coloured wherever they fill a cell, by the name of the style."""


@dataclass(slots=True)
class Output:
    """Where an operation writes. ``as_json``: one document, and nothing else."""

    stdout: OutputWrapper
    stderr: OutputWrapper
    style: Style
    as_json: bool

    def document(self, data: object) -> None:
        self.stdout.write(json.dumps(data, default=_plain, indent=2))

    def line(self, text: str = "") -> None:
        self.stdout.write(text)

    def progress(self, text: str) -> None:
        """A line for who watches, not part of a document."""
        if not self.as_json:
            self.stdout.write(text)
            self.stdout.flush()

    def problem(self, text: str) -> None:
        self.stderr.write(self.style.ERROR(text))

    def heading(self, text: str) -> None:
        self.stdout.write("")
        self.stdout.write(self.style.MIGRATE_HEADING(text))

    def paint(self, text: str) -> str:
        """The text in the colour of its word, padding and all."""
        name = _PAINT.get(text.strip())
        painted: str = getattr(self.style, name)(text) if name else text
        return painted

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """A line for each pair whose value is there, the names in a column."""
        shown = [(name, printable(value)) for name, value in pairs if value not in (None, "")]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            self.line(f"{name:<{width}}  {self.paint(value)}")

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Aligned columns, numbers to the right; cells are never cut."""
        cells = [[printable(NOTHING if c in (None, "") else c) for c in row] for row in rows]
        columns = list(zip(headers, *cells, strict=True))
        widths = [max(map(len, column)) for column in columns]
        right = [all(map(_NUMBER.fullmatch, column[1:])) for column in columns]

        def aligned(row: Sequence[str]) -> list[str]:
            padded = zip(row, widths, right, strict=True)
            return [c.rjust(width) if number else c.ljust(width) for c, width, number in padded]

        self.line(self.style.MIGRATE_LABEL("  ".join(aligned(headers)).rstrip()))
        for row in cells:
            self.line("  ".join(map(self.paint, aligned(row))).rstrip())

    def block(self, text: str) -> None:
        """Text of several lines, moved in; what would steer a terminal is replaced."""
        for line in text.expandtabs().splitlines():
            self.line(f"    {_CONTROL.sub('?', line)}".rstrip())


def printable(value: object) -> str:
    """A value on one line, without what would steer a terminal."""
    return _CONTROL.sub("?", " ".join(str(value).splitlines()))


def shortened(text: str, longest: int = 100) -> str:
    """The text's first line, cut with an ellipsis. Never for ids."""
    first = text.strip().partition("\n")[0]
    return first if len(first) <= longest else f"{first[: longest - 1]}…"


def _plain(value: Any) -> Any:
    """What JSON lacks: times in ISO 8601, durations in seconds, ids as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID):
        return str(value)
    if is_dataclass(value):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    raise TypeError(f"{type(value).__name__} has no place in a document.")


# --- words


def span(length: timedelta) -> str:
    """A length of time in one unit: ``12 ms``, ``3 min``, ``2 days``."""
    seconds = abs(length.total_seconds())
    for limit, size, unit in _UNITS:
        if seconds < limit:
            number = seconds / size
            return f"{number:.1f} {unit}" if unit == "s" and number < 10 else f"{number:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


_UNITS = ((1, 0.001, "ms"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"))


def age(when: datetime | None, now: datetime) -> str:
    """How long ago, or in how long: ``3 min ago``, ``in 5 min``; within a second ``now``."""
    if when is None:
        return ""
    since = now - when
    if abs(since) < timedelta(seconds=1):
        return "now"
    return f"{span(since)} ago" if since > timedelta(0) else f"in {span(since)}"


def moment(when: datetime | None, now: datetime) -> str:
    """A time and its age: ``2026-05-01 09:30:00 UTC (3 min ago)``; in the project's time zone."""
    if when is None:
        return ""
    return f"{timezone.localtime(when):%Y-%m-%d %H:%M:%S %Z} ({age(when, now)})"


def count_of(number: object, noun: str) -> str:
    """``1 job``, ``3 jobs``, ``10000+ jobs``."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"


def wait_in_words(job: Any, now: datetime) -> str:
    """What a job waits for, since when, and until when at the latest; empty if it does not."""
    parts = [job.wait_reason or job.wait_kind or ""]
    if job.waiting_since is not None:
        parts[0] += f" since {moment(job.waiting_since, now)}"
    if job.wait_deadline_at is not None:
        parts.append(f"times out {moment(job.wait_deadline_at, now)}")
    return ", ".join(part for part in parts if part)
