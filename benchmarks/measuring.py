"""What a benchmark is, how its runs become figures, and when a figure meets its target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from benchmarks.lab import Lab

Sample = dict[str, float]
"""What one run measured, by name."""
Measure = Callable[[], Sample]


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank: a value that was measured."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def p95(values: Sequence[float]) -> float:
    return percentile(values, 95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A row's result over all runs. ``ratio`` is the median of the runs' own ratios."""

    ours: float
    raw: float | None
    ratio: float | None
    samples: list[float]


class Target(Protocol):
    """A number to reach."""

    def is_met(self, figure: Figure) -> bool: ...


@dataclass(frozen=True, slots=True)
class TimesRaw:
    """At least so many times the raw limit."""

    least: float

    def __str__(self) -> str:
        return f">= {self.least:g} x raw"

    def is_met(self, figure: Figure) -> bool:
        return figure.ratio is not None and figure.ratio >= self.least


@dataclass(frozen=True, slots=True)
class AtMost:
    """At most so much, in the row's own unit."""

    most: float
    unit: str

    def __str__(self) -> str:
        return f"<= {self.most:g} {self.unit}"

    def is_met(self, figure: Figure) -> bool:
        return figure.ours <= self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. ``ours`` and ``raw`` name what a run measured."""

    title: str
    unit: str
    ours: str
    raw: str | None = None
    target: Target
    statistic: Callable[[Sequence[float]], float] = median

    def figure(self, samples: Sequence[Sample]) -> Figure:
        ours = [sample[self.ours] for sample in samples]
        if self.raw is None:
            return Figure(ours=self.statistic(ours), raw=None, ratio=None, samples=ours)
        limits = [sample[self.raw] for sample in samples]
        return Figure(
            ours=self.statistic(ours),
            raw=self.statistic(limits),
            ratio=median(own / limit for own, limit in zip(ours, limits, strict=True)),
            samples=ours,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Something measured in runs. ``prepare`` sets up, gives the measure, and clears up."""

    name: str
    rows: Sequence[Row]
    prepare: Callable[[Lab], AbstractContextManager[Measure]]
    runs: int = 5
    warm_up: bool = True
