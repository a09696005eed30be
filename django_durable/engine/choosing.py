"""What one claim takes: jobs without limits and jobs that limits leave room for, by one order.

Keys of a limit are served in turn, so that a quiet one is not starved by a hot one. What is offered
of a limit is merged with the other jobs of its queue by priority, due time and age.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django_durable.engine.limits import Found, Key, Places, QueueLimit

if TYPE_CHECKING:
    from django_durable.models import Job

SPARE = 4
"""How many jobs more than wanted are offered of a limit, if rows of the first ones are locked."""
Order = tuple[int, datetime, UUID]


@dataclass(frozen=True, slots=True)
class Gates:
    """What holds jobs of the asked queues back."""

    queues: list[str]
    """Those asked that are not paused, in their order."""
    limited: frozenset[str]
    """Those of them that have limits and ready jobs."""
    pairs: list[QueueLimit]
    """Under which limits jobs of them are ready."""
    resumes_in: float | None
    seen_at: datetime
    """When this was so, on the database's clock."""


@dataclass(slots=True, eq=False)
class Choice:
    """What a claim has taken by now, and what is still free."""

    free: int
    """Slots for which nothing is taken yet."""
    ahead: int
    """How many jobs may be taken besides, for slots that become free later."""
    jobs: list[Job] = field(default_factory=list)
    aheads: list[Job] = field(default_factory=list)
    """Those of the jobs for which there is no free slot."""
    starts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many jobs start under a rate, by its scope and key."""
    look_again_in: float | None = None
    """Seconds until there may be more, though nothing tells."""
    _taken: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def is_full(self) -> bool:
        return self.free + self.ahead <= 0

    def look_again(self, seconds: float | None) -> None:
        if seconds is not None:
            known = self.look_again_in
            self.look_again_in = max(0.0, seconds if known is None else min(known, seconds))

    def take(
        self,
        queue_name: str,
        rows: Sequence[Job],
        offered: Sequence[Offered],
        places: Places | None,
    ) -> None:
        """Take from one queue: its jobs without limits, and what limits offer, in one order.

        Nothing is taken ahead past a job that waits for a free slot under a limit: slots that are
        always busy with others would starve it.
        """
        room = self.free if places is None else min(self.free, places.room)
        merged: list[tuple[Order, Job | None, Offered | None]] = [
            *((_order(row), row, None) for row in rows),
            *((_order(one.found), one.row, one) for one in offered),
        ]
        for _, row, offer in sorted(merged, key=lambda one: one[0]):
            if room > 0 and row is not None and self._has_room(offer):
                room -= 1
                self._start(queue_name, row, offer, places)
            elif offer is not None and room <= 0:
                return
            elif row is not None and room <= 0 and places is None:
                self._take_ahead(row)

    def takes_from(self, key: Key) -> bool:
        return self._taken[key.name] > 0

    def _has_room(self, offer: Offered | None) -> bool:
        return offer is None or self._taken[offer.key.name] < offer.key.room

    def _start(
        self, queue_name: str, row: Job, offer: Offered | None, places: Places | None
    ) -> None:
        self.free -= 1
        self.jobs.append(row)
        if places is not None and places.has_rate:
            self.starts[f"queue/{queue_name}", ""] += 1
        if offer is not None:
            self._taken[offer.key.name] += 1
            if offer.key.has_rate:
                self.starts[f"limit/{offer.key.limit_name}", offer.key.limit_key] += 1

    def _take_ahead(self, row: Job) -> None:
        """A job that was lost before it was known to have begun waits for a free slot this time."""
        if self.ahead > 0 and not row.claimed_ahead:
            self.ahead -= 1
            self.jobs.append(row)
            self.aheads.append(row)


@dataclass(slots=True, eq=False)
class Offered:
    """A job that a limit leaves room for. Without its row it could start, but for a free slot."""

    found: Found
    key: Key
    row: Job | None


def in_turn(keys: Sequence[Key], most: int) -> list[tuple[Found, Key]]:
    """The first job of each key, then the second of each: so many, and a few to spare."""
    ranks = max((len(key.found) for key in keys), default=0)
    found = [
        (key.found[rank], key) for rank in range(ranks) for key in keys if rank < len(key.found)
    ]
    return found[: most + SPARE]


def offer(
    keys: Mapping[QueueLimit, Sequence[Key]],
    rows: Mapping[UUID, Job] | None,
    *,
    queue_name: str,
    most: int,
) -> Iterator[Offered]:
    """What the limits of a queue offer: ``most`` jobs of each at most, whose rows are held.

    ``rows`` None: none is held, since there is no free slot.
    """
    for pair, known in keys.items():
        if pair[0] != queue_name:
            continue
        left = most
        offered: Counter[tuple[str, str]] = Counter()
        for found, key in in_turn(known, most):
            row = None if rows is None else rows.get(found.id)
            has_room = offered[key.name] < key.room and left > 0
            if has_room and (rows is None or row is not None):
                left -= 1
                offered[key.name] += 1
                yield Offered(found, key, row)


def count_heads(
    heads: Sequence[tuple[int, datetime, UUID]], offered: Sequence[Offered], free: int
) -> int:
    """How many of the heads of a queue are among the first ``free`` of all.

    A head is the priority, the due time and the id of a job without a limit.
    """
    others = [(-priority, due_at, job_id) for priority, due_at, job_id in heads]
    merged = sorted([*others, *(_order(one.found) for one in offered)])
    return len(set(merged[:free]).intersection(others))


def _order(row: Job | Found) -> Order:
    return -row.priority, row.due_at, row.id
