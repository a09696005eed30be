"""What can stand between a job and a worker. Each function looks for one thing, and its cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine import claims, registry
from django_durable.engine.faults import DATABASE_ERRORS, sqlstate
from django_durable.engine.replay import base_name
from django_durable.engine.sql import fetch_one, load
from django_durable.engine.states import BLOCKED, DELAYED, CheckpointState, JobState
from django_durable.exceptions import DuplicateTaskPathError, UnknownTaskError
from django_durable.management.operations import holding
from django_durable.management.operations.finding import Finding
from django_durable.management.operations.output import (
    age,
    count_of,
    moment,
    span,
    wait_in_words,
)
from django_durable.management.operations.reading import (
    MOST,
    SILENT,
    STOPPING,
    Bounded,
    WorkerStatus,
    all_jobs,
    is_suspect,
    jobs_alias,
)
from django_durable.models import Checkpoint

if TYPE_CHECKING:
    from django_durable.models import Job

FIND_LOCK_HOLDER = load("find_lock_holder")
LOCK_NOT_AVAILABLE = "55P03"
READ_ONLY_TRANSACTION = "25006"
OVERDUE = timedelta(minutes=1)
"""Workers promote due jobs every POLL_INTERVAL; so much later nobody does."""
START_WORKER = "start one: manage.py durable_worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A job, and the world it waits in."""

    job: Job
    now: datetime
    workers: Sequence[WorkerStatus]

    @property
    def claimers(self) -> list[WorkerStatus]:
        """The workers that claim from its queue."""
        return [w for w in self.workers if w.claims_from(self.job.queue_name)]


def not_due(situation: Situation) -> Iterator[Finding]:
    job, now = situation.job, situation.now
    if job.state != JobState.SCHEDULED or job.due_at <= now:
        return
    why = f"It waits: {job.wait_reason}." if job.wait_reason else "That is what its caller asked."
    yield Finding(
        code="not-due",
        says=f"It is not due before {moment(job.due_at, now)}. {why}",
        cure=f"wait; or let it go on at once: manage.py durable wake {job.pk}",
    )


def waiting(situation: Situation) -> Iterator[Finding]:
    """What the job waits for, each thing with what would bring it."""
    job, now = situation.job, situation.now
    if job.state != JobState.WAITING or job.wait_kind == BLOCKED or job.due_at <= now:
        return
    rows = Checkpoint.objects.using(jobs_alias()).filter(
        job_id=job.pk, state=CheckpointState.STARTED
    )
    cures = [_CURES[row.kind](job, row) for row in rows.order_by("seq") if row.kind in _CURES]
    yield Finding(
        code="waiting",
        says=f"It {wait_in_words(job, now)}.",
        cure="; or ".join(dict.fromkeys(cures)) or "wait: a sibling's end makes room for it.",
    )


def _cure_of_event(job: Job, row: Checkpoint) -> str:
    kind, _, rest = (row.wait_key or "").partition("/")
    if kind == "message":
        return f"send it: manage.py durable send {job.pk} {rest.partition('/')[2]}"
    return f"emit it: manage.py durable emit {rest}"


_CURES: dict[str, Callable[[Job, Checkpoint], str]] = {
    "sleep": lambda job, row: f"wait; or end its sleep: manage.py durable wake {job.pk}",
    "event": _cure_of_event,
    "child": lambda job, row: "look at its children: their end wakes it",
    "map": lambda job, row: "look at its children: their end wakes it",
    "approval": lambda job, row: "answer it, in the admin or on the page of approvals",
    "condition": lambda job, row: "wait: it looks again by itself",
}


def retrying_step(situation: Situation) -> Iterator[Finding]:
    if situation.job.state not in DELAYED:
        return
    rows = Checkpoint.objects.using(jobs_alias()).filter(job_id=situation.job.pk)
    for row in rows.filter(state=CheckpointState.RETRYING).order_by("seq"):
        yield Finding(
            code="step-retries",
            says=f"Step {row.identity} failed {count_of(row.attempt, 'time')} and is tried again "
            f"{age(row.next_attempt_at, situation.now)}.",
            cure=f"manage.py durable show {situation.job.pk} has its error.",
        )


def overdue(situation: Situation) -> Iterator[Finding]:
    job, now = situation.job, situation.now
    if job.state in DELAYED and job.due_at <= now:
        late = now - job.due_at > OVERDUE
        yield Finding(
            code="overdue" if late else "due",
            says=f"It became due {age(job.due_at, now)}, and no worker has made it ready yet. Any "
            f"live worker does that every {span(get_settings().POLL_INTERVAL)}.",
            cure="see that a worker runs; its log says what keeps it." if late else None,
        )


