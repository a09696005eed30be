"""The two clocks: the database's for every time that is stored, the machine's for measuring."""

import time
from typing import Any

from django.db.models import DateTimeField, Func

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class StatementTimestamp(Func):
    """When the current statement began. ``now()`` would stand still inside a transaction."""

    function = "statement_timestamp"
    arity = 0

    def __init__(self, **extra: Any) -> None:
        super().__init__(output_field=DateTimeField(), **extra)


def machine_seconds() -> float:
    """Seconds on a clock that goes on while the process, or the machine, is frozen."""
    return time.clock_gettime(_BOOTTIME)
