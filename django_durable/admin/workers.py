"""Workers: who is alive, and what each runs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import Case, Count, OuterRef, QuerySet, Subquery, TextChoices, Value, When
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin import details, display
from django_durable.admin.filters import Choices
from django_durable.admin.readonly import ReadOnlyAdmin
from django_durable.conf import get_settings
from django_durable.engine.clock import StatementTimestamp
from django_durable.models import Job, Worker


class WorkerState(TextChoices):
    """Where a worker stands, in one word: its columns and the database's clock."""

    LIVE = "LIVE", gettext_lazy("live")
    STOPPING = "STOPPING", gettext_lazy("stopping")
    SILENT = "SILENT", gettext_lazy("silent")
    STOPPED = "STOPPED", gettext_lazy("stopped")
    LOST = "LOST", gettext_lazy("lost")


STANDING = Case(
    When(lost_at__isnull=False, then=Value(WorkerState.LOST.value)),
    When(stopped_at__isnull=False, then=Value(WorkerState.STOPPED.value)),
    When(lease_expires_at__lte=StatementTimestamp(), then=Value(WorkerState.SILENT.value)),
    When(stopping_at__isnull=False, then=Value(WorkerState.STOPPING.value)),
    default=Value(WorkerState.LIVE.value),
)


class WorkerStateFilter(SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(state.value, state.label) for state in WorkerState]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        return queryset.filter(standing=value) if value in WorkerState.values else queryset.none()


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "state", "served", "running", "heartbeat", "started", "code_version")
    list_filter = (WorkerStateFilter,)
    ordering = ("-started_at", "-pk")
    fieldsets = (
        (None, {"fields": ("state", "hostname", "pid", "served", "running", "timeline")}),
        (
            gettext_lazy("More columns"),
            {
                "classes": ("collapse",),
                "fields": ("id", "code_version", "lease", "has_lock", "backlogged"),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        held = Job.objects.using(get_settings().DATABASE).running().filter(worker_id=OuterRef("pk"))
        count = held.order_by().values("worker_id").values(n=Count("*"))
        workers: QuerySet[Any] = super().get_queryset(request)
        return workers.annotate(
            now=StatementTimestamp(), standing=STANDING, running_count=Coalesce(Subquery(count), 0)
        )

    @admin.display(description=gettext_lazy("worker"))
    def name(self, worker: Worker) -> str:
        return str(worker)

    @admin.display(description=gettext_lazy("state"))
    def state(self, worker: Any) -> SafeString:
        return display.badge(worker.standing, WorkerState(worker.standing).label)

    @admin.display(description=gettext_lazy("queues"))
    def served(self, worker: Worker) -> str:
        return ", ".join(worker.queue_patterns or worker.queues) or gettext("all")

    @admin.display(description=gettext_lazy("jobs running"))
    def running(self, worker: Any) -> str:
        numbers = {"n": worker.running_count, "slots": worker.slots}
        return gettext("%(n)d in %(slots)d slots") % numbers

    @admin.display(description=gettext_lazy("last heartbeat"))
    def heartbeat(self, worker: Any) -> str:
        return display.distance(worker.heartbeat_at, worker.now)

    @admin.display(description=gettext_lazy("started"))
    def started(self, worker: Any) -> str:
        return display.clock_time(worker.started_at)

    @admin.display(description=gettext_lazy("times"))
    def timeline(self, worker: Any) -> SafeString:
        return display.times(
            worker,
            {
                "started_at": gettext("Started"),
                "heartbeat_at": gettext("Last heartbeat"),
                "lease_expires_at": gettext("Lease ends"),
                "stopping_at": gettext("Told to stop"),
                "stopped_at": gettext("Stopped"),
                "lost_at": gettext("Declared lost"),
            },
        )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        worker = context["original"]
        jobs = Job.objects.using(worker._state.db).running().filter(worker_id=worker.pk)
        context["held"] = details.list_jobs(self.admin_site, jobs)
        return super().render_change_form(request, context, *args, **kwargs)
