"""What a worker claims, and when: queues in turn, suspects alone, no waking when there is plenty.

A job that lost its worker twice is a suspect and is run alone, so that no neighbour dies with it.
An idle worker takes one when nothing else is ready; a busy one empties itself for one now and then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING

from django.db import connections

from django_durable.engine import claims, liveness
from django_durable.engine.clock import machine_seconds
from django_durable.engine.listener import Listener
from django_durable.engine.serving import Serving
from django_durable.engine.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_durable.models import Job

SUSPECT_SECONDS = 30.0
"""How often a busy worker looks for a suspect to empty itself for."""
EMPTYING_SECONDS = 10.0
"""How long it claims nothing else for that; then it goes on, and tries again later."""

FLOOD, FLOOD_SECONDS = 10, 0.05
"""So many claims in so short a time that found something: looking beats being told."""
BACKLOGGED_SECONDS = 0.005
"""How soon a worker looks again that is not told of new jobs."""
CALM_SECONDS = 0.05
"""When it finds nothing for so long, it wants to be told again."""
ROUND = 50
SOON_SECONDS = 1.0
"""A burst of work waits so long for a limit that leaves room again."""


@dataclass(slots=True, eq=False, kw_only=True)
class Claimer:
    """Claims for one registered worker."""

    claimant: claims.Claimant
    slots: Slots
    listener: Listener
    serving: Serving = field(default_factory=Serving)
    poll_interval: float = 1.0
    found_nothing: bool = False
    must_look_again: bool = False
    woken_queues: set[str] = field(default_factory=set)
    latest_tasks: set[str] = field(default_factory=set)
    _last_queue: str = ""
    _look_at_all_at: float = 0.0
    _looked_at_all: bool = True
    _full_batches: int = 0
    _finds: deque[float] = field(default_factory=lambda: deque(maxlen=FLOOD))
    """When the latest claims found something."""
    _runs_suspect: bool = False
    _emptying_until: float = 0.0
    _next_suspect: float = 0.0
    _look_again_at: float | None = None

    def claim(self) -> list[Job]:
        """Claim for the free slots; ``[]`` also when this is not the time to.

        Raises: WorkerLost; database errors, after which the worker must reconcile.
        """
        self.found_nothing = False
        if self.seconds_to_next() == 0.0:
            self._look_again_at = None
        limit, ahead = self._limits()
        if limit + ahead == 0:
            return []
        queues = self._queues_to_ask()
        self._consider_suspects(queues)
        part, part_ahead = self._share(limit, ahead, queues=len(queues))
        settled = self.slots.settled
        claimed = self._claim_from(queues, part, part_ahead)
        self._note_when_to_look(claimed, settled)
        jobs = claimed.jobs
        self._last_queue = jobs[-1].queue_name if jobs else self._last_queue
        self._note_batch(found=bool(jobs), is_full=len(jobs) >= part + part_ahead)
        self.must_look_again |= bool(jobs) and part < limit
        self.latest_tasks = {job.task_path for job in jobs} or self.latest_tasks
        return jobs

    def seconds_to_next(self) -> float | None:
        """Until there may be more, though nothing tells; None: somebody tells."""
        at = self._look_again_at
        return None if at is None else max(0.0, at - machine_seconds())

    def _note_when_to_look(self, claimed: claims.Claimed, settled: int) -> None:
        """Keep the next time there may be more. A burst does not wait for what is far off.

        ``settled``: the slots' count before the claim. A job that left since may have made room.
        """
        again = claimed.look_again_in
        self.slots.tells_all = claimed.is_held_back
        if claimed.is_held_back and self.slots.settled != settled:
            again = 0.0
        is_over = again is None or again > SOON_SECONDS
        self.found_nothing = not claimed.jobs and self._looked_at_all and is_over
        if again is not None:
            self._look_again(again)

    def _look_again(self, seconds: float) -> None:
        at = machine_seconds() + seconds
        self._look_again_at = min(at, self._look_again_at or at)

    def _limits(self) -> tuple[int, int]:
        """How many jobs to claim, and how many ahead: none while a suspect is, or is to be, alone.

        With jobs ahead a slot is free in no time, so that there always is a place for those that
        must not be claimed ahead.
        """
        slots = self.slots
        is_busy = bool(slots.known_runs)
        self._runs_suspect = self._runs_suspect and is_busy
        if self._runs_suspect or (self._is_emptying and is_busy):
            return 0, 0
        wanted = slots.pace.jobs_ahead(slots.count, self.latest_tasks)
        slots.low_water = wanted * 2 // 3
        if not wanted:
            return slots.free, 0
        if slots.waiting > slots.low_water:
            return 0, 0
        limit = min(max(slots.free, 1), slots.wear.room)
        ahead = min(wanted - slots.waiting, slots.wear.room - limit)
        # few different numbers, so that few statements are planned
        spare = (limit + ahead) % ROUND if limit + ahead > ROUND else 0
        return limit, max(0, ahead - spare)

    def _share(self, limit: int, ahead: int, *, queues: int) -> tuple[int, int]:
        """A queue's part of what is to be claimed, where several queues have ready jobs.

        Else the first would take all, and hold all slots as long as its jobs last.
        """
        if queues <= 1:
            return limit, ahead
        return min(limit, ceil(self.slots.count / queues)), ceil(ahead / queues)

    @property
    def _is_emptying(self) -> bool:
        return machine_seconds() < self._emptying_until

    def _claim_from(self, queues: Sequence[str], limit: int, ahead: int) -> claims.Claimed:
        if not queues:
            return claims.Claimed([])
        if self._is_emptying and not self.slots.known_runs:
            self._emptying_until = 0.0
            suspect = self._claim_suspect(queues)
            if suspect.jobs:  # else another worker took it
                return suspect
        if self._is_emptying:
            return claims.Claimed([])
        claimed = claims.claim_jobs(self.claimant, queues, limit=limit, ahead=ahead)
        if not claimed.jobs and not self.slots.known_runs:
            return replace(claimed, jobs=self._claim_suspect(queues).jobs)
        return claimed

    def _claim_suspect(self, queues: Sequence[str]) -> claims.Claimed:
        claimed = claims.claim_suspect(self.claimant, queues)
        self._runs_suspect = bool(claimed.jobs)
        return claimed

    def _consider_suspects(self, queues: Sequence[str]) -> None:
        now = machine_seconds()
        if not self.slots.known_runs or now < self._next_suspect:
            return
        self._next_suspect = now + SUSPECT_SECONDS
        if claims.has_suspect(self.claimant, queues):
            self._emptying_until = now + EMPTYING_SECONDS

    def _queues_to_ask(self) -> list[str]:
        """Those it serves that have ready jobs, first those behind the one claimed from last.

        Who is woken for one queue looks into that one only, but looks at all as often as it polls.
        """
        now, woken = machine_seconds(), list(self.woken_queues)
        self.woken_queues.clear()
        self._looked_at_all = True
        if len(self.serving.exact_names) == 1:
            queues = list(self.serving.exact_names)
        elif woken and now < self._look_at_all_at:
            queues, self._looked_at_all = woken, False
        else:
            self._look_at_all_at = now + self.poll_interval
            queues = claims.find_ready_queues(connections[self.claimant.alias])
        served = sorted(name for name in queues if self.serving.serves(name))
        turn = bisect_right(served, self._last_queue)
        return served[turn:] + served[:turn]

    def _note_batch(self, *, found: bool, is_full: bool) -> None:
        """Two full batches in a row, or many claims in a row that found something: enqueueing need
        not wake this worker, which looks again by itself, until it finds nothing for a while.

        Every notification makes commits wait for each other. Leaving that state the worker must
        look once more: ``must_look_again``.
        """
        now = machine_seconds()
        self._full_batches = self._full_batches + 1 if is_full else 0
        if found:
            self._finds.append(now)
        is_flooded = len(self._finds) == FLOOD and self._finds[0] > now - FLOOD_SECONDS
        backlogged = self._full_batches >= 2 or is_flooded
        if self.listener.backlogged and not backlogged:
            backlogged = bool(self._finds) and self._finds[-1] > now - CALM_SECONDS
        if backlogged and not is_full:
            self._look_again(BACKLOGGED_SECONDS)
        if backlogged != self.listener.backlogged:
            self.listener.backlogged = backlogged
            liveness.set_backlogged(
                self.claimant.alias, self.claimant.worker_id, backlogged=backlogged
            )
            self.must_look_again |= not backlogged