def blocked(situation: Situation) -> Iterator[Finding]:
    job = situation.job
    if job.wait_kind != BLOCKED:
        return
    if "; found " not in (job.wait_reason or ""):
        says = f"It does not go on: {job.wait_reason}. "
        again = f"It is tried again {age(job.due_at, situation.now)}, and when code is deployed."
        yield Finding(code="blocked", says=says + again, cure="mend that, and deploy it.")
        return
    expected, found = mismatch_of(job.wait_reason or "")
    cure = "mend the code so that it meets the recorded steps again, and deploy it"
    if name := new_step_in(found):
        retry = f"manage.py durable retry {job.pk} --allow-new-step {name}"
        cure = f"{cure}; or, if {name} is new and may run now: {retry}"
    yield Finding(
        code="blocked",
        says="Its code and its checkpoints differ, so it does not go on. "
        f"Expected: {expected}. Found: {found}. "
        f"It is tried again {age(job.due_at, situation.now)}, and when other code is deployed.",
        cure=cure,
    )


def mismatch_of(reason: str) -> tuple[str, str]:
    """What was expected and found, from the words that block a job."""
    expected, _, found = reason.removeprefix("replay mismatch: ").partition("; found ")
    return expected.removeprefix("expected ") or "?", found or "?"


def new_step_in(found: str) -> str | None:
    """The name of the step that has no checkpoint, if that is what was found."""
    identity, is_new, _ = found.partition(", which has no checkpoint")
    name = identity.rpartition("/")[2].partition("#")[0]
    return base_name(name) if is_new else None


def cancelling(situation: Situation) -> Iterator[Finding]:
    job = situation.job
    if job.cancel_requested_at is not None and job.ends_as is None:
        yield Finding(
            code="cancel-requested",
            says=f"Cancelling was asked for {age(job.cancel_requested_at, situation.now)}: it ends "
            "CANCELLED when a worker claims it next, without running; what its steps did is undone "
            "first, where they say how.",
            cure=f"to have it after all: manage.py durable retry {job.pk}, once it is CANCELLED.",
        )


def poison(situation: Situation) -> Iterator[Finding]:
    job = situation.job
    if job.lost_count >= get_settings().MAX_LOST and job.ends_as is None:
        yield Finding(
            code="poison",
            says=f"It lost its worker {job.lost_count} times in a row, as often as "
            "DURABLE['MAX_LOST'] allows: the next claim fails it as poison, without running it.",
            cure=f"mend the task, which probably ends the process (memory?); then, once it is "
            f"FAILED: manage.py durable retry {job.pk}",
        )


def undoing(situation: Situation) -> Iterator[Finding]:
    job = situation.job
    if job.ends_as is not None:
        yield Finding(
            code="undoing",
            says=f"It is being undone: the compensations of its steps run, then it is "
            f"{job.ends_as}. Its function is not called again.",
            cure=f"manage.py durable show {job.pk} lists what is undone by now.",
        )


def suspect(situation: Situation) -> Iterator[Finding]:
    job = situation.job
    most = get_settings().MAX_LOST
    most = claims.undoing_limit(most) if job.ends_as else most
    end = "nothing more is undone" if job.ends_as else "it is FAILED as poison"
    if is_suspect(job):
        yield Finding(
            code="suspect",
            says=f"It lost its worker {job.lost_count} times in a row, so it is a suspect: it runs "
            "alone, on a worker that holds nothing else. A busy worker empties itself for one "
            f"every half minute. After {most} losses {end}.",
            cure="find out what ended those workers: see their logs and the kernel's (memory?).",
        )


def unknown_task(situation: Situation) -> Iterator[Finding]:
    path = situation.job.task_path
    try:
        registry.get_task(path)
        registry.check_conflict(path)
    except (UnknownTaskError, DuplicateTaskPathError) as error:
        yield Finding(
            code="unknown-task",
            says=f"{error} A worker with the same code leaves the job alone.",
            cure="start a worker whose code has the task; after a move give it its old path back: "
            f'@task(aliases=("{path}",)).',
        )


def unnamed_queue(situation: Situation) -> Iterator[Finding]:
    known, queue = get_settings().QUEUES, situation.job.queue_name
    if known is not None and queue not in known:
        yield Finding(
            code="unnamed-queue",
            says=f"Its queue {queue} is not in DURABLE['QUEUES'] ({', '.join(known)}), so no "
            "worker serves it.",
            cure="add the queue to DURABLE['QUEUES'] until it is empty, and start a worker.",
        )


