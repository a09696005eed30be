"""Jobs: the list, the page of one, and the verbs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, TextField, Value
from django.db.models.functions import Cast, Concat, Left
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin import details, display, forking, telling, verbs
from django_durable.admin.acting import ActingAdmin
from django_durable.admin.filters import (
    EnqueuedFilter,
    ParentFilter,
    QueueFilter,
    StateFilter,
    SubjectFilter,
    TaskFilter,
)
from django_durable.admin.readonly import BoundedChangeList
from django_durable.admin.search import find_jobs
from django_durable.admin.wording import explain, is_unknown, note
from django_durable.conf import get_settings
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.context import describe
from django_durable.models import BLOCKED, Job, JobState, Queue, Worker
from django_durable.unique import uniqueness_of

HEAD = 600
"""Characters of an error that the list reads: its type and the beginning of its message."""
_OPTIONAL = {
    "worker": "worker_id",
    "subject": "subject_type",
    "parent": "parent_id",
    "forked_from": "forked_from_id",
    "schedule": "schedule_name",
    "shown_context": "context",
    "uniqueness": "unique_key",
    "shown_progress": "progress",
    "shown_return_value": "encoded_return_value",
    "shown_error": "error",
}
"""Lines of the page that are there only if something is known."""
_TIMES = {
    "enqueued_at": gettext_lazy("Enqueued"),
    "run_after": gettext_lazy("Not before"),
    "due_at": gettext_lazy("Due"),
    "started_at": gettext_lazy("First begun"),
    "claimed_at": gettext_lazy("Last claimed"),
    "cancel_requested_at": gettext_lazy("Cancelling asked for"),
    "deadline_at": gettext_lazy("Deadline"),
    "finished_at": gettext_lazy("Finished"),
}


PAUSED = Q(paused_at__isnull=False) & (
    Q(resume_at__isnull=True) | Q(resume_at__gt=StatementTimestamp())
)


class JobChangeList(BoundedChangeList):
    """Leaves the large columns in the database."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        worker = Worker.objects.using(get_settings().DATABASE).filter(pk=OuterRef("worker_id"))
        alias = get_settings().DATABASE
        paused = Queue.objects.using(alias).filter(PAUSED, name=OuterRef("queue_name"))
        name = Concat("hostname", Value(":"), "pid", output_field=TextField())
        jobs: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        return jobs.defer("arguments", "encoded_return_value", "error").annotate(
            worker_name=Subquery(worker.values(name=name)),
            error_head=Left(Cast("error", TextField()), HEAD),
            queue_is_paused=Exists(paused),
        )


