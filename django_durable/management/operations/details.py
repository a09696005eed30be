"""``durable show``: everything that is stored about one job."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from django_durable.conf import get_settings
from django_durable.engine.context import describe
from django_durable.engine.instances import TaskError
from django_durable.engine.published import JobProgress
from django_durable.engine.replay import COMPENSATION
from django_durable.engine.states import FINISHED, FOREVER, CheckpointState
from django_durable.exceptions import JobNotFoundError
from django_durable.jobs import get_job
from django_durable.management.operations.listing import JobSummary, say_jobs, summary_of
from django_durable.management.operations.operation import Operation, Options
from django_durable.management.operations.output import (
    Output,
    age,
    moment,
    shortened,
    span,
    wait_in_words,
)
from django_durable.management.operations.reading import (
    all_jobs,
    database_now,
    error_of,
    jobs_alias,
)
from django_durable.models import Attempt, Checkpoint, IdempotencyKey, JobValue
from django_durable.unique import uniqueness_of

if TYPE_CHECKING:
    from django_durable.models import Job

MOST_CHILDREN = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """A job with all that belongs to it, in the order in which it came about."""

    now: datetime
    job: dict[str, Any]
    """Its columns by name; JSON ones decoded."""
    progress: JobProgress | None
    values: dict[str, Any]
    """What it published, as it is stored."""
    attempts: Sequence[dict[str, Any]]
    checkpoints: Sequence[dict[str, Any]]
    keys: Sequence[dict[str, Any]]
    children: Sequence[JobSummary]
    has_more_children: bool


def found_job(job_id: str) -> Job:
    """Raises: CommandError if there is no such job."""
    try:
        return get_job(job_id)
    except JobNotFoundError as error:
        raise CommandError(str(error)) from None


def read_details(job: Job) -> Details:
    alias = jobs_alias()
    attempts = Attempt.objects.using(alias).filter(job_id=job.pk).order_by("id")
    checkpoints = Checkpoint.objects.using(alias).filter(job_id=job.pk).in_order()
    keys = IdempotencyKey.objects.using(alias).filter(job_id=job.pk).order_by("id")
    values = JobValue.objects.using(alias).filter(job_id=job.pk).order_by("key")
    # said in the words of the index, which holds every row that a job enqueued
    children = all_jobs().filter(parent_id=job.pk, origin__isnull=False).order_by("id")
    found = list(children[: MOST_CHILDREN + 1])
    return Details(
        now=database_now(),
        job=_columns(job),
        progress=job.progress,
        values={row.key: json.loads(row.value) for row in values},
        attempts=[_columns(row) for row in attempts],
        checkpoints=[
            _columns(row) | {"duration": row.saved_at - row.started_at} for row in checkpoints
        ],
        keys=[_columns(row) for row in keys],
        children=[summary_of(child) for child in found[:MOST_CHILDREN]],
        has_more_children=len(found) > MOST_CHILDREN,
    )


def _columns(row: Any) -> dict[str, Any]:
    names = {field.attname: field.column for field in row._meta.concrete_fields}
    stored = {column: getattr(row, name) for name, column in names.items()}
    return {name: _decoded(name, value) for name, value in stored.items()}


def _decoded(name: str, value: Any) -> Any:
    return json.loads(value) if name in _JSON_COLUMNS and value is not None else value


_JSON_COLUMNS = frozenset(
    {"arguments", "return_value", "value", "error", "compensation", "context"}
)


def run(output: Output, options: Options) -> None:
    job = found_job(options["job"])
    details = read_details(job)
    if output.as_json:
        output.document(details)
        return
    _say_facts(output, job, details)
    _say_call(output, job, details)
    _say_values(output, details)
    _say_attempts(output, details)
    _say_checkpoints(output, details)
    _say_keys(output, details)
    if details.children:
        output.heading("Jobs it enqueued")
        say_jobs(output, details.children, details.now)
        if details.has_more_children:
            output.line(f"And more than these {MOST_CHILDREN}.")


def _say_facts(output: Output, row: Job, details: Details) -> None:
    job, now = details.job, details.now
    took = job["finished_at"] and job["started_at"] and job["finished_at"] - job["started_at"]
    output.fields(
        [
            ("job", job["id"]),
            ("task", job["task_path"]),
            ("state", job["state"]),
            ("undoing", job["ends_as"] and f"its steps; then it is {job['ends_as']}"),
            ("waits", wait_in_words(row, now)),
            ("queue", job["queue_name"]),
            ("priority", job["priority"]),
            ("attempt", job["attempt"]),
            ("workers lost", job["lost_count"] or None),
            ("worker", job["worker_id"]),
            ("enqueued", moment(job["enqueued_at"], now)),
            ("not before", moment(job["run_after"], now)),
            ("due", moment(job["due_at"], now) if job["due_at"] != FOREVER else None),
            ("started", moment(job["started_at"], now)),
            ("claimed", moment(job["claimed_at"], now)),
            ("cancel asked", moment(job["cancel_requested_at"], now)),
            ("deadline", moment(job["deadline_at"], now)),
            ("unique", uniqueness_of(row, now) and f"{uniqueness_of(row, now)}: {row.unique_key}"),
            ("finished", moment(job["finished_at"], now)),
            ("took", span(took) if took else None),
            ("about", job["subject_type"] and f"{job['subject_type']} {job['subject_key']}"),
            ("enqueued by job", job["parent_id"]),
            ("of schedule", job["schedule_name"]),
            ("for the tick", moment(job["tick_at"], now)),
            ("enqueued as", job["origin"]),
            ("context", describe(row.context)),
            ("progress", details.progress and str(details.progress)),
            ("allowed steps", ", ".join(job["allowed_steps"])),
            ("code", job["code_version"]),
        ]
    )


def _say_call(output: Output, job: Job, details: Details) -> None:
    output.heading("Call")
    output.block(call_text(details.job["task_path"], details.job["arguments"]))
    if job.encoded_return_value is not None:
        output.heading("Returned")
        output.block(compact(details.job["return_value"]))
    if not details.attempts and (error := error_of(job.error)):
        output.heading("Error")
        output.block(error.traceback or f"{error.exception_class_path}: {error.message}")


def _say_values(output: Output, details: Details) -> None:
    if details.values:
        output.heading("Published")
        rows = [[key, shortened(compact(value))] for key, value in details.values.items()]
        output.table(["NAME", "VALUE"], rows)


def call_text(task_path: str, arguments: Any) -> str:
    """The stored call as it would be written; a text that no enqueue wrote as it is."""
    match arguments:
        case {"args": list(args), "kwargs": dict(kwargs)}:
            named = [f"{name}={compact(value)}" for name, value in kwargs.items()]
            return f"{task_path}({', '.join([*map(compact, args), *named])})"
    return f"{task_path}: {compact(arguments)}"


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _say_attempts(output: Output, details: Details) -> None:
    if not details.attempts:
        return
    output.heading("Attempts that did not end well")
    for row in details.attempts:
        outcome = output.paint(row["outcome"])
        worker = f", worker {row['worker_id']}" if row["worker_id"] else ""
        output.line(f"{row['attempt']}  {outcome}  {moment(row['ended_at'], details.now)}{worker}")
        if error := _error(row["error"]):
            output.block(error.traceback or f"{error.exception_class_path}: {error.message}")


def _error(stored: Any) -> TaskError | None:
    return error_of(None if stored is None else json.dumps(stored))


def _say_checkpoints(output: Output, details: Details) -> None:
    if not details.checkpoints:
        return
    output.heading("Checkpoints")
    output.table(
        ["SEQ", "STEP", "KIND", "STATE", "TRIES", "SAVED", "DURATION", "RESULT"],
        [
            [
                row["seq"], _step(row), row["kind"], _state(row), row["attempt"],
                age(row["saved_at"], details.now), span(row["duration"]), _result(row, details.now),
            ]
            for row in details.checkpoints
        ],
    )  # fmt: skip
    _say_length(output, details)


def _step(row: dict[str, Any]) -> str:
    identity: str = row["identity"]
    return f"  {identity.partition('/')[0]}" if _undoes(row) else identity


def _state(row: dict[str, Any]) -> str:
    state: str = row["state"]
    return _UNDOING.get(state, state) if _undoes(row) else state


_UNDOING = {"SUCCESSFUL": "UNDONE", "FAILED": "NOT UNDONE"}


def _undoes(row: dict[str, Any]) -> bool:
    """Whether it is a compensation, which stands behind the step that it undoes."""
    identity: str = row["identity"]
    return identity.startswith(COMPENSATION)


def _say_length(output: Output, details: Details) -> None:
    """A word on a history that grows too long."""
    settings, count = get_settings(), len(details.checkpoints)
    if count >= settings.WARN_CHECKPOINTS and details.job["state"] not in FINISHED:
        text = (
            f"{count} checkpoints; if it needs more than {settings.MAX_CHECKPOINTS} the job fails. "
        )
        cure = "Start endless work over with continue_as(); give many items to map_task()."
        output.line(output.style.WARNING(text + cure))


def _result(row: dict[str, Any], now: datetime) -> str:
    if error := _error(row["error"]):
        again = row["next_attempt_at"] and f"; next try {age(row['next_attempt_at'], now)}"
        return shortened(f"{error.exception_class_path}: {error.message}") + (again or "")
    if row["state"] == CheckpointState.STARTED:
        return "begun, not ended"
    return shortened(compact(row["value"]))


def _say_keys(output: Output, details: Details) -> None:
    if not details.keys:
        return
    output.heading("Idempotency keys")
    rows = [[k["key"], k["scope"], moment(k["expires_at"], details.now)] for k in details.keys]
    output.table(["KEY", "SCOPE", "EXPIRES"], rows)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="the job's id")


OPERATION = Operation(
    name="show", help="everything on one job", add_arguments=add_arguments, run=run
)
