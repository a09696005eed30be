"""``durable explain``: why a job does not run, or what it is doing, in words a person reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django_durable.engine.states import FINISHED, CheckpointState, JobState
from django_durable.exceptions import PoisonJobError, StepInterrupted
from django_durable.management.operations.details import add_arguments, found_job
from django_durable.management.operations.finding import Finding, say_cure
from django_durable.management.operations.listing import JobSummary, summary_of
from django_durable.management.operations.obstacles import (
    OBSTACLES,
    START_WORKER,
    Situation,
    behind_others,
    undoing,
)
from django_durable.management.operations.operation import Operation, Options
from django_durable.management.operations.output import Output, age, moment, printable, shortened
from django_durable.management.operations.reading import (
    LOST,
    SILENT,
    WorkerStatus,
    database_now,
    error_of,
    jobs_alias,
    read_workers,
)
from django_durable.models import Checkpoint
from django_durable.unique import uniqueness_of

if TYPE_CHECKING:
    from django_durable.models import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A job and what there is to say about it."""

    now: datetime
    job: JobSummary
    findings: list[Finding]

    @property
    def document(self) -> dict[str, object]:
        findings = [{"code": f.code, "says": f.says, "cure": f.cure} for f in self.findings]
        return {"now": self.now, "job": self.job, "findings": findings}


def explain(job: Job) -> Explanation:
    now = database_now()
    workers = read_workers(now, with_id=job.worker_id)
    situation = Situation(job=job, now=now, workers=workers)
    findings = [*_origin(job, now), *_findings(situation)]
    return Explanation(now=now, job=summary_of(job), findings=findings)


def _origin(job: Job, now: datetime) -> Iterator[Finding]:
    """Which schedule made the job."""
    if job.schedule_name is not None:
        name, when = job.schedule_name, moment(job.tick_at, now)
        says = f'Schedule "{name}" made it, for {when}: manage.py durable schedule show "{name}".'
        yield Finding(code="of-schedule", says=says)


def _findings(situation: Situation) -> Iterator[Finding]:
    yield from _standing(situation)
    yield from _uniqueness(situation)


def _uniqueness(situation: Situation) -> Iterator[Finding]:
    job = situation.job
    if (how_long := uniqueness_of(job, situation.now)) is not None:
        says = f"It is unique {how_long}: no other job can have the key {job.unique_key}."
        yield Finding(code="unique", says=printable(says))


def _standing(situation: Situation) -> Iterator[Finding]:
    state = situation.job.state
    if state in FINISHED:
        yield _end(situation)
        return
    if state == JobState.RUNNING:
        yield from _running(situation)
        return
    found = [finding for obstacle in OBSTACLES for finding in obstacle(situation)]
    if state == JobState.READY:
        found += behind_others(situation)
    yield from found
    if not found:
        yield Finding(
            code="about-to-run",
            says="Nothing stands in its way: a live worker claims it with its next look.",
            cure="ask again in a second; if it is still READY, that worker's log says why.",
        )


# --- finished


def _end(situation: Situation) -> Finding:
    job = situation.job
    when = moment(job.finished_at, situation.now)
    if job.state == JobState.SUCCESSFUL:
        return Finding(
            code="successful",
            says=f"It ended SUCCESSFUL at {when}, and nothing leaves that state.",
            cure="to do the work again, enqueue the task again.",
        )
    retry = f"manage.py durable retry {job.pk}"
    if job.state == JobState.CANCELLED:
        error = error_of(job.error)
        why = f" {error.exception_class_path}: {error.message}" if error else ""
        says = f"It was CANCELLED at {when}.{printable(why)}"
        return Finding(code="cancelled", says=says, cure=f"to have it after all: {retry}")
    return _failure(job, when, retry)