@admin.register(Job)
class JobAdmin(ActingAdmin):
    list_display = ("shown_state", "task", "queue", "attempts", "age", "note")
    list_display_links = ("task",)
    list_filter = (
        ParentFilter, SubjectFilter, StateFilter, EnqueuedFilter, QueueFilter, TaskFilter,
    )  # fmt: skip
    search_fields = ("id",)
    search_help_text = gettext_lazy(
        "A job's id or its first 8 characters or more, an idempotency key, or the path of a task."
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "standing", "shown_progress", "task_line", "queue_line", "attempts", "worker",
                    "subject", "parent", "forked_from", "schedule", "shown_context", "uniqueness",
                    "timeline",
                )
            },
        ),
        (
            gettext_lazy("Data, as it is stored"),
            {"fields": ("shown_arguments", "shown_return_value", "shown_error")},
        ),
        (
            gettext_lazy("More columns"),
            {
                "classes": ("collapse",),
                "fields": (
                    "lease_token", "lost_count", "attempt_base", "blocked_count", "allowed_steps",
                    "wait_kind", "wait_key", "code_version", "origin", "on_parent_end",
                ),
            },
        ),
    )  # fmt: skip

    # --- rows

    def get_queryset(self, request: HttpRequest) -> Any:
        jobs: QuerySet[Any] = super().get_queryset(request)
        return jobs.annotate(now=StatementTimestamp())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return JobChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return (find_jobs(queryset, search_term) if search_term.strip() else queryset), False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without the lines that say nothing of this job."""
        hidden = {name for name, column in _OPTIONAL.items() if not getattr(obj, column, None)}
        return [
            (title, {**options, "fields": [f for f in options["fields"] if f not in hidden]})
            for title, options in super().get_fieldsets(request, obj)
        ]

    # --- columns and lines

    @admin.display(description=gettext_lazy("state"))
    def shown_state(self, job: Any) -> SafeString:
        return details.state_badge(job)

    @admin.display(description=gettext_lazy("task"))
    def task(self, job: Any) -> str:
        return str(job.task_path)

    @admin.display(description=gettext_lazy("queue"))
    def queue(self, job: Any) -> str:
        return str(job.queue_name)

    @admin.display(description=gettext_lazy("queue"))
    def queue_line(self, job: Any) -> SafeString:
        every = display.list_link(self.admin_site, Job, job.queue_name, queue=job.queue_name)
        if not job.priority:
            return every
        return format_html("{}, {}", every, gettext("priority %(n)d") % {"n": job.priority})

    @admin.display(description=gettext_lazy("attempts"))
    def attempts(self, job: Any) -> int:
        return int(job.attempts)

    @admin.display(description=gettext_lazy("age"))
    def age(self, job: Any) -> SafeString:
        return display.age(job.enqueued_at, job.now)

    @admin.display(description=gettext_lazy("worker, wait or error"))
    def note(self, job: Any) -> str:
        return note(job)

    @admin.display(description=gettext_lazy("state"))
    def standing(self, job: Any) -> SafeString:
        return format_html("{} {}", details.state_badge(job), " ".join(explain(job)))

    @admin.display(description=gettext_lazy("task"))
    def task_line(self, job: Any) -> SafeString:
        every = display.list_link(self.admin_site, Job, job.task_path, task=job.task_path)
        unknown = gettext("(unknown to this process)") if is_unknown(job) else ""
        return format_html("{} {}", every, unknown)

    @admin.display(description=gettext_lazy("worker"))
    def worker(self, job: Any) -> object:
        worker = Worker.objects.using(job._state.db).filter(pk=job.worker_id).first()
        return details.worker_link(self.admin_site, job.worker_id, worker)

    @admin.display(description=gettext_lazy("subject"))
    def subject(self, job: Any) -> object:
        return details.subject_link(self.admin_site, job)

    @admin.display(description=gettext_lazy("parent"))
    def parent(self, job: Any) -> object:
        return details.job_link(self.admin_site, job._state.db, job.parent_id)

    @admin.display(description=gettext_lazy("forked from"))
    def forked_from(self, job: Any) -> object:
        return details.job_link(self.admin_site, job._state.db, job.forked_from_id)

    @admin.display(description=gettext_lazy("schedule"))
    def schedule(self, job: Any) -> object:
        return details.schedule_link(self.admin_site, job)

    @admin.display(description=gettext_lazy("context"))
    def shown_context(self, job: Any) -> str:
        return describe(job.context, by=gettext("enqueued by {}"))

    @admin.display(description=gettext_lazy("unique"))
    def uniqueness(self, job: Any) -> str:
        return f"{uniqueness_of(job, job.now) or gettext('no more')}: {job.unique_key}"

    @admin.display(description=gettext_lazy("progress"))
    def shown_progress(self, job: Any) -> str:
        return str(job.progress)

    @admin.display(description=gettext_lazy("times"))
    def timeline(self, job: Any) -> SafeString:
        return display.times(job, _TIMES)

    @admin.display(description=gettext_lazy("arguments"))
    def shown_arguments(self, job: Any) -> object:
        return display.encoded(job.arguments)

    @admin.display(description=gettext_lazy("return value"))
    def shown_return_value(self, job: Any) -> object:
        return display.encoded(job.encoded_return_value)

    @admin.display(description=gettext_lazy("latest error"))
    def shown_error(self, job: Any) -> SafeString:
        return display.ErrorText.read(job.error).as_block()

    # --- the page of one job

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the lists, and the verbs that fit the job and are allowed to the user."""
        site, job = self.admin_site, context["original"]
        checkpoints = details.list_checkpoints(job, request.GET.get("checkpoints"))
        context |= {
            "approvals": details.list_approvals(site, job, checkpoints.questions),
            "attempts": details.list_attempts(site, job),
            "checkpoints": checkpoints,
            "children": details.list_children(site, job),
            "all_children": details.children_link(site, job),
            "keys": details.list_keys(site, job),
            "retry": self._retry_form(request, job),
            "can_cancel": self._can_cancel(request, job),
            "can_fork": verbs.is_allowed(request, forking.FORK),
            "restart": forking.restart_form(request, job),
            "send": telling.send_form(request, job),
            "can_wake": telling.can_wake(request, job),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def _retry_form(self, request: HttpRequest, job: Any) -> verbs.RetryForm | None:
        """The form with the options that fit this job; None: it cannot be retried."""
        blocked = job.state == JobState.WAITING and job.wait_kind == BLOCKED
        ended = job.state in (JobState.FAILED, JobState.CANCELLED)
        if not (blocked or ended) or not verbs.is_allowed(request, verbs.RETRY):
            return None
        form = verbs.RetryForm()
        if not blocked:
            del form.fields["allow_new_steps"]
        if not (ended and details.has_interrupted_step(job)):
            del form.fields["rerun_interrupted"]
        return form

    def _can_cancel(self, request: HttpRequest, job: Any) -> bool:
        return (
            not job.is_finished
            and job.cancel_requested_at is None
            and verbs.is_allowed(request, verbs.CANCEL)
        )
