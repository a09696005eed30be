"""Limits: how many jobs of some kind run at once, or start within a time, over all workers.

>>> crm = Limit("crm", concurrency=5, key=lambda order: order.customer_id)
>>> @task(limit=crm)
... def tell_crm(order: Order) -> None: ...

A declaration, without a clock or a database: the numbers that hold stand in the limit's row, which
operators may change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any

from django_durable.exceptions import InvalidOptionError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}")
LONGEST_PERIOD = timedelta(days=366)
HIGHEST = 1_000_000
"""No number is higher: such a limit would hold nothing back."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that tasks share by its name. At least one of ``concurrency`` and ``rate`` is given.

    Raises: InvalidOptionError.
    """

    name: str
    """1 to 100 letters, digits, and _ . : - (not first)."""
    _: KW_ONLY
    concurrency: int | None = None
    """How many such jobs run at once, at most; None: any number."""
    rate: int | None = None
    """How many start within any ``period``, at most; None: any number."""
    period: timedelta | None = None
    """The length of the window that ``rate`` is for, a year at most."""
    key: Callable[..., Any] | None = None
    """Called with the task's arguments: what the limit counts apart. None: all jobs together.

    It returns text, an int, a UUID or a model instance; None: this job is under no limit.
    """

    def __post_init__(self) -> None:
        if problem := check_limit_name(self.name):
            raise InvalidOptionError(option="limit", value=self.name, reason=problem)
        for option in ("concurrency", "rate"):
            self._refuse(option, check_number(getattr(self, option)))
        self._refuse("period", check_period(self.rate, self.period))
        if self.concurrency is None and self.rate is None:
            self._refuse("concurrency", "a limit has one, or a rate and its period, or both.")
        if self.key is not None and not callable(self.key):
            self._refuse("key", "it must be a function of the task's arguments, or None.")

    def _refuse(self, option: str, problem: str | None) -> None:
        if problem:
            value = getattr(self, option)
            reason = f'{problem} (In Limit "{self.name}".)'
            raise InvalidOptionError(option=option, value=value, reason=reason)

    @property
    def numbers(self) -> tuple[int | None, int | None, timedelta | None]:
        """What two declarations under one name must agree on: concurrency, rate, period."""
        return self.concurrency, self.rate, self.period


def check_limit_name(value: Any) -> str | None:
    """What is wrong with a limit's name, or None."""
    fit = isinstance(value, str) and _NAME.fullmatch(value)
    return None if fit else "a limit's name has 1 to 100 letters, digits, and _ . : - (not first)."


def check_number(value: Any) -> str | None:
    """What is wrong with a concurrency or a rate, or None."""
    fit = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= HIGHEST
    return None if value is None or fit else f"it must be an integer from 1 to {HIGHEST}."


def check_period(rate: Any, period: Any) -> str | None:
    """What is wrong with the period of a rate, or None."""
    if (rate is None) != (period is None):
        return "a rate and its period are given together."
    if period is None:
        return None
    fit = isinstance(period, timedelta) and timedelta(0) < period <= LONGEST_PERIOD
    return None if fit else "it must be a positive timedelta, of a year at most."
