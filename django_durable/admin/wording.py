"""Where a job stands, in words a person reads."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext

from django_durable.admin.display import (
    EMPTY,
    clock_time,
    distance,
    duration,
    one_line,
    short_summary_of_head,
)
from django_durable.engine import registry
from django_durable.engine.claims import SUSPECT_FROM
from django_durable.engine.queues import find_pause
from django_durable.models import BLOCKED, FINISHED, JobState, Queue

LONGEST_NOTE = 140


def note(job: Any) -> str:
    """The last column of the list: who runs the job, what it waits for, or why it failed."""
    if job.state == JobState.RUNNING:
        text = job.worker_name or str(job.worker_id)
        if job.ends_as is not None:
            return f"{text}, {undoing(job)}"
        return f"{text}, {gettext('asked to stop')}" if job.cancel_requested_at else text
    if job.state in FINISHED:
        failed = job.state != JobState.SUCCESSFUL and job.error_head is not None
        return one_line(short_summary_of_head(job.error_head), LONGEST_NOTE) if failed else EMPTY
    parts = [job.wait_reason or job.wait_kind]
    if job.state == JobState.SCHEDULED:
        parts.insert(0, gettext("due %(distance)s") % {"distance": distance(job.due_at, job.now)})
    if job.ends_as is not None:
        parts.insert(0, undoing(job))
    if is_unknown(job):
        parts.insert(0, gettext("unknown task"))
    if job.state == JobState.READY and job.queue_is_paused:
        parts.insert(0, gettext("queue paused"))
    return one_line("; ".join(part for part in parts if part) or EMPTY, LONGEST_NOTE)


def undoing(job: Any) -> str:
    """Of a job that has decided how it ends, and undoes its steps before."""
    return gettext("is being undone, then %(state)s") % {"state": job.ends_as}


def is_unknown(job: Any) -> bool:
    """Whether this process knows no task of the job's path."""
    return registry.find_task(job.task_path) is None


def explain(job: Any) -> list[str]:
    """Sentences for the job's page: why it stands where it stands, and what comes next."""
    found = [_EXPLAIN.get(job.state, _finished)(job)]
    if job.state in FINISHED:
        return found
    if job.state == JobState.READY:
        paused = find_pause(job._state.db, job.queue_name, job.now)
        found += [_paused(paused)] if paused is not None else []
    if job.ends_as is not None:
        found.append(
            gettext("Its steps are being undone, the last one first; then it is %(state)s.")
            % {"state": job.ends_as}
        )
    if is_unknown(job):
        found.append(
            gettext(
                "This process knows no such task. If workers do not know it either, it is never "
                "run: was it renamed (then give it aliases), or is its app not installed?"
            )
        )
    if job.cancel_requested_at is not None:
        when = clock_time(job.cancel_requested_at)
        found.append(gettext("Cancelling was asked for at %(when)s.") % {"when": when})
    if job.lost_count >= SUSPECT_FROM:
        found.append(
            gettext(
                "Its worker was lost %(n)d times in a row: the job is run only by a worker that "
                "holds no other."
            )
            % {"n": job.lost_count}
        )
    return found


def _ready(job: Any) -> str:
    if job.attempt > 1 or job.lost_count:
        return gettext("Waits for a worker of its queue with a free slot, to go on.")
    return gettext("Waits for a worker of its queue with a free slot.")


def _paused(queue: Queue) -> str:
    since = clock_time(queue.paused_at) if queue.paused_at else ""
    said = gettext("Its queue is paused since %(when)s.") % {"when": since}
    if queue.resume_at is not None:
        until = gettext("It resumes at %(when)s.") % {"when": clock_time(queue.resume_at)}
        said = f"{said} {until}"
    return f"{said} {_sentence(queue.reason)}".strip()


def _scheduled(job: Any) -> str:
    due = gettext("Due at %(when)s, %(distance)s.") % {
        "when": clock_time(job.due_at),
        "distance": distance(job.due_at, job.now),
    }
    return f"{due} {_sentence(job.wait_reason)}".strip()


def _waiting(job: Any) -> str:
    if job.wait_kind == BLOCKED:
        return gettext(
            "Blocked: its checkpoints and its code tell different stories. %(reason)s Workers look "
            "again when their code changes, and at %(when)s."
        ) % {"reason": _sentence(job.wait_reason), "when": clock_time(job.due_at)}
    text = _sentence(job.wait_reason or gettext("waits for %(what)s") % {"what": job.wait_kind})
    if job.waiting_since is not None:
        since = gettext("Since %(when)s.") % {"when": clock_time(job.waiting_since)}
        text = f"{text} {since}"
    if job.wait_deadline_at is None:
        return text
    until = gettext("At the latest until %(when)s.") % {"when": clock_time(job.wait_deadline_at)}
    return f"{text} {until}"


def _running(job: Any) -> str:
    if job.claimed_at is None:
        return gettext("Runs.")
    return gettext("Runs since %(when)s.") % {"when": clock_time(job.claimed_at)}


def _finished(job: Any) -> str:
    if job.started_at is None:
        return gettext("Never begun.")
    took = duration(job.finished_at - job.started_at)
    return gettext("Ended %(took)s after it first began.") % {"took": took}


def _sentence(text: str | None) -> str:
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


_EXPLAIN = {
    JobState.READY.value: _ready,
    JobState.SCHEDULED.value: _scheduled,
    JobState.WAITING.value: _waiting,
    JobState.RUNNING.value: _running,
}
