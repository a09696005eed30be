"""Waiting for facts: each wait says what for, shows how far it is, and gives up at some time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from example_project.demo.errors import DemoError
from example_project.demo.evidence import Session, Snapshot, take_snapshot

T = TypeVar("T")
LOOK_INTERVAL_SECONDS = 0.05
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Looks at the database until something is so."""

    session: Session
    on_look: Callable[[Snapshot], None]
    """Told at each look; what it raises ends the wait."""
    patience_seconds: float = PATIENCE_SECONDS

    def wait_for(self, what: str, look: Callable[[Snapshot], T | None]) -> T:
        """What ``look`` answers, once that is true. Raises: DemoError naming ``what``."""
        deadline = time.monotonic() + self.patience_seconds
        while True:
            snapshot = take_snapshot(self.session)
            self.on_look(snapshot)
            if answer := look(snapshot):
                return answer
            if time.monotonic() > deadline:
                raise DemoError(
                    f"Waited {self.patience_seconds:g} s in vain for {what}. "
                    f"Orders: {snapshot.orders}. Jobs: {snapshot.jobs}. "
                    f"Workers: {snapshot.boots}."
                )
            time.sleep(LOOK_INTERVAL_SECONDS)
