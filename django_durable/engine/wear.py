"""Whether a worker process is worn out, and why: it ran enough jobs, or it takes too much memory.

A worn-out worker claims no more, lets what runs end in its own time, and leaves to be started anew.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
from dataclasses import dataclass, field
from pathlib import Path

from django_durable.engine.clock import machine_seconds

logger = logging.getLogger("django_durable")

EXIT_AGAIN = 75
"""Exit code of a worker that is worn out: start it again."""
MEGABYTE = 1_000_000
LOOK_SECONDS = 0.1
_STATM = Path("/proc/self/statm")


@dataclass(slots=True, eq=False, kw_only=True)
class Wear:
    """What a worker process may do in its life, and has done. For its main thread only.

    ``max_memory``: bytes. ``begun``: jobs claimed and not handed back unbegun.
    """

    max_jobs: int | None = None
    max_memory: int | None = None
    begun: int = 0
    reason: str = field(default="")
    """Why it is worn out; empty as long as it is not."""
    _next_look: float = 0.0

    @property
    def room(self) -> int:
        """How many more jobs may begin."""
        if self.reason:
            return 0
        return sys.maxsize if self.max_jobs is None else self.max_jobs - self.begun

    def look(self, *, ended: int) -> None:
        """Find out, and say so once. ``ended``: jobs that have; memory counts after the first."""
        if not self.reason and (reason := self._find_reason(ended)):
            self.reason = reason
            logger.info("Claiming no more, to be started anew: %s", reason)

    def _find_reason(self, ended: int) -> str:
        if self.max_jobs is not None and self.begun >= self.max_jobs:
            return f"{self.begun} job(s) began here, --max-jobs is {self.max_jobs}."
        if self.max_memory is None or not ended or machine_seconds() < self._next_look:
            return ""
        self._next_look = machine_seconds() + LOOK_SECONDS
        return too_much_memory(self.max_memory)


def too_much_memory(most: int) -> str:
    """That this process has more than ``most`` bytes in memory; empty if it has not."""
    size = resident_bytes()
    if size <= most:
        return ""
    return f"it takes {size / MEGABYTE:.0f} MB, --max-memory is {most / MEGABYTE:.0f}."


def resident_bytes() -> int:
    """The memory this process occupies; where there is no /proc, the most it ever occupied."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
