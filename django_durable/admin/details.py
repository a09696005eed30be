"""What the page of one job lists beside its columns, in a fixed number of queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.apps import apps
from django.contrib.admin import AdminSite
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast, Left, Length
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin import display
from django_durable.admin.filters import children_of
from django_durable.conf import get_settings
from django_durable.engine.replay import CHILD, COMPENSATION, FINAL, MARKERS
from django_durable.engine.states import ApprovalState
from django_durable.models import (
    Approval,
    Attempt,
    AttemptOutcome,
    Checkpoint,
    CheckpointState,
    IdempotencyKey,
    Job,
    Schedule,
    Worker,
)

T = TypeVar("T")

MOST_ROWS = 50
"""Attempts, children and keys on one page."""
CHECKPOINTS_PER_PAGE = 200
LONGEST_VALUE, LONGEST_ERROR = 2_000, 30_000
"""Characters of a saved value and of an error; the rest does not leave the database."""
_VALUE, _ERROR = Cast("value", TextField()), Cast("error", TextField())

_KINDS = {
    "plain": gettext_lazy("plain"),
    "atomic": gettext_lazy("atomic"),
    "at_most_once": gettext_lazy("at most once"),
    "enqueue": gettext_lazy("a job that was there already"),
    "fork": gettext_lazy("jobs it was forked with"),
    "patch": gettext_lazy("patch"),
}


@dataclass(frozen=True, slots=True)
class Some(Generic[T]):
    """The first rows of a list, and whether there are more."""

    rows: list[T]
    more: bool


def some(rows: QuerySet[Any]) -> Some[Any]:
    found = list(rows[: MOST_ROWS + 1])
    return Some(found[:MOST_ROWS], len(found) > MOST_ROWS)


def _error(head: str | None, size: int) -> SafeString | None:
    if head is None:
        return None
    if size <= LONGEST_ERROR:
        return display.ErrorText.read(head).folded()
    return display.fold(display.summary_of_head(head), display.shorten(head, LONGEST_VALUE, size))


# --- attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLine:
    """One run that ended badly, as the page shows it."""

    number: int
    outcome: SafeString
    worker: object
    claimed: str
    ended: str
    duration: str
    code_version: str
    error: SafeString | None


def list_attempts(site: AdminSite, job: Job) -> Some[AttemptLine]:
    """The latest bad attempts of a job, oldest first."""
    rows = Attempt.objects.using(job._state.db).filter(job_id=job.pk).defer("error")
    cut = rows.annotate(error_head=Left(_ERROR, LONGEST_ERROR), error_size=Length(_ERROR))
    latest = some(cut.order_by("-id"))
    ids = {row.worker_id for row in latest.rows} - {None}
    workers = Worker.objects.using(job._state.db).in_bulk(ids)
    lines = [_attempt_line(site, row, workers) for row in reversed(latest.rows)]
    return Some(lines, latest.more)


def _attempt_line(site: AdminSite, row: Any, workers: Mapping[int, Worker]) -> AttemptLine:
    started = row.claimed_at
    return AttemptLine(
        number=row.attempt,
        outcome=display.badge(row.outcome, _label(AttemptOutcome, row.outcome)),
        worker=worker_link(site, row.worker_id, workers.get(row.worker_id or 0)),
        claimed=display.clock_time(started) if started else display.EMPTY,
        ended=display.clock_time(row.ended_at),
        duration=display.duration(row.ended_at - started) if started else display.EMPTY,
        code_version=row.code_version or display.EMPTY,
        error=_error(row.error_head, row.error_size),
    )


def worker_link(site: AdminSite, worker_id: int | None, worker: Worker | None) -> object:
    """To a worker; the bare number of one whose row was pruned."""
    if worker is not None:
        return display.link(site, worker, worker)
    return display.EMPTY if worker_id is None else str(worker_id)


def _label(words: Any, value: str) -> object:
    return words(value).label if value in words.values else value


# --- checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLine:
    """One saved outcome, as the page shows it."""

    seq: int
    identity: str
    call: str
    kind: object
    state: SafeString
    tries: int
    started: str
    duration: str
    next_try: str | None
    value: SafeString | None
    error: SafeString | None
    can_fork: bool
    undoes: bool
    """Whether it is a compensation, which stands behind the step that it undoes."""


@dataclass(frozen=True, slots=True)
class CheckpointPage:
    lines: list[CheckpointLine]
    page: Page[Any]
    questions: list[str]
    """The identities of waits for an approval."""
    most: int | None
    """How many the job may have, if it grows too long."""

    @property
    def numbers(self) -> list[int | str]:
        """The pages to link to, with gaps."""
        return [*self.page.paginator.get_elided_page_range(self.page.number)]


def list_checkpoints(job: Job, number: str | None) -> CheckpointPage:
    """One page of a job's checkpoints in the order of their calls, values cut by the database."""
    columns = (
        "seq", "identity", "function", "fingerprint", "kind", "state", "attempt", "started_at",
        "saved_at", "next_attempt_at",
    )  # fmt: skip
    rows = Checkpoint.objects.using(job._state.db).filter(job_id=job.pk)
    ordered = rows.in_order().values(
        *columns,
        value_head=Left(_VALUE, LONGEST_VALUE),
        value_size=Length(_VALUE),
        error_head=Left(_ERROR, LONGEST_ERROR),
        error_size=Length(_ERROR),
    )
    page = Paginator(ordered, CHECKPOINTS_PER_PAGE).get_page(number)
    asked = [row["identity"] for row in page if row["kind"] == "approval"]
    settings = get_settings()
    is_long = page.paginator.count >= settings.WARN_CHECKPOINTS and not job.is_finished
    most = settings.MAX_CHECKPOINTS if is_long else None
    return CheckpointPage([_checkpoint_line(row) for row in page], page, asked, most)