def _failure(job: Job, when: str, retry: str) -> Finding:
    error = error_of(job.error)
    kind, message = (error.exception_class_path, error.message) if error else ("?", "")
    says = f"It FAILED at {when}, in attempt {job.attempt}: {kind}: {shortened(str(message), 500)}"
    if kind == _path(PoisonJobError):
        cure = f"mend the task, which probably ends the process (memory?); then {retry}"
        return Finding(code="failed-as-poison", says=says, cure=cure)
    if kind == _path(StepInterrupted):
        cure = f"look whether the step took effect; if not: {retry} --rerun-interrupted"
        return Finding(code="failed-interrupted", says=says, cure=cure)
    cure = f"manage.py durable show {job.pk} has the traceback. Mend the cause, then {retry}"
    return Finding(code="failed", says=says, cure=cure)


def _path(cls: type[BaseException]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# --- running


def _running(situation: Situation) -> Iterator[Finding]:
    job, now = situation.job, situation.now
    worker = next((w for w in situation.workers if w.id == job.worker_id), None)
    where = worker or f"worker {job.worker_id}"
    yield Finding(
        code="running",
        says=f"It runs on {where}, claimed {age(job.claimed_at, now)}, attempt {job.attempt}.",
    )
    yield _liveness(situation, worker)
    yield _progress(job, now)
    yield from undoing(situation)
    if job.cancel_requested_at is not None and job.ends_as is None:
        yield Finding(
            code="cancel-requested",
            says=f"Cancelling was asked for {age(job.cancel_requested_at, now)}: it ends CANCELLED "
            "at its next step or when its function returns.",
            cure="wait; if its code hangs between two steps, end that worker: the job is then "
            "recovered and CANCELLED by the next.",
        )


def _liveness(situation: Situation, worker: WorkerStatus | None) -> Finding:
    """Whether the worker that holds the job is alive, and if not, who gives the job back."""
    job, now = situation.job, situation.now
    if worker is not None and worker.is_alive:
        return Finding(
            code="worker-alive",
            says=f"That worker is {worker.state}: heartbeat {age(worker.heartbeat_at, now)}, its "
            f"lease ends {age(worker.lease_expires_at, now)} unless renewed.",
            cure=f"if the job hangs: py-spy dump --pid {worker.pid} on {worker.hostname} shows "
            f"where; manage.py durable cancel {job.pk} stops it at its next step.",
        )
    if worker is None:
        what = "The row of that worker is gone"
    elif worker.state == SILENT:
        what = f"That worker is silent: {worker.silence(now)}"
    elif worker.state == LOST:
        what = f"That worker was declared lost {age(worker.lost_at, now)}"
    else:
        what = "That worker has ended"
    if any(other.is_alive for other in situation.workers):
        says = f"{what}. A live worker makes the job READY again within seconds."
        return Finding(code="being-recovered", says=says)
    says = f"{what}, and no other is alive to make the job READY again."
    return Finding(code="not-recovered", says=says, cure=START_WORKER)


def _progress(job: Job, now: datetime) -> Finding:
    """The last checkpoint of the job, and whether this claim saved it."""
    rows = Checkpoint.objects.using(jobs_alias()).filter(job_id=job.pk).order_by("saved_at", "seq")
    last = rows.last()
    if last is None:
        return Finding(code="no-checkpoint", says="It has saved no step yet.")
    if last.state == CheckpointState.STARTED:
        says = (
            f"It is inside step {last.identity} (at most once), begun {age(last.started_at, now)}."
        )
        return Finding(code="inside-step", says=says)
    claim = "" if last.lease_token == job.lease_token else " in an earlier run"
    says = f"It last saved step {last.identity}{claim}, {age(last.saved_at, now)}."
    return Finding(code="last-checkpoint", says=says)


# --- saying it


def run(output: Output, options: Options) -> None:
    explanation = explain(found_job(options["job"]))
    if output.as_json:
        output.document(explanation.document)
        return
    job, now = explanation.job, explanation.now
    output.line(
        f"Job {job.id} ({printable(job.task_path)}) is {output.paint(job.state)}, "
        f"attempt {job.attempt}, queue {printable(job.queue_name)}, "
        f"enqueued {age(job.enqueued_at, now)}."
    )
    for finding in explanation.findings:
        output.line()
        output.line(printable(finding.says))
        say_cure(output, finding, indent="  ")


OPERATION = Operation(
    name="explain",
    help="why a job does not run, or what it is doing",
    add_arguments=add_arguments,
    run=run,
)
