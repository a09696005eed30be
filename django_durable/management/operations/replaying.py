"""``durable replay``: what this code would make of the jobs that are alive, with nothing done."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from django.core.management.base import CommandError

from django_durable.engine.checkpoints import load_checkpoints
from django_durable.engine.clock import machine_seconds
from django_durable.engine.rehearsing import Held, Obstacle, rehearse
from django_durable.engine.replay import Recorded
from django_durable.engine.states import DELAYED, JobState
from django_durable.management.operations.listing import paths_of
from django_durable.management.operations.operation import (
    Operation,
    Options,
    not_blank,
    positive,
    queue_name,
)
from django_durable.management.operations.output import Output, count_of
from django_durable.management.operations.reading import all_jobs, database_now, jobs_alias

if TYPE_CHECKING:
    from django_durable.models import Job, JobQuerySet

CHUNK = 200
"""Jobs read at once, with all their checkpoints."""
SECONDS_BETWEEN_SIGNS = 5.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was found so far. ``held``: jobs that could not be judged, since rows were locked."""

    replayed: int = 0
    held: int = 0
    obstacles: list[Obstacle] = field(default_factory=list)
    is_complete: bool = True


def run(output: Output, options: Options) -> None:
    tally = Tally()
    now, said = database_now(), machine_seconds()
    for job, records in histories(chosen_jobs(options)):
        if tally.replayed == options["limit"]:
            tally.is_complete = False
            break
        _replay(tally, job, records, now)
        if machine_seconds() - said > SECONDS_BETWEEN_SIGNS:
            said = machine_seconds()
            output.progress(f"{_replayed(tally)}, {len(tally.obstacles)} would not go on ...")
    if output.as_json:
        output.document(tally)
    else:
        _say(output, tally)
    if tally.obstacles:
        raise CommandError(f"{len(tally.obstacles)} of {_replayed(tally)} would not go on.")


def chosen_jobs(options: Options) -> JobQuerySet:
    """The jobs whose functions would be replayed: not those that are to be ended."""
    jobs = all_jobs().filter(cancel_requested_at__isnull=True, ends_as__isnull=True)
    if options["queue"]:
        jobs = jobs.filter(queue_name=options["queue"])
    if options["task"]:
        jobs = jobs.filter(task_path__in=paths_of(options["task"]))
    return jobs


def histories(jobs: JobQuerySet) -> Iterator[tuple[Job, list[Recorded]]]:
    """Each live job that has checkpoints, with them, by the indexes of live jobs."""
    for live in (
        jobs.filter(worker_id__isnull=False),
        jobs.filter(state__in=DELAYED, lease_token__gt=0),
        jobs.filter(state=JobState.READY, lease_token__gt=0),
    ):
        ids = list(live.order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            records = load_checkpoints(jobs_alias(), chunk)
            for job in all_jobs().live().filter(pk__in=chunk).order_by("pk"):
                if found := records.get(job.pk):
                    yield job, found


def _replay(tally: Tally, job: Job, records: list[Recorded], now: datetime) -> None:
    tally.replayed += 1
    try:
        obstacle = rehearse(job, records, alias=jobs_alias(), now=now)
    except Held:
        tally.held += 1
        return
    if obstacle is not None:
        tally.obstacles.append(obstacle)


# --- saying it


def _replayed(tally: Tally) -> str:
    return f"{count_of(tally.replayed, 'job')} replayed"


def _say(output: Output, tally: Tally) -> None:
    if not tally.replayed:
        output.line("No live job has checkpoints to replay.")
        return
    if tally.obstacles:
        output.table(["JOBS", "FOR INSTANCE", "TASK", "EXPECTED", "FOUND"], _rows(tally.obstacles))
        output.line()
    good = tally.replayed - tally.held - len(tally.obstacles)
    output.line(f"{_replayed(tally)}, nothing written: {good} would go on.")
    if tally.held:
        held = count_of(tally.held, "job")
        output.line(f"{held} could not be judged: code between the steps met locked rows.")
    if not tally.is_complete:
        output.line("There are more: raise --limit.")


def _rows(obstacles: Sequence[Obstacle]) -> list[list[object]]:
    """A row for all jobs that meet the same obstacle, the most frequent first."""
    alike: dict[tuple[str, str, str], list[Obstacle]] = defaultdict(list)
    for one in obstacles:
        alike[one.task_path, one.expected, one.found].append(one)
    groups = sorted(alike.values(), key=len, reverse=True)
    return [
        [len(group), group[0].job_id, group[0].task_path, group[0].expected, group[0].found]
        for group in groups
    ]


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", type=not_blank, metavar="PATH", help="only jobs of the task with this path")
    add("--queue", type=queue_name, metavar="NAME", help="only jobs of this queue")
    add("--limit", type=positive, metavar="N", help="how many jobs at most (default: all)")


OPERATION = Operation(
    name="replay",
    help="tell which live jobs this code would block or fail, without doing anything",
    add_arguments=add_arguments,
    run=run,
)
