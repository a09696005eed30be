"""What a benchmark is, how its runs become figures, and when a figure meets its target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from benchmarks.lab import Lab, Sample
from benchmarks.peers import TITLES

Measure = Callable[[], Sample]
RAW = "raw"


def thousands(number: int) -> str:
    """A number as people read it: `20 000`."""
    return f"{number:,}".replace(",", " ")


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank: a value that was measured."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def p95(values: Sequence[float]) -> float:
    return percentile(values, 95)


@dataclass(frozen=True, slots=True)
class Rival:
    """What another one reached, and the median of the runs' own ratios of ours to it."""

    value: float
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A row's result over all runs. ``rivals`` has the raw limit and peers, by name."""

    ours: float
    rivals: dict[str, Rival] = field(default_factory=dict)
    samples: list[float] = field(default_factory=list)

    def ratio(self, name: str) -> float | None:
        return self.rivals[name].ratio if name in self.rivals else None


class Target(Protocol):
    """A number to reach. ``None``: what it is compared with was not measured."""

    def is_met(self, figure: Figure) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class Times:
    """At least so many times what another one reaches."""

    least: float
    rival: str = RAW
    called: str = ""

    def __str__(self) -> str:
        return f">= {self.least:g} x {self.called or TITLES.get(self.rival, self.rival)}"

    def is_met(self, figure: Figure) -> bool | None:
        ratio = figure.ratio(self.rival)
        return None if ratio is None else ratio >= self.least


@dataclass(frozen=True, slots=True)
class AtMostTimes:
    """At most so many times what another one takes."""

    most: float
    rival: str = RAW
    called: str = ""

    def __str__(self) -> str:
        return f"<= {self.most:g} x {self.called or TITLES.get(self.rival, self.rival)}"

    def is_met(self, figure: Figure) -> bool | None:
        ratio = figure.ratio(self.rival)
        return None if ratio is None else ratio <= self.most


@dataclass(frozen=True, slots=True)
class AtMost:
    """At most so much, in the row's own unit."""

    most: float
    unit: str

    def __str__(self) -> str:
        return f"<= {self.most:g} {self.unit}".strip()

    def is_met(self, figure: Figure) -> bool | None:
        return figure.ours <= self.most


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least so much, in the row's own unit."""

    least: float
    unit: str

    def __str__(self) -> str:
        return f">= {self.least:g} {self.unit}".strip()

    def is_met(self, figure: Figure) -> bool | None:
        return figure.ours >= self.least


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. ``ours`` and ``rivals`` name what a run measured.

    ``part`` follows each of these names where a run measures several things of each contestant.
    ``beside`` says what the rival is that is no peer.
    """

    title: str
    unit: str
    ours: str = "ours"
    rivals: Sequence[str] = ()
    part: str = ""
    targets: Sequence[Target]
    statistic: Callable[[Sequence[float]], float] = median
    beside: str = "raw limit"

    @property
    def reference(self) -> str | None:
        """What it is measured beside that is no peer: the raw limit, or ours in another way."""
        return next((name for name in self.rivals if name not in TITLES), None)

    def key(self, name: str) -> str:
        return f"{name} {self.part}".strip()

    def figure(self, samples: Sequence[Sample]) -> Figure:
        ours = [sample[self.key(self.ours)] for sample in samples]
        return Figure(
            ours=self.statistic(ours),
            rivals={
                name: rival
                for name in self.rivals
                if (rival := self._rival(self.key(name), samples)) is not None
            },
            samples=ours,
        )

    def _rival(self, key: str, samples: Sequence[Sample]) -> Rival | None:
        pairs = [(s[self.key(self.ours)], s[key]) for s in samples if key in s]
        if not pairs:
            return None
        return Rival(
            value=self.statistic([theirs for _, theirs in pairs]),
            ratio=median(own / theirs if theirs else math.inf for own, theirs in pairs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Something measured in runs. ``prepare`` sets up, gives the measure, and clears up."""

    name: str
    rows: Sequence[Row]
    prepare: Callable[[Lab], AbstractContextManager[Measure]]
    runs: int = 5
    warm_up: bool = True
