"""Taking jobs: who runs what, proved by a number that grows with each claim.

A claim is one short READ COMMITTED transaction, committed before any user code runs. It holds its
worker's row, so that the worker is not declared lost meanwhile, and skips rows that others hold.
Only tasks known to this process are claimed. A job that lost its worker twice is a suspect and is
claimed alone, so that only the guilty one comes to the limit. What limits hold back is told by
``engine.limits``, and which of the rest is taken by ``engine.choosing``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Q

from django_durable.engine import limits, registry
from django_durable.engine.choosing import Choice, Gates, Offered, count_heads, in_turn, offer
from django_durable.engine.limits import Fit, Key, Places, QueueLimit, Turn
from django_durable.engine.locking import lock_ids, lock_ready
from django_durable.engine.preparing import in_few_trips, note_server, prepared
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.sql import Connection, execute, fetch_all, fetch_one, id_array, load
from django_durable.engine.states import JobState

if TYPE_CHECKING:
    from django_durable.models import Job

HOLD_WORKER = load("hold_worker")
HOLD_WORKER_ALONE = load("hold_worker_alone")
RELEASE_UNKNOWN_JOBS = load("release_unknown_jobs")
CHECK_LEASE = load("check_lease")
HOLD_LEASE = load("hold_lease")
MARK_RUNNING = load("mark_running")
FIND_FIRST_READY = load("find_first_ready")
FIND_READY_QUEUES = load("find_ready_queues")
SUSPECT_FROM = 2
HELD_SECONDS = 0.03
"""When to look again for a limit that another claim holds."""
ROUND_SECONDS = 0.02
"""When to look at the next keys of a limit, if none was found with room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who claims, and what it can run. ``max_lost`` is the number of losses that makes poison."""

    worker_id: int
    alias: str
    task_paths: Sequence[str]
    code_version: str
    max_lost: int
    turns: dict[QueueLimit, Turn] = field(default_factory=lambda: defaultdict(Turn), compare=False)
    """Where it stands in the round of each limit's keys."""

    def fit(self, *, suspects: bool) -> Fit:
        return Fit(
            task_paths=self.task_paths,
            suspects=suspects,
            max_lost=self.max_lost,
            undoing_limit=undoing_limit(self.max_lost),
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """The claimed rows as they now stand, and when there may be more though nothing tells.

    Those with ``claimed_ahead`` come after those for free slots.
    """

    jobs: list[Job]
    look_again_in: float | None = None
    """Seconds; None: when a job comes, or a place under a limit is given back."""
    is_held_back: bool = False
    """Whether there may be ready jobs that wait for such a place."""


class WorkerLost(Exception):  # noqa: N818 (an answer: this worker was declared lost)
    """The claimant was declared lost: nothing was claimed; drop all jobs and register anew."""


def claim_jobs(claimant: Claimant, queues: Iterable[str], *, limit: int, ahead: int = 0) -> Claimed:
    """Claim up to ``limit`` ready jobs, asking the queues in their order; and ``ahead`` besides.

    Those ahead are for slots that are not free yet: they are under no limit, and not begun by this.
    Returns: at best so many; none is normal. Raises: WorkerLost; database errors, after which
    ``release_unknown_jobs`` tells what was committed.
    """
    return _claim(claimant, queues, Choice(free=limit, ahead=ahead), suspects=False)


def claim_suspect(claimant: Claimant, queues: Iterable[str]) -> Claimed:
    """Claim one job that lost its worker before, for a worker that holds nothing else."""
    return _claim(claimant, queues, Choice(free=1, ahead=0), suspects=True)


def has_suspect(claimant: Claimant, queues: Iterable[str]) -> bool:
    """Whether a suspect waits that this worker could run now."""
    names = list(queues)
    ready = job_rows(claimant.alias).filter(state=JobState.READY, limit_name__isnull=True)
    known = ready.filter(queue_name__in=names, task_path__in=claimant.task_paths)
    if known.filter(_suspect(claimant)).exists():
        return True
    connection = connections[claimant.alias]
    pairs = _read_gates(connection, claimant, names).pairs
    fit = claimant.fit(suspects=True)
    keys = limits.find_keys(connection, pairs, claimant.turns, fit, most=1) if pairs else {}
    return any(key.found for seen in keys.values() for key in seen)


def _suspect(claimant: Claimant) -> Q:
    """Lost its worker before, but is to run: not poison, or poison that undoes its steps."""
    undoes = Q(ends_as__isnull=False, lost_count__lt=undoing_limit(claimant.max_lost))
    return Q(lost_count__gte=SUSPECT_FROM) & (Q(lost_count__lt=claimant.max_lost) | undoes)


def is_suspect(lost_count: int, ends_as: str | None, max_lost: int) -> bool:
    """The same of a job that was read."""
    most = max_lost if ends_as is None else undoing_limit(max_lost)
    return SUSPECT_FROM <= lost_count < most


def undoing_limit(max_lost: int) -> int:
    """How many workers a job loses before its steps are not undone any more."""
    return 2 * max_lost


def find_ready_queues(connection: Connection) -> list[str]:
    """The names of all queues that have ready jobs."""
    return [row[0] for row in fetch_all(connection, FIND_READY_QUEUES, {})]


# --- one claim


def _claim(claimant: Claimant, queues: Iterable[str], choice: Choice, *, suspects: bool) -> Claimed:
    missing: Collection[str] = ()
    connection = connections[claimant.alias]
    with transaction.atomic(using=claimant.alias), in_few_trips(connection):
        gates = _read_gates(connection, claimant, list(queues))
        choice.look_again(gates.resumes_in)
        chooser = _Chooser(claimant, choice, gates, suspects=suspects)
        if gates.limited or gates.pairs:
            missing = chooser.look_at_limits()
        for queue_name in gates.queues:
            if choice.is_full:
                break
            chooser.take_from(queue_name)
        chooser.serve_next_keys()
        if choice.jobs:
            aheads = frozenset(job.pk for job in choice.aheads)
            # a rate counts from when the places were counted, or later
            known_time = None if choice.starts else gates.seen_at
            claimed_at = _mark_running(claimant, choice.jobs, aheads, claimed_at=known_time)
            if choice.starts:
                limits.note_starts(connection, choice.starts, claimed_at)
    if _make_limits(connection, missing):
        choice.look_again(0.0)
    is_held_back = bool(gates.limited or gates.pairs)
    return Claimed(choice.jobs, choice.look_again_in, is_held_back)


def _read_gates(connection: Connection, claimant: Claimant, queues: list[str]) -> Gates:
    """Hold the worker's row, and see what holds jobs back. Raises: WorkerLost."""
    params = {"worker_id": claimant.worker_id, "queues": queues}
    row = fetch_one(prepared(connection), HOLD_WORKER, params)
    if row is None:
        raise WorkerLost
    paused, limited, pairs, resumes_in, backend_pid, seen_at = row
    note_server(connection, backend_pid)
    return Gates(
        [name for name in queues if name not in paused],
        frozenset(limited).difference(paused),
        [(queue, limit) for queue, limit in pairs if queue not in paused],
        resumes_in,
        seen_at,
    )


def _make_limits(connection: Connection, missing: Collection[str]) -> bool:
    """Make the rows of limits that have none, in a commit of its own; whether any was made.

    Only a declared one can be made; jobs under others wait for a worker whose code declares it.
    """
    declared = registry.declared_limits() if missing else {}
    known = [declared[name] for name in missing if name in declared]
    return bool(limits.declare_limits(connection, known, is_new_only=True))


class _Chooser:
    """Takes jobs for one claim, inside its transaction."""

    def __init__(self, claimant: Claimant, choice: Choice, gates: Gates, *, suspects: bool) -> None:
        self._claimant = claimant
        self._choice = choice
        self._gates = gates
        self._suspects = suspects
        self._connection = connections[claimant.alias]
        self._keys: dict[QueueLimit, list[Key]] = {}
        self._places: dict[str, Places] = {}
        self._rows: dict[UUID, Job] | None = None
        self._most = max(1, choice.free)

    # --- what limits leave room for

    def look_at_limits(self) -> Collection[str]:
        """See what limits leave room for, hold those that leave some, and see again.

        Most looks find no room: they hold nothing, so that they cost others nothing. Returns: the
        names of limits that have no row.
        """
        self._see(self._gates.pairs, self._gates.limited)
        self._note_when_to_look_again()
        if self._choice.free <= 0:
            return ()
        open_queues = {name for name, places in self._places.items() if places.room > 0}
        pairs = [pair for pair in self._gates.pairs if self._may_start(pair)]
        wanted = {limit_name for _, limit_name in pairs}
        held = limits.hold_limits(self._connection, open_queues, wanted)
        if held.queues < open_queues or (held.limits | held.missing) < wanted:
            self._choice.look_again(HELD_SECONDS)
        self._see([pair for pair in pairs if pair[1] in held.limits], held.queues)
        self._hold_rows()
        return held.missing

    def _may_start(self, pair: QueueLimit) -> bool:
        """Whether a job was found that may start now; or no key: the limit has no row."""
        queue_name = pair[0]
        keys = self._keys[pair]
        if queue_name in self._gates.limited and self._room_of(queue_name) <= 0:
            return False
        return not keys or any(key.found for key in keys)

    def _see(self, pairs: Sequence[QueueLimit], queues: Collection[str]) -> None:
        fit = self._claimant.fit(suspects=self._suspects)
        turns = self._claimant.turns
        self._keys = (
            limits.find_keys(self._connection, pairs, turns, fit, most=self._most) if pairs else {}
        )
        self._places = limits.count_places(self._connection, queues) if queues else {}

    def _note_when_to_look_again(self) -> None:
        seen: list[Key | Places] = [key for keys in self._keys.values() for key in keys]
        for place in (*seen, *self._places.values()):
            if place.has_rate and place.room <= 0:
                self._choice.look_again(place.opens_in)
        for pair, keys in self._keys.items():
            if self._claimant.turns[pair].note(keys):
                self._choice.look_again(ROUND_SECONDS)

    def _hold_rows(self) -> None:
        ids = [
            found.id
            for (queue_name, _), keys in self._keys.items()
            if queue_name not in self._gates.limited or self._room_of(queue_name) > 0
            for found, _ in in_turn(keys, self._most)
        ]
        self._rows = {row.pk: row for row in lock_ids(self._claimant.alias, ids)}

    def _room_of(self, queue_name: str) -> int:
        places = self._places.get(queue_name)
        return 0 if places is None else places.room

    # --- taking

    def take_from(self, queue_name: str) -> None:
        """Take jobs of one queue, as far as its own limits leave room."""
        choice, places = self._choice, self._places.get(queue_name)
        if queue_name not in self._gates.limited:
            most = choice.free + choice.ahead
        elif places is None or places.room <= 0:
            return
        else:
            most = min(choice.free, places.room)
        offered = list(offer(self._keys, self._rows, queue_name=queue_name, most=self._most))
        if offered:
            most = self._count_wanted(queue_name, offered, most)
        fit = _suspect(self._claimant) if self._suspects else ~_suspect(self._claimant)
        known = self._claimant.task_paths
        rows = lock_ready(self._claimant.alias, known, queue_name, fit, most=most)
        choice.take(queue_name, rows, offered, places)

    def _count_wanted(self, queue_name: str, offered: Sequence[Offered], most: int) -> int:
        """How many jobs without limits come before those offered: others shall not be hidden.

        A row that is locked and then not taken is passed over by other claims until the commit.
        """
        free = min(self._choice.free, most)
        params = {"queue_name": queue_name, "most": free}
        heads = fetch_all(prepared(self._connection), FIND_FIRST_READY, params)
        return count_heads(heads, offered, free) + most - free

    def serve_next_keys(self) -> None:
        """Let the next claim go on behind the last key that was served of each limit."""
        for pair, keys in self._keys.items():
            served = [key for key in keys if self._choice.takes_from(key)]
            if served and self._claimant.turns[pair].go_on_behind(served[-1]):
                self._choice.look_again(ROUND_SECONDS)


def _mark_running(
    claimant: Claimant, jobs: list[Job], aheads: frozenset[UUID], *, claimed_at: datetime | None
) -> datetime:
    """Make jobs running; when that was. A time that is known already need not be waited for."""
    connection = prepared(connections[claimant.alias])
    params = {
        "claimed_at": claimed_at,
        "ids": id_array(job.pk for job in jobs),
        "aheads": id_array(aheads),
        "worker_id": claimant.worker_id,
        "code_version": claimant.code_version,
    }
    if claimed_at is not None:
        execute(connection, MARK_RUNNING, params)
    else:
        ((claimed_at,),) = fetch_all(connection, MARK_RUNNING, params)
    for job in jobs:  # as the statement has changed their rows, which are locked
        job.lease_token += 1
        job.claimed_at = claimed_at
        job.started_at = job.started_at or claimed_at
        job.claimed_ahead = job.pk in aheads
        job.unique_key = None if job.unique_while == "queued" else job.unique_key
        job.state = JobState.RUNNING
        job.worker_id = claimant.worker_id
        job.code_version = claimant.code_version
    return claimed_at


def release_unknown_jobs(
    connection: Connection, *, worker_id: int, known: Iterable[tuple[UUID, int]]
) -> list[UUID]:
    """Give back jobs that run under this worker's name without its knowing; in a transaction.

    Needed after a claim whose COMMIT went unanswered. ``known`` are the (job, token) pairs it runs.
    Locks the worker's row first, which waits for a claim that is still in flight.
    """
    fetch_all(connection, HOLD_WORKER_ALONE, {"worker_id": worker_id})
    pairs = list(known)
    params = {
        "worker_id": worker_id,
        "job_ids": [job_id for job_id, _ in pairs],
        "lease_tokens": [token for _, token in pairs],
    }
    return [row[0] for row in fetch_all(connection, RELEASE_UNKNOWN_JOBS, params)]


def hold_lease(connection: Connection, job_id: UUID, lease_token: int) -> bool:
    """Whether a claim is still good, and then it stays so to the end of the transaction."""
    params = {"job_id": job_id, "lease_token": lease_token}
    return fetch_one(connection, HOLD_LEASE, params) is not None


def check_lease(connection: Connection, job_id: UUID, lease_token: int) -> bool:
    """Whether a claim is still good, as the database says."""
    params = {"job_id": job_id, "lease_token": lease_token}
    return fetch_one(connection, CHECK_LEASE, params) is not None
