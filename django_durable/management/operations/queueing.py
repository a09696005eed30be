"""``durable queues``, ``pause`` and ``resume``: how long queues are, and what holds them back."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError
from django.utils.dateparse import parse_datetime

from django_durable.engine import overview
from django_durable.engine.overview import QueueOverview
from django_durable.exceptions import InvalidOptionError
from django_durable.management.operations.limiting import bounds_in_words, seconds
from django_durable.management.operations.operation import Operation, Options, not_blank
from django_durable.management.operations.operation import queue_name as queue_name_of
from django_durable.management.operations.output import Output, age, count_of, moment
from django_durable.management.operations.reading import database_now, jobs_alias, read_workers
from django_durable.queues import pause_queue, resume_queue

QUEUE_HEADERS = [
    "QUEUE", "READY", "RUNNING", "SCHEDULED", "OLDEST READY", "WORKERS", "LIMITS", "PAUSED",
]  # fmt: skip


# --- looking


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A queue, and how many live workers claim from it."""

    queue: QueueOverview
    workers: int

    @property
    def document(self) -> dict[str, Any]:
        columns = {name: getattr(self.queue, name) for name in QueueOverview.__slots__}
        return columns | {"workers": self.workers}


def run_queues(output: Output, options: Options) -> None:
    now = database_now()
    workers = read_workers(now)
    lines = [
        Line(queue=queue, workers=sum(w.claims_from(queue.name) for w in workers))
        for queue in overview.read_queues(jobs_alias(), now)
    ]
    if output.as_json:
        output.document({"now": now, "queues": [line.document for line in lines]})
    elif not lines:
        output.line("No task names a queue, and there are no jobs.")
    else:
        output.table(QUEUE_HEADERS, [_queue_row(line, now) for line in lines])


def _queue_row(line: Line, now: datetime) -> list[object]:
    queue = line.queue
    oldest = age(queue.oldest_ready_due_at, now)
    counts = (queue.ready, queue.running, queue.scheduled)
    return [queue.name, *counts, oldest, line.workers, bounds_in_words(queue), paused(queue, now)]


def paused(queue: QueueOverview, now: datetime) -> str:
    """Since when, until when, and why; empty if it is not paused."""
    if queue.paused_at is None:
        return ""
    parts = [f"since {age(queue.paused_at, now)}"]
    if queue.resume_at is not None:
        parts.append(f"resumes {age(queue.resume_at, now)}")
    if queue.reason:
        parts.append(queue.reason)
    return ", ".join(parts)


# --- pausing


def run_pause(output: Output, options: Options) -> None:
    name, until = options["queue"], options["until"]
    if options["seconds"] is not None:
        until = database_now() + options["seconds"]
    try:
        row = pause_queue(name, until=until, reason=options["reason"])
    except InvalidOptionError as error:
        raise CommandError(str(error)) from error
    now = database_now()
    queue = next(q for q in overview.read_queues(jobs_alias(), now) if q.name == name)
    if output.as_json:
        output.document(queue)
        return
    until_when = moment(row.resume_at, now) if row.resume_at else "somebody resumes it"
    running = count_of(queue.running, "job")
    output.line(f"Queue {name} is paused until {until_when}; {running} of it running, to the end.")
    if not (queue.ready or queue.running or queue.scheduled or is_declared(name)):
        output.line("No task known here names this queue, and it has no jobs: is it spelt right?")


def is_declared(name: str) -> bool:
    return name in overview.declared_names()


def run_resume(output: Output, options: Options) -> None:
    name = options["queue"]
    try:
        was_paused = resume_queue(name)
    except InvalidOptionError as error:
        raise CommandError(str(error)) from error
    if output.as_json:
        output.document({"name": name, "was_paused": was_paused})
    elif was_paused:
        output.line(f"Queue {name} goes on.")
    else:
        output.line(f"Queue {name} was not paused.")


# --- options


def instant(text: str) -> datetime:
    try:
        value = parse_datetime(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {error}.") from None
    if value is None:
        raise ArgumentTypeError(f"{text!r} is not a time such as 2026-05-01T09:30+02:00.")
    if value.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} has no time zone; write 2026-05-01T09:30+02:00, or Z.")
    return value


def add_pause_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("queue", type=queue_name_of, metavar="QUEUE", help="its name")
    end = parser.add_mutually_exclusive_group()
    end.add_argument(
        "--until", type=instant, metavar="TIME", help="resume by itself then; ISO 8601 with a zone"
    )
    end.add_argument(
        "--for", type=seconds, dest="seconds", metavar="SECONDS", help="resume by itself after that"
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; shown to who asks")


def add_resume_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("queue", type=not_blank, metavar="QUEUE", help="its name")


OPERATIONS = (
    Operation(
        name="queues",
        help="which queues there are, how long they are, and what holds them back",
        run=run_queues,
    ),
    Operation(
        name="pause",
        help="start no job of a queue any more; running ones go on",
        add_arguments=add_pause_arguments,
        run=run_pause,
    ),
    Operation(
        name="resume",
        help="start the jobs of a paused queue again",
        add_arguments=add_resume_arguments,
        run=run_resume,
    ),
)
