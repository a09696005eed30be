"""Counts that stop at a bound, so that no page and no command reads a million rows."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 10_000
"""No count reads more rows than this."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A count that stopped at a bound: then it says at least how many."""

    count: int
    is_exact: bool

    def __str__(self) -> str:
        return f"{self.count}" if self.is_exact else f"{self.count}+"

    def __bool__(self) -> bool:
        return self.count > 0

    def __add__(self, other: Bounded) -> Bounded:
        return Bounded(self.count + other.count, self.is_exact and other.is_exact)


ZERO = Bounded(0, is_exact=True)
