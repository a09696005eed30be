"""``durable retry`` and ``durable cancel``: jobs by id, or all that match."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from django.core.management.base import CommandError

from django_durable.engine.replay import check_name
from django_durable.engine.states import JobState
from django_durable.exceptions import JobError, TaskDefinitionError
from django_durable.jobs import BulkResult, cancel_job, cancel_jobs, retry_job, retry_jobs
from django_durable.management.operations.listing import add_filters, chosen_jobs
from django_durable.management.operations.operation import Operation, Options
from django_durable.management.operations.output import Output, count_of
from django_durable.management.operations.reading import count_rows

if TYPE_CHECKING:
    from django_durable.models import Job, JobQuerySet


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What is done to jobs, in its grammatical forms."""

    name: str
    done: str
    done_in_bulk: str
    one: Callable[[str, Options], Job]
    """Raises: JobError."""
    many: Callable[[JobQuerySet], BulkResult]
    fitting: Callable[[JobQuerySet], JobQuerySet]
    """The jobs it can change, when no state is asked for."""
    options: Sequence[str] = ()
    """Options that go with ids only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one job."""

    id: str | UUID
    changed: bool
    state: str | None = None
    problem: str | None = None


def _retry(job_id: str, options: Options) -> Job:
    return retry_job(
        job_id,
        rerun_interrupted=options["rerun_interrupted"],
        allow_new_steps=options["allow_new_step"],
    )


RETRY = Verb(
    name="retry",
    done="retried",
    done_in_bulk="ready again",
    one=_retry,
    many=retry_jobs,
    fitting=lambda jobs: jobs.retryable(),
    options=("rerun_interrupted", "allow_new_step"),
)
CANCEL = Verb(
    name="cancel",
    done="cancelled",
    done_in_bulk="cancelled, or asked to stop if running",
    one=lambda job_id, options: cancel_job(job_id),
    many=cancel_jobs,
    fitting=lambda jobs: jobs.live(),
)


def run_verb(verb: Verb, output: Output, options: Options) -> None:
    _check_choice(verb, options)
    if options["all"]:
        _change_all(verb, output, options)
    else:
        _change_each(verb, output, options)


def _check_choice(verb: Verb, options: Options) -> None:
    """Raises: CommandError unless jobs are named, or chosen by filters, but not both."""
    filtered = [name for name in ("states", "queue", "task") if options[name]]
    if options["all"] and options["jobs"]:
        raise CommandError("Name jobs, or give --all with filters: not both.")
    if not options["all"] and filtered:
        raise CommandError("--state, --queue and --task choose among all jobs: add --all.")
    if not (options["all"] or options["jobs"]):
        raise CommandError(f"Which jobs? Name their ids: manage.py durable {verb.name} JOB ...")
    for name in verb.options:
        if options["all"] and options[name]:
            raise CommandError(f"--{name.replace('_', '-')} goes with ids of jobs, not with --all.")


# --- by id


def _change_each(verb: Verb, output: Output, options: Options) -> None:
    """Change one after the other, going on after a refusal. Raises: CommandError if one was."""
    answers = [_change_one(verb, job_id, options) for job_id in dict.fromkeys(options["jobs"])]
    problems = [answer.problem for answer in answers if answer.problem]
    if output.as_json:
        output.document({"jobs": answers})
    else:
        for answer in answers:
            if answer.changed:
                asked = _asked(verb, answer)
                output.line(f"Job {answer.id} is {output.paint(answer.state or '')}{asked}.")
    if len(answers) > 1:
        for problem in problems:
            output.problem(problem)
    if problems:
        total = f"{len(problems)} of {len(answers)} jobs were not {verb.done}."
        raise CommandError(total if len(answers) > 1 else problems[0])


def _change_one(verb: Verb, job_id: str, options: Options) -> Answer:
    try:
        job = verb.one(job_id, options)
    except JobError as error:
        return Answer(id=job_id, changed=False, problem=str(error))
    return Answer(id=job.pk, changed=True, state=job.state)


def _asked(verb: Verb, answer: Answer) -> str:
    """A running job is only asked to stop."""
    running = verb is CANCEL and answer.state == JobState.RUNNING
    return " and was asked to stop: it ends CANCELLED at its next step" if running else ""


# --- by filter


def _change_all(verb: Verb, output: Output, options: Options) -> None:
    jobs = chosen_jobs(options)
    if not options["states"]:
        jobs = verb.fitting(jobs)
    _confirm(verb, output, options, jobs)
    result = verb.many(jobs)
    if output.as_json:
        output.document({"changed": result.changed, "unchanged": result.unchanged})
        return
    output.line(f"{count_of(result.changed, 'job')} {verb.done_in_bulk}.")
    output.line(f"{count_of(result.unchanged, 'job')} left unchanged.")


def _confirm(verb: Verb, output: Output, options: Options, jobs: JobQuerySet) -> None:
    """Ask who sits at a terminal. Raises: CommandError unless it is confirmed, or --yes given."""
    if options["yes"]:
        return
    if output.as_json or not sys.stdin.isatty():
        raise CommandError(f"{verb.name} --all changes many jobs at once: say --yes.")
    answer = input(f"{verb.name.capitalize()} {count_of(count_rows(jobs), 'job')}? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was changed.")


# --- options


def step_name(text: str) -> str:
    try:
        return check_name(text)
    except TaskDefinitionError as error:
        raise ArgumentTypeError(f"{error} Give the name alone, without #n or [key].") from None


def add_shared_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("jobs", nargs="*", metavar="JOB", help="ids of jobs")
    add("--all", action="store_true", help="all jobs that match --state, --queue and --task")
    add("--yes", action="store_true", help="do not ask back before changing all that match")
    add_filters(parser)


def add_retry_arguments(parser: ArgumentParser) -> None:
    add_shared_arguments(parser)
    add = parser.add_argument
    add(
        "--rerun-interrupted",
        action="store_true",
        help="also run an at-most-once step again whose process died in it",
    )
    add(
        "--allow-new-step",
        action="append",
        default=[],
        type=step_name,
        metavar="NAME",
        help="let a blocked job run this step although it has no checkpoint; several times",
    )


OPERATIONS = (
    Operation(
        name="retry",
        help="make failed, cancelled and blocked jobs ready again, from the step that ended them",
        add_arguments=add_retry_arguments,
        run=lambda output, options: run_verb(RETRY, output, options),
    ),
    Operation(
        name="cancel",
        help="cancel jobs that are not finished; running ones stop at their next step",
        add_arguments=add_shared_arguments,
        run=lambda output, options: run_verb(CANCEL, output, options),
    ),
)