def _call(row: Mapping[str, Any]) -> str:
    return f"{row['function']}({row['fingerprint'] or ''})"


def _checkpoint_line(row: Mapping[str, Any]) -> CheckpointLine:
    next_at = row["next_attempt_at"] if row["state"] == CheckpointState.RETRYING else None
    return CheckpointLine(
        seq=row["seq"],
        identity=row["identity"],
        call=row["function"] if row["kind"] == CHILD else _call(row),
        kind=_KINDS.get(row["kind"], row["kind"]),
        state=display.badge(row["state"], _state_label(row)),
        tries=row["attempt"],
        started=display.clock_time(row["started_at"]),
        duration=display.duration(row["saved_at"] - row["started_at"]),
        next_try=next_at and display.clock_time(next_at),
        value=_value(row["value_head"], row["value_size"]),
        error=_error(row["error_head"], row["error_size"]),
        can_fork=row["kind"] not in MARKERS and not _undoes(row),
        undoes=_undoes(row),
    )


def _undoes(row: Mapping[str, Any]) -> bool:
    identity: str = row["identity"]
    return identity.startswith(COMPENSATION)


def _state_label(row: Mapping[str, Any]) -> object:
    state = row["state"]
    if _undoes(row) and state in FINAL:
        return gettext("undone") if state == CheckpointState.SUCCESSFUL else gettext("not undone")
    return _label(CheckpointState, state)


def _value(head: str | None, size: int) -> SafeString | None:
    if head is None:
        return None
    if size > LONGEST_VALUE:
        return display.fold(head, display.shorten(head, LONGEST_VALUE, size))
    text = display.pretty(head)
    return display.fold(head if "\n" in text else text, text)


def has_interrupted_step(job: Job) -> bool:
    """Whether an at-most-once step of the job died half-way."""
    rows = Checkpoint.objects.using(job._state.db).filter(job_id=job.pk, state="FAILED")
    return rows.annotate(text=_ERROR).filter(text__contains='"interrupted"').exists()


# --- other rows


@dataclass(frozen=True, slots=True)
class ApprovalLine:
    """A question that the job asked people."""

    link: SafeString
    state: SafeString


def list_approvals(site: AdminSite, job: Job, identities: list[str]) -> list[ApprovalLine]:
    """The questions of some waits; no query if there are none."""
    if not identities:
        return []
    rows = Approval.objects.using(job._state.db).filter(job_id=job.pk, identity__in=identities)
    found = rows.judged().defer("answer").order_by("pk")
    return [ApprovalLine(display.link(site, row, row), approval_badge(row)) for row in found]


def approval_badge(approval: Approval) -> SafeString:
    return display.badge(approval.state, ApprovalState(approval.state).label)


@dataclass(frozen=True, slots=True)
class JobLine:
    """One of several jobs, as the pages of others show it."""

    link: SafeString
    state: SafeString
    queue_name: str


def list_jobs(site: AdminSite, jobs: QuerySet[Any]) -> Some[JobLine]:
    """The first of some jobs, oldest first."""
    found = some(jobs.only("id", "task_path", "state", "queue_name").order_by("pk"))
    lines = [JobLine(display.link(site, j, j), state_badge(j), j.queue_name) for j in found.rows]
    return Some(lines, found.more)


def list_children(site: AdminSite, job: Job) -> Some[JobLine]:
    return list_jobs(site, children_of(Job.objects.using(job._state.db), job.pk))


def children_link(site: AdminSite, job: Job) -> SafeString:
    return display.list_link(site, Job, gettext("All children"), parent=job.pk)


def list_keys(site: AdminSite, job: Job) -> Some[SafeString]:
    keys = IdempotencyKey.objects.using(job._state.db).filter(job_id=job.pk).order_by("pk")
    found = some(keys.defer("value"))
    return Some([display.link(site, key, key) for key in found.rows], found.more)


def job_link(site: AdminSite, alias: str | None, job_id: Any) -> object:
    """To a job that another row names, which may be pruned."""
    relative = Job.objects.using(alias).filter(pk=job_id).only("id", "task_path").first()
    if relative is None:
        return gettext("%(id)s (pruned)") % {"id": job_id}
    return display.link(site, relative, relative)


def schedule_link(site: AdminSite, job: Job) -> SafeString:
    """To the schedule that made the job, with the tick it is for."""
    name = job.schedule_name or ""
    made = display.link(site, Schedule(name=name), name)
    if job.tick_at is None:
        return made
    when = display.clock_time(job.tick_at)
    return format_html("{}, {}", made, gettext("for %(time)s") % {"time": when})


def subject_link(site: AdminSite, job: Job) -> object:
    """To the object the job is about, and to all jobs about it."""
    text = f"{job.subject_type}:{job.subject_key}"
    every = display.list_link(site, Job, gettext("all jobs about it"), subject=text)
    try:
        model = apps.get_model(job.subject_type or "")
    except (LookupError, ValueError):
        return format_html("{} ({})", text, every)
    return format_html("{} ({})", display.link(site, model(pk=job.subject_key), text), every)


def state_badge(job: Job) -> SafeString:
    return display.badge(job.state, job.get_state_display())
