"""``durable status``: how many jobs stand where, which workers are alive, what needs a look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connections

from django_durable.engine.claims import find_ready_queues
from django_durable.engine.queues import Others, Ready, count_others, count_ready, paused_queues
from django_durable.engine.states import DELAYED, FINISHED, JobState
from django_durable.management.operations.operation import Operation, Options
from django_durable.management.operations.output import Output, age, count_of, printable
from django_durable.management.operations.reading import (
    LIVE,
    MOST,
    ZERO,
    Bounded,
    WorkerStatus,
    database_now,
    jobs_alias,
    read_workers,
)

QUEUE_HEADERS = ["QUEUE", *JobState.values, "OLDEST READY", "WORKERS"]
WORKER_HEADERS = [
    "WORKER", "WHERE", "STATE", "HEARTBEAT", "RUNNING", "SLOTS", "STARTED", "CODE", "QUEUES",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """A queue with jobs in it: how many in each state, and who serves it."""

    queue_name: str
    jobs: dict[str, Bounded]
    oldest_ready_due_at: datetime | None
    workers: int
    """Live ones that claim from it."""

    @property
    def is_stranded(self) -> bool:
        return bool(self.jobs[JobState.READY]) and not self.workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All that ``durable status`` knows. Suspects are ready or running."""

    database: str
    now: datetime
    queues: Sequence[QueueStatus]
    totals: dict[str, Bounded]
    blocked: Bounded
    suspects: Bounded
    paused_queues: Sequence[str]
    workers: Sequence[WorkerStatus]


def read_status() -> Status:
    """The status, in a handful of bounded queries."""
    now = database_now()
    workers = read_workers(now)
    connection = connections[jobs_alias()]
    ready = count_ready(connection, find_ready_queues(connection), limit=MOST)
    others = count_others(connection, finals=FINISHED, limit=MOST)
    names = sorted({row.queue_name for row in ready} | {row.queue_name for row in others})
    queues = [_queue_status(name, ready, others, workers) for name in names]
    delayed = [Bounded(row.blocked, row.is_exact) for row in others if row.state in DELAYED]
    suspects = [Bounded(row.suspects, row.jobs < MOST) for row in ready]
    suspects += [
        Bounded(row.suspects, row.is_exact) for row in others if row.state == JobState.RUNNING
    ]
    return Status(
        database=jobs_alias(),
        now=now,
        queues=queues,
        totals={state: _sum(q.jobs[state] for q in queues) for state in JobState.values},
        blocked=_sum(delayed),
        suspects=_sum(suspects),
        paused_queues=[row.name for row in paused_queues(jobs_alias(), now)],
        workers=workers,
    )


def _queue_status(
    name: str, ready: list[Ready], others: list[Others], workers: list[WorkerStatus]
) -> QueueStatus:
    jobs = {state: Bounded(0, _is_exact(state, others)) for state in JobState.values}
    jobs |= {row.state: Bounded(row.jobs, row.is_exact) for row in others if row.queue_name == name}
    own = next((row for row in ready if row.queue_name == name), None)
    if own is not None:
        jobs[JobState.READY] = Bounded(own.jobs, own.jobs < MOST)
    return QueueStatus(
        queue_name=name,
        jobs=jobs,
        oldest_ready_due_at=own.oldest_due_at if own else None,
        workers=sum(worker.claims_from(name) for worker in workers),
    )


def _is_exact(state: str, others: list[Others]) -> bool:
    """Whether all jobs of a state were read; the delayed ones are read together."""
    together = DELAYED if state in DELAYED else (state,)
    return all(row.is_exact for row in others if row.state in together)


def _sum(counts: Iterable[Bounded]) -> Bounded:
    return sum(counts, start=ZERO)


# --- saying it


def run(output: Output, options: Options) -> None:
    status = read_status()
    if output.as_json:
        output.document(status)
        return
    output.line(f"Jobs on database {status.database!r}, {status.now:%Y-%m-%d %H:%M:%S %Z}")
    _say_queues(output, status)
    _say_workers(output, status)
    for sentence in _remarks(status):
        output.line(output.style.WARNING(sentence))


def _say_queues(output: Output, status: Status) -> None:
    output.heading("Queues")
    if not status.queues:
        output.line("No jobs.")
        return
    rows: list[list[object]] = [
        [q.queue_name, *q.jobs.values(), age(q.oldest_ready_due_at, status.now), q.workers]
        for q in status.queues
    ]
    rows.append(
        ["(all)", *status.totals.values(), "", sum(w.state == LIVE for w in status.workers)]
    )
    output.table(QUEUE_HEADERS, rows)


def _say_workers(output: Output, status: Status) -> None:
    output.heading("Workers")
    if not status.workers:
        output.line("None is alive. Start one: manage.py durable_worker")
        return
    output.table(WORKER_HEADERS, [_worker_row(worker, status.now) for worker in status.workers])


def _worker_row(worker: WorkerStatus, now: datetime) -> list[object]:
    return [
        worker.id,
        f"{worker.hostname}:{worker.pid}",
        worker.state,
        age(worker.heartbeat_at, now),
        worker.running,
        worker.slots,
        age(worker.started_at, now),
        worker.code_version,
        str(worker.serving) or "all",
    ]


def _remarks(status: Status) -> list[str]:
    """What needs a look, each with the command that shows more."""
    remarks = []
    if status.blocked:
        what = count_of(status.blocked, "job")
        remarks.append(f"{what} blocked by a replay mismatch: durable list --state WAITING")
    if status.suspects:
        what = count_of(status.suspects, "suspect")
        remarks.append(f"{what} lost a worker twice or more: durable doctor")
    if status.paused_queues:
        names = ", ".join(map(printable, status.paused_queues))
        remarks.append(f"Paused: {names}; see durable queues")
    stranded = [queue.queue_name for queue in status.queues if queue.is_stranded]
    if stranded:
        remarks.append(f"No live worker serves {', '.join(stranded)}: durable_worker --queue NAME")
    return ["", *remarks] if remarks else []


OPERATION = Operation(
    name="status", help="how many jobs stand where, and which workers are alive", run=run
)