def unserved(situation: Situation) -> Iterator[Finding]:
    queue = situation.job.queue_name
    alive = [worker for worker in situation.workers if worker.is_alive]
    if situation.claimers:
        return
    if not alive:
        yield Finding(code="no-worker", says="No worker is alive.", cure=START_WORKER)
        return
    offers = "; ".join(
        f"{w} is stopping" if w.state == STOPPING else f"{w} serves {w.serving}" for w in alive
    )
    yield Finding(
        code="unserved-queue",
        says=f"No live worker claims from its queue {queue}: {offers}.",
        cure=f"manage.py durable_worker --queue {queue}",
    )


def silent_workers(situation: Situation) -> Iterator[Finding]:
    """Workers that look dead; often the reason why none serves."""
    silent = [w for w in situation.workers if w.state == SILENT]
    if silent and not situation.claimers:
        names = ", ".join(f"{w}, {w.silence(situation.now)}" for w in silent)
        yield Finding(
            code="silent-workers",
            says=f"Looking dead, and not declared lost yet: {names}.",
            cure="see whether that process died, is frozen, or is cut off from the database.",
        )


def locked(situation: Situation) -> Iterator[Finding]:
    """Tries to lock the row for an instant, without waiting, as a claim would."""
    job, alias = situation.job, jobs_alias()
    row = all_jobs().filter(pk=job.pk).select_for_update(nowait=True, no_key=True)
    try:
        with transaction.atomic(using=alias):
            list(row.values_list("pk"))
    except DATABASE_ERRORS as error:
        if sqlstate(error) == LOCK_NOT_AVAILABLE:
            holder = fetch_one(connections[alias], FIND_LOCK_HOLDER, {"job_id": job.pk})
            yield _held_by(holder, situation.now)
        elif sqlstate(error) != READ_ONLY_TRANSACTION:
            raise


def _held_by(holder: Any | None, now: datetime) -> Finding:
    says = "Another transaction holds its row, so claims skip it"
    if holder is None:
        return Finding(
            code="locked",
            says=f"{says}: several share it, or it is ending now.",
            cure="ask again; if it stays so, look for old transactions in pg_stat_activity.",
        )
    pid, application, state, began = holder
    name = f" ({application})" if application else ""
    return Finding(
        code="locked",
        says=f"{says}: session {pid}{name}, {state}, transaction begun {age(began, now)}.",
        cure=f"let that transaction end, or end it: select pg_terminate_backend({pid})",
    )


def behind_others(situation: Situation) -> Iterator[Finding]:
    """How many jobs are claimed before it; and whether there is a free slot at all."""
    job, claimers = situation.job, situation.claimers
    ahead = jobs_ahead(job)
    if ahead:
        yield Finding(
            code="behind-others",
            says=f"{count_of(ahead, 'job')} in queue {job.queue_name} come first, by priority, due "
            "time and age.",
            cure="wait; or give the queue more workers, or such jobs a higher priority.",
        )
    slots, running = sum(w.slots for w in claimers), sum(w.running for w in claimers)
    if claimers and running >= slots:
        workers = count_of(len(claimers), "worker")
        yield Finding(
            code="slots-busy",
            says=f"All {count_of(slots, 'slot')} of the {workers} that serve its queue are busy.",
            cure="wait; or start more workers, or give them more --slots.",
        )


def jobs_ahead(job: Job) -> Bounded:
    """How many ready jobs of its queue are claimed before it; suspects, unknown tasks are not.

    Of one under a limit, how many of those that are counted with it.
    """
    queue = all_jobs().ready().filter(queue_name=job.queue_name)
    queue = queue.filter(limit_name=job.limit_name, limit_key=job.limit_key)
    first = queue.order_by("-priority", "due_at", "id")
    known, max_lost = set(registry.known_paths()), get_settings().MAX_LOST
    ahead = 0
    columns = ("pk", "task_path", "lost_count", "ends_as")
    for pk, task_path, lost_count, ends_as in first.values_list(*columns)[:MOST]:
        if pk == job.pk:
            return Bounded(ahead, is_exact=True)
        ahead += task_path in known and not claims.is_suspect(lost_count, ends_as, max_lost)
    return Bounded(ahead, is_exact=False)


OBSTACLES: Sequence[Callable[[Situation], Iterator[Finding]]] = (
    undoing,
    not_due,
    waiting,
    retrying_step,
    overdue,
    blocked,
    cancelling,
    poison,
    suspect,
    unserved,
    silent_workers,
    unknown_task,
    unnamed_queue,
    holding.paused,
    holding.queue_limited,
    holding.limited,
    locked,
)
"""For every job that does not run and is not finished, in the order of telling."""
READY_OBSTACLES = (behind_others,)
