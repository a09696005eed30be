"""``durable list``: jobs in a table, and the summary of a job that other operations show too."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Q

from django_durable.engine import registry
from django_durable.engine.states import DELAYED, FINISHED, FOREVER, JobState
from django_durable.management.operations.operation import (
    Operation,
    Options,
    not_blank,
    positive,
    queue_name,
)
from django_durable.management.operations.output import Output, age, count_of, shortened
from django_durable.management.operations.reading import (
    MOST,
    all_jobs,
    database_now,
    error_line,
    jobs_alias,
)
from django_durable.models import IdempotencyKey

if TYPE_CHECKING:
    from django_durable.models import Job, JobQuerySet

DEFAULT_LIMIT = 20
HEADERS = ["JOB", "TASK", "STATE", "QUEUE", "ATTEMPT", "AGE", "NOTE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """The columns of a job that tell where it stands, and a note on why."""

    id: UUID
    task_path: str
    state: str
    queue_name: str
    priority: int
    attempt: int
    lost_count: int
    worker_id: int | None
    enqueued_at: datetime
    due_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    ends_as: str | None
    wait_kind: str | None
    wait_reason: str | None
    error: str
    """``type: message`` of the latest one."""


def summary_of(job: Job) -> JobSummary:
    names = [name for name in JobSummary.__slots__ if name != "error"]
    return JobSummary(**{name: getattr(job, name) for name in names}, error=error_line(job.error))


def note_on(job: JobSummary, now: datetime) -> str:
    """Why the job is where it is, in a line."""
    if job.ends_as is not None:
        return f"being undone, then {job.ends_as}"
    if job.due_at == FOREVER:
        return shortened(job.wait_reason or "")
    if job.state in DELAYED:
        return shortened(f"due {age(job.due_at, now)}. {job.wait_reason or ''}")
    if job.state == JobState.RUNNING:
        asked = ", asked to stop" if job.cancel_requested_at else ""
        return f"worker {job.worker_id}, {age(job.claimed_at, now)}{asked}"
    if job.state == JobState.READY and job.lost_count:
        return f"lost {count_of(job.lost_count, 'worker')}"
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        kind, _, message = job.error.partition(": ")
        return shortened(f"{kind.rpartition('.')[2]}: {message}") if job.error else ""
    return ""


def add_filters(parser: ArgumentParser) -> None:
    """The options that choose jobs by what they are."""
    add = parser.add_argument
    add(
        "--state",
        action="append",
        choices=JobState.values,
        type=str.upper,
        dest="states",
        metavar="STATE",
        help="only jobs in this state; may be given several times",
    )
    add("--queue", type=queue_name, metavar="NAME", help="only jobs of this queue")
    add("--task", type=not_blank, metavar="PATH", help="only jobs of the task with this path")


def chosen_jobs(options: Options) -> JobQuerySet:
    jobs = all_jobs()
    if options["states"]:
        jobs = jobs.filter(state__in=options["states"])
    if options["queue"]:
        jobs = jobs.filter(queue_name=options["queue"])
    if options["task"]:
        jobs = jobs.filter(task_path__in=paths_of(options["task"]))
    return jobs


def paths_of(path: str) -> Sequence[str]:
    """All paths under which stored jobs name the task of a path."""
    task = registry.find_task(path)
    return [task.path, *task.aliases] if task else [path]


def add_arguments(parser: ArgumentParser) -> None:
    add_filters(parser)
    parser.add_argument(
        "--key", type=not_blank, metavar="KEY", help="only jobs with this idempotency key"
    )
    parser.add_argument(
        "--limit",
        type=positive,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"how many jobs at most (default: {DEFAULT_LIMIT})",
    )


def run(output: Output, options: Options) -> None:
    now = database_now()
    jobs = chosen_jobs(options)
    if options["key"]:
        jobs = jobs.filter(pk__in=jobs_with_key(options["key"]))
    limit = options["limit"]
    found = [summary_of(job) for job in in_telling_order(jobs, options["states"])[: limit + 1]]
    shown, is_complete = found[:limit], len(found) <= limit
    if output.as_json:
        output.document({"now": now, "is_complete": is_complete, "jobs": shown})
        return
    if not shown:
        output.line("No such jobs.")
        return
    say_jobs(output, shown, now)
    if not is_complete:
        output.line(f"There are more: --limit {limit * 10} shows them, --state fewer.")


def jobs_with_key(key: str) -> list[UUID]:
    """The jobs that a key names, in whatever scope."""
    keys = IdempotencyKey.objects.using(jobs_alias()).filter(key=key)
    found = keys.values_list("job_id", flat=True)[:MOST]
    return [job_id for job_id in found if job_id is not None]


def in_telling_order(jobs: JobQuerySet, states: Sequence[str] | None) -> JobQuerySet:
    """The next to be claimed, the next due, the longest running, the last finished, by an index.

    Of several kinds of states the last enqueued first.
    """
    wanted = set(states or ())
    if wanted == {JobState.RUNNING}:
        return jobs.filter(worker_id__isnull=False).order_by("claimed_at", "id")
    if wanted == {JobState.READY}:
        by_index = Q(limit_name__isnull=True) | Q(limit_name__isnull=False)  # there is one for each
        return jobs.filter(by_index).order_by("queue_name", "-priority", "due_at", "id")
    if wanted and wanted <= set(DELAYED):
        return jobs.order_by("due_at", "id")
    if len(wanted) == 1 and wanted <= set(FINISHED):
        return jobs.filter(finished_at__isnull=False).order_by("-finished_at")
    return jobs.order_by("-id")


def say_jobs(output: Output, jobs: Sequence[JobSummary], now: datetime) -> None:
    output.table(
        HEADERS,
        [
            [
                job.id, job.task_path, job.state, job.queue_name, job.attempt,
                age(job.enqueued_at, now), note_on(job, now),
            ]
            for job in jobs
        ],
    )  # fmt: skip


OPERATION = Operation(name="list", help="jobs in a table", add_arguments=add_arguments, run=run)
