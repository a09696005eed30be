"""What limits leave room for, read from the rows; places are counted, never kept in counters.

Whoever starts jobs under a limit holds its row from before it counts until it commits, so that no
two count at once; whoever ends a job needs nothing of it. A statement that counts comes after the
one that locked, and so sees what every earlier holder committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django_durable.engine.preparing import prepared
from django_durable.engine.sql import Connection, execute, fetch_all, load
from django_durable.limits import Limit

HOLD_LIMITS = load("hold_limits")
COUNT_PLACES = load("count_places")
FIND_PLACES = load("find_places")
NOTE_STARTS = load("note_starts")
DECLARE_LIMITS = load("declare_limits")
PRUNE_STARTS = load("prune_starts")
FEWEST_KEYS, MOST_KEYS = 16, 1024
"""How many keys of a limit one claim looks at; more, the longer it finds none with room."""

QueueLimit = tuple[str, str]
"""The name of a queue, and that of a limit under which jobs of it are ready."""


@dataclass(slots=True, eq=False)
class Turn:
    """Where a worker stands in the round of a limit's keys: they are served in turn."""

    cursor: str = ""
    keys: int = FEWEST_KEYS
    rounds: int = 0
    """How often it has come round since it found a key with room, or rested."""
    has_more: bool = False
    """Whether there are keys that the last look has not seen."""

    def note(self, seen: Sequence[Key]) -> bool:
        """Take note of the keys a look has seen, and move on if none has room; is that worth it?

        Not once it has come round twice: then it has seen all of them, and rests.
        """
        self.has_more = len(seen) >= self.keys
        if any(key.found for key in seen):  # the next look, with the limits held, is as wide
            self.rounds = 0
            return False
        if not self.has_more:
            self.keys, self.rounds = FEWEST_KEYS, 0
            return False
        if self.keys == MOST_KEYS:  # fewer keys are soon seen in one look
            self.rounds += seen[-1].limit_key <= self.cursor
        self.cursor = seen[-1].limit_key
        self.keys = min(2 * self.keys, MOST_KEYS)
        goes_on = self.rounds < 2
        self.rounds = self.rounds if goes_on else 0
        return goes_on

    def go_on_behind(self, key: Key) -> bool:
        """A job of this key was taken: it is the turn of the keys behind it; are there more?"""
        self.cursor, self.keys = key.limit_key, FEWEST_KEYS
        return self.has_more


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Which jobs a claim is for."""

    task_paths: Sequence[str]
    suspects: bool
    max_lost: int
    undoing_limit: int


@dataclass(frozen=True, slots=True)
class Found:
    """A ready job that a limit leaves room for, and where it stands in its queue."""

    id: UUID
    priority: int
    due_at: datetime


@dataclass(slots=True, eq=False)
class Key:
    """A key of a limit, as one look found it. ``opens_in``: seconds, if it has a rate."""

    limit_name: str
    limit_key: str
    room: int
    has_rate: bool
    opens_in: float | None
    found: list[Found] = field(default_factory=list)

    @property
    def name(self) -> tuple[str, str]:
        return self.limit_name, self.limit_key


@dataclass(slots=True, eq=False)
class Places:
    """What a queue's own limits leave room for. ``opens_in``: seconds, if it has a rate."""

    room: int
    has_rate: bool
    opens_in: float | None


@dataclass(frozen=True, slots=True)
class Held:
    """The names of the queues and limits that this transaction holds; limits that have no row."""

    queues: frozenset[str]
    limits: frozenset[str]
    missing: frozenset[str]


def hold_limits(connection: Connection, queues: Collection[str], limits: Collection[str]) -> Held:
    """Hold rows until commit, passing over those that others hold."""
    params = {"queues": sorted(queues), "limits": sorted(limits)}
    rows = fetch_all(prepared(connection), HOLD_LIMITS, params)
    queue, limit, missing = (
        frozenset(name for kind, name in rows if kind == wanted)
        for wanted in ("queue", "limit", "missing")
    )
    return Held(queue, limit, missing)


def count_places(connection: Connection, queues: Collection[str]) -> dict[str, Places]:
    """What the limits of queues leave room for, by queue; those without limits are not in it."""
    rows = fetch_all(prepared(connection), COUNT_PLACES, {"queues": list(queues)})
    return {name: Places(*rest) for name, *rest in rows}


def find_keys(
    connection: Connection,
    pairs: Sequence[QueueLimit],
    turns: Mapping[QueueLimit, Turn],
    fit: Fit,
    *,
    most: int,
) -> dict[QueueLimit, list[Key]]:
    """A bounded number of keys for each limit in a queue, in turn, with what may start of each."""
    params: dict[str, Any] = {
        "queues": [queue_name for queue_name, _ in pairs],
        "limits": [limit_name for _, limit_name in pairs],
        "cursors": [turns[pair].cursor for pair in pairs],
        "keys": [turns[pair].keys for pair in pairs],
        "most": most,
        **{name: getattr(fit, name) for name in Fit.__slots__},
    }
    keys: dict[tuple[int, str], Key] = {}
    for index, limit_key, _, *place, job_id, priority, due_at in fetch_all(
        prepared(connection), FIND_PLACES, params
    ):
        if (key := keys.get((index, limit_key))) is None:
            key = keys[index, limit_key] = Key(pairs[index - 1][1], limit_key, *place)
        if job_id is not None:
            key.found.append(Found(job_id, priority, due_at))
    by_pair: dict[QueueLimit, list[Key]] = {pair: [] for pair in pairs}
    for (index, _), key in keys.items():
        by_pair[pairs[index - 1]].append(key)
    return by_pair


def note_starts(
    connection: Connection, starts: Mapping[tuple[str, str], int], started_at: datetime
) -> None:
    """Note how many jobs start, by (scope, key), under rates that this transaction holds."""
    scopes = sorted(starts)
    params = {
        "scopes": [scope for scope, _ in scopes],
        "limit_keys": [key for _, key in scopes],
        "jobs": [starts[scope] for scope in scopes],
        "started_at": started_at,
    }
    execute(connection, NOTE_STARTS, params)


def declare_limits(
    connection: Connection, limits: Iterable[Limit], *, is_new_only: bool = False
) -> list[str]:
    """Make the rows of limits, and take changed numbers over; the names of those it wrote.

    What an operator changed stays. ``is_new_only``: rows that exist are left alone.
    """
    declared = list(limits)
    if not declared:
        return []
    params = {
        "names": [limit.name for limit in declared],
        "concurrencies": [limit.concurrency for limit in declared],
        "rates": [limit.rate for limit in declared],
        "periods": [limit.period for limit in declared],
        "is_new_only": is_new_only,
    }
    return [row[0] for row in fetch_all(connection, DECLARE_LIMITS, params)]


def prune_starts(connection: Connection, *, limit: int) -> int:
    """Forget starts that no rate counts any more; how many."""
    return len(fetch_all(connection, PRUNE_STARTS, {"limit": limit}))
