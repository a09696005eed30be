"""``durable fork`` and ``durable restart``: a new job made of another."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.core.management.base import CommandError

from django_durable.exceptions import DurableError
from django_durable.forks import fork_job, restart_job, restart_with_text
from django_durable.management.operations.operation import Operation, Options, not_blank
from django_durable.management.operations.output import Output

if TYPE_CHECKING:
    from django_durable.models import Job


def fork(output: Output, options: Options) -> None:
    made = _made(lambda: fork_job(options["job"], from_step=options["from_step"]))
    _say(output, made, f"forked from job {made.forked_from_id} before {options['from_step']}")


def restart(output: Output, options: Options) -> None:
    text = options["arguments"]
    job_id = options["job"]
    made = _made(lambda: restart_job(job_id) if text is None else restart_with_text(job_id, text))
    _say(output, made, f"job {made.forked_from_id} over again")


def _made(make: Callable[[], Job]) -> Job:
    """Raises: CommandError with the reason."""
    try:
        return make()
    except DurableError as error:
        raise CommandError(str(error)) from error


def _say(output: Output, made: Job, what: str) -> None:
    if output.as_json:
        found = {name: getattr(made, name) for name in ("id", "state", "forked_from_id")}
        output.document({"job": found})
    else:
        output.line(f"Job {made.pk} is {output.paint(made.state)}: {what}.")


def add_fork_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="the job's id")
    parser.add_argument(
        "--from",
        required=True,
        type=not_blank,
        dest="from_step",
        metavar="STEP",
        help="the step that is done anew, as `durable show` names it, such as charge#2",
    )


def add_restart_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="the job's id")
    parser.add_argument(
        "--arguments",
        metavar="JSON",
        help='other arguments, as they are stored: {"args": [...], "kwargs": {...}}',
    )


OPERATIONS = (
    Operation(
        name="fork",
        help="make a new job that goes on from a step of another",
        add_arguments=add_fork_arguments,
        run=fork,
    ),
    Operation(
        name="restart",
        help="make a new job of another's call, with the same arguments or others",
        add_arguments=add_restart_arguments,
        run=restart,
    ),
)
