"""What is said of a run, to logs and signals: only what is committed, and it changes nothing."""

from __future__ import annotations

import contextvars
import copy
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django_durable.engine.outcomes import Outcome, Written
from django_durable.engine.replay import RETRYING
from django_durable.engine.run import Ending, Run, Stop, mark_outside
from django_durable.engine.states import FINISHED, JobState
from django_durable.engine.waits import describe_waits
from django_durable.signals import job_finished, job_started

if TYPE_CHECKING:
    from django_durable.models import Job

logger = logging.getLogger("django_durable")


def announce(run: Run) -> None:
    """Say that a run begins; of a busy worker, whose jobs are claimed ahead, only to who debugs."""
    job = run.job
    level = logging.DEBUG if job.claimed_ahead else logging.INFO
    if logger.isEnabledFor(level):
        logger.log(level, "Job %s started: %s", job.id, job.task_path, extra=log_fields(job))
    tell(job_started, run)


def tell(signal: Any, run: Run, **more: Any) -> None:
    """Send a signal; what its receivers raise is logged and changes nothing."""
    if not signal.receivers or not signal.has_listeners(run.job.task_path):
        return

    def send() -> None:
        mark_outside()
        answers = signal.send_robust(run.job.task_path, job=copy.copy(run.job), **more)
        for receiver, answer in answers:
            if isinstance(answer, Exception):
                complain(receiver, answer)

    def complain(receiver: Any, error: BaseException) -> None:
        fields = log_fields(run.job)
        logger.error("A receiver of a signal failed: %s", receiver, exc_info=error, extra=fields)

    try:
        contextvars.copy_context().run(send)
    except BaseException as error:  # send_robust lets SystemExit and its like through
        complain("it ended with one that is no Exception", error)


def conclude(
    run: Run,
    written: Written,
    error: BaseException | None,
    decided: Outcome | Ending | None = None,
) -> None:
    """Tell logs and signals what is committed."""
    job = run.job
    job.state, job.due_at = written.state, written.due_at or job.due_at
    log_conclusion(job, written.state, error, decided)
    if written.state in FINISHED:
        tell(job_finished, run, state=written.state, error=error)


def is_silent(task_path: str) -> bool:
    """Whether nobody listens for the ends of a task's jobs."""
    return not job_finished.receivers or not job_finished.has_listeners(task_path)


FEW = 8
"""The ends of so many jobs have a line each in the log; those of more share one."""


def conclude_all(done: Sequence[tuple[Run, Written]]) -> None:
    """Tell logs of many jobs that ended together, in which nobody else is interested."""
    if len(done) <= FEW:
        for run, written in done:
            conclude(run, written, None)
        return
    if not logger.isEnabledFor(logging.INFO):
        return
    counts = Counter((run.job.task_path, written.state) for run, written in done)
    ends = ", ".join(f"{n} x {path} {state.lower()}" for (path, state), n in counts.items())
    logger.info("%s jobs ended: %s", len(done), ends)


def log_conclusion(
    job: Job, state: JobState, error: BaseException | None, decided: Outcome | Ending | None
) -> None:
    fields = log_fields(job)
    reason = getattr(decided, "reason", None) or ""
    if isinstance(decided, Ending) and decided.stop is Stop.WAIT:
        log_suspension(job, decided)
    elif state is JobState.FAILED:
        logger.error("Job %s failed: %s", job.id, job.task_path, exc_info=error, extra=fields)
    elif state in FINISHED:
        logger.info("Job %s is %s: %s", job.id, state.lower(), job.task_path, extra=fields)
    elif getattr(decided, "stop", None) is Stop.CONTINUED:
        logger.info("Job %s starts over: %s", job.id, job.task_path, extra=fields)
    else:
        logger.warning(
            "Job %s is %s until %s: %s: %s",
            job.id, state.lower(), job.due_at, job.task_path, reason, extra=fields,
        )  # fmt: skip


def log_suspension(job: Job, ending: Ending) -> None:
    """Waiting is ordinary; a step that is tried again is worth a look."""
    is_retry = any(wait.checkpoint.state == RETRYING for wait in ending.waits)
    reason = describe_waits(ending.waits)["reason"]
    level = logging.WARNING if is_retry else logging.INFO
    logger.log(level, "Job %s: %s: %s", job.id, job.task_path, reason, extra=log_fields(job))


def log_fields(job: Job) -> dict[str, Any]:
    """What every log record about a job carries."""
    return {
        "job_id": str(job.id),
        "task_path": job.task_path,
        "attempt": job.attempt,
        "queue_name": job.queue_name,
        "worker_id": job.worker_id,
    }
