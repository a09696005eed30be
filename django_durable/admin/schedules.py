"""Schedules: the list, the page of one with its latest ticks, and the form to make one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseForbidden,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin import details, display, scheduling, verbs
from django_durable.admin.filters import Choices
from django_durable.admin.readonly import ReadOnlyAdmin
from django_durable.admin.scheduling import ScheduleForm, ScheduleVerb
from django_durable.conf import get_settings
from django_durable.engine import declaring, registry
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.ticks import read_rule
from django_durable.exceptions import DurableError, InvalidOptionError
from django_durable.models import Job, Schedule, Tick, TickOutcome

MOST_TICKS = 20
UPCOMING = 5


class StandingFilter(SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [
            ("due", gettext_lazy("active")),
            ("paused", gettext_lazy("paused")),
            ("retired", gettext_lazy("retired")),
            ("problem", gettext_lazy("with a problem")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "due":
                return queryset.filter(paused_at__isnull=True, retired_at__isnull=True)
            case "paused":
                return queryset.filter(paused_at__isnull=False)
            case "retired":
                return queryset.filter(retired_at__isnull=False)
            case "problem":
                return queryset.exclude(problem="")
            case None:
                return queryset
        return queryset.none()


@dataclass(frozen=True, slots=True)
class TickLine:
    """One tick as the page shows it."""

    time: str
    outcome: SafeString
    job: object
    reason: str


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    form = ScheduleForm
    list_display = ("titled", "standing", "rule", "upcoming", "latest")
    list_filter = (StandingFilter,)
    ordering = ("name",)
    search_fields = ("name", "task_path")
    actions = ("run_selected", "pause_selected", "resume_selected")
    readonly_fields = ("explained", "preview", "made_by")
    fieldsets = (
        (None, {"fields": ("explained", "name", "task_path", "made_by")}),
        (gettext_lazy("When"), {"fields": ("cron", "timezone", "preview", "jitter")}),
        (gettext_lazy("What"), {"fields": ("arguments", "missed", "overlap")}),
    )

    class Media:
        js = ("durable/schedule.js",)

    # --- rows and permissions

    def get_queryset(self, request: HttpRequest) -> Any:
        ticks = Tick.objects.using(get_settings().DATABASE).filter(schedule_name=OuterRef("pk"))
        latest = ticks.order_by("-tick_at")
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.annotate(
            now=StatementTimestamp(),
            latest_outcome=Subquery(latest.values("outcome")[:1]),
            latest_at=Subquery(latest.values("tick_at")[:1]),
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _has_permissions(request, "view_schedule", "add_schedule")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _has_permissions(request, "view_schedule", "change_schedule")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may = _has_permissions(request, "view_schedule", "delete_schedule")
        return may and (obj is None or not declaring.is_declared(obj))

    def has_run_permission(self, request: HttpRequest) -> bool:
        return verbs.is_allowed(request, scheduling.RUN)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fixed = () if obj is None else ("name", "task_path")
        return (*self.readonly_fields, *fixed)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """A new one has nothing to tell yet."""
        hidden = {"explained", "made_by"} if obj is None else set()
        return [
            (title, {**options, "fields": [f for f in options["fields"] if f not in hidden]})
            for title, options in super().get_fieldsets(request, obj)
        ]

    # --- writing

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Through the engine, never by save(). Raises: DurableError."""
        alias = get_settings().DATABASE
        if change:
            declaring.change(alias, obj.pk, form.changes)
        else:
            obj.name = form.cleaned_data["name"]
            declaring.make(alias, obj.name, form.values)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        declaring.remove(get_settings().DATABASE, obj.pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for name in list(queryset.values_list("pk", flat=True)):
            declaring.remove(get_settings().DATABASE, name)

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """What was taken or removed by somebody else meanwhile is a message, not an error."""
        try:
            with transaction.atomic(using=get_settings().DATABASE):
                return super().changeform_view(request, object_id, *args, **kwargs)
        except DurableError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    # --- verbs

    def get_urls(self) -> list[URLPattern]:
        preview = self.admin_site.admin_view(self.preview_view)
        return [
            path("preview/", preview, name="durable_schedule_preview"),
            *(
                path(
                    f"<path:name>/{verb.name}/",
                    self.admin_site.admin_view(self._view_of(verb)),
                    name=f"durable_schedule_{verb.name}",
                )
                for verb in scheduling.VERBS
            ),
            *super().get_urls(),
        ]

    def _view_of(self, verb: ScheduleVerb) -> Any:
        def view(request: HttpRequest, name: str) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            verbs.require(request, verb, f"schedule {name}")
            scheduling.apply(request, verb, unquote(name))
            there = self.get_object(request, unquote(name)) is not None
            url = reverse(
                f"admin:durable_schedule_{'change' if there else 'changelist'}",
                args=[name] if there else [],
                current_app=self.admin_site.name,
            )
            return HttpResponseRedirect(url)

        return view

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """The next times of an expression that is being typed."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            return HttpResponseForbidden()
        try:
            times = _next_times(request.GET.get("cron", ""), request.GET.get("timezone", ""))
        except InvalidOptionError as error:
            return JsonResponse({"problem": f"{error}"})
        return JsonResponse({"times": times})

    @admin.action(permissions=["run"], description=gettext_lazy("Run selected schedules now"))
    def run_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._apply(request, scheduling.RUN, queryset)

    @admin.action(permissions=["change"], description=gettext_lazy("Pause selected schedules"))
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._apply(request, scheduling.PAUSE, queryset)

    @admin.action(permissions=["change"], description=gettext_lazy("Resume selected schedules"))
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._apply(request, scheduling.RESUME, queryset)

    def _apply(self, request: HttpRequest, verb: ScheduleVerb, rows: QuerySet[Any]) -> None:
        verbs.require(request, verb, "selected schedules")
        for name in rows.values_list("pk", flat=True):
            scheduling.apply(request, verb, name)

    # --- columns and lines

    @admin.display(description=gettext_lazy("schedule"))
    def titled(self, row: Any) -> SafeString | str:
        if row.name == row.task_path:
            return str(row.name)
        task = format_html('<span class="durable-quiet durable-below">{}</span>', row.task_path)
        return format_html("{} {}", row.name, task)

    @admin.display(description=gettext_lazy("state"))
    def standing(self, row: Any) -> SafeString:
        state, label, _ = _standing(row)
        return display.badge(state, label)

    @admin.display(description=gettext_lazy("when"))
    def rule(self, row: Any) -> SafeString:
        zone = format_html('<span class="durable-quiet">{}</span>', row.timezone)
        return format_html("<code>{}</code> {}", row.cron, zone)

    @admin.display(description=gettext_lazy("next"), empty_value=display.EMPTY)
    def upcoming(self, row: Any) -> SafeString | None:
        rests = row.next_tick_at is None or row.paused_at or row.retired_at
        return None if rests else _when(row.next_tick_at, row.now)

    @admin.display(description=gettext_lazy("latest tick"), empty_value=display.EMPTY)
    def latest(self, row: Any) -> SafeString | None:
        if row.latest_at is None:
            return None
        badge = _outcome(row.latest_outcome)
        return format_html("{} {}", badge, _when(row.latest_at, row.now))

    @admin.display(description=gettext_lazy("state"))
    def explained(self, row: Any) -> SafeString:
        state, label, why = _standing(row)
        return format_html("{} {}", display.badge(state, label), why)

    @admin.display(description=gettext_lazy("made by"))
    def made_by(self, row: Any) -> str:
        if row.declared is None:
            return gettext("an operator")
        return gettext("the code; what is changed here stays, whatever later code declares")

    @admin.display(description=gettext_lazy("next times"))
    def preview(self, row: Any) -> SafeString:
        try:
            times = _next_times(row.cron, row.timezone) if row and row.pk else []
        except InvalidOptionError:
            times = []
        url = reverse("admin:durable_schedule_preview", current_app=self.admin_site.name)
        lines = format_html_join("", "<li>{}</li>", [(time,) for time in times])
        return format_html('<ul class="durable-preview" data-url="{}">{}</ul>', url, lines)

    # --- the page of one

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the latest ticks, and the verbs that fit and are allowed."""
        row = context.get("original")
        if row is not None:
            may_run = verbs.is_allowed(request, scheduling.RUN)
            is_known = registry.find_task(row.task_path) is not None
            now = timezone.localtime(row.now).replace(microsecond=0)
            initial = {"since": _input(now - timedelta(days=1)), "until": _input(now)}
            form = scheduling.BackfillForm(initial=initial)
            context |= {
                "ticks": self._ticks_of(row),
                "can_pause": verbs.is_allowed(request, scheduling.PAUSE),
                "can_run": may_run and is_known,
                "backfill": form if may_run and is_known else None,
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def _ticks_of(self, row: Any) -> list[TickLine]:
        alias = get_settings().DATABASE
        rows = Tick.objects.using(alias).filter(schedule_name=row.pk).order_by("-tick_at")
        found = list(rows[:MOST_TICKS])
        ids = [tick.job_id for tick in found if tick.job_id is not None]
        jobs = Job.objects.using(alias).only("id", "task_path", "state").in_bulk(ids)
        return [self._line(tick, jobs) for tick in found]

    def _line(self, tick: Any, jobs: dict[Any, Any]) -> TickLine:
        job = jobs.get(tick.job_id)
        shown: object = display.EMPTY
        if job is not None:
            link = display.link(self.admin_site, job, f"…{str(job.pk)[-12:]}")
            shown = format_html("{} {}", details.state_badge(job), link)
        elif tick.job_id is not None:
            shown = gettext("%(id)s (pruned)") % {"id": tick.job_id}
        return TickLine(
            display.clock_time(tick.tick_at), _outcome(tick.outcome), shown, tick.reason
        )


def _has_permissions(request: HttpRequest, *names: str) -> bool:
    user: Any = request.user
    return bool(user.has_perms([f"durable.{name}" for name in names]))


def _when(moment: datetime, now: datetime) -> SafeString:
    """How far a time lies from now; the time itself on hovering."""
    distance = display.distance(moment, now)
    title = display.clock_time(moment)
    return format_html('<span title="{}">{}</span>', title, distance)


def _input(moment: datetime) -> str:
    """A local time as a field for date and time takes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _outcome(outcome: str) -> SafeString:
    known = outcome in TickOutcome.values
    return display.badge(outcome, TickOutcome(outcome).label if known else outcome)


def _standing(row: Any) -> tuple[str, object, str]:
    """State, its label, and the sentence that says why."""
    if row.problem:
        return "problem", gettext("problem"), row.problem
    if row.retired_at is not None:
        why = gettext("The code declares it no more: it rests, and can be deleted.")
        return "retired", gettext("retired"), why
    if row.paused_at is not None:
        since = display.distance(row.paused_at, row.now)
        return "paused", gettext("paused"), gettext("Since %(age)s.") % {"age": since}
    if registry.find_task(row.task_path) is None:
        why = gettext("Its task is unknown to this process; workers that know it fire it.")
        return "unknown", gettext("unknown task"), why
    if row.next_tick_at is None:
        return "ended", gettext("ended"), gettext("It never comes due again.")
    due = display.distance(row.next_tick_at, row.now)
    return "due", gettext("active"), gettext("Due %(distance)s.") % {"distance": due}


def _next_times(cron: str, zone: str) -> Sequence[str]:
    """The next ticks as the clocks of the zone show them. Raises: InvalidOptionError."""
    rule = read_rule(cron, zone)
    found: list[str] = []
    tick = rule.next_after(timezone.now())
    while tick is not None and len(found) < UPCOMING:
        found.append(f"{tick.astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M:%S %Z}")
        tick = rule.next_after(tick)
    return found
