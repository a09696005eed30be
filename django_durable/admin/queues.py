"""Queues: how long each is, pausing it, and its limits."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME, ActionForm
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import InvalidPage, Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin import bounding, display
from django_durable.admin.bounding import BoundsForm, Changing, apply
from django_durable.admin.readonly import ReadOnlyAdmin
from django_durable.conf import get_settings
from django_durable.engine import overview, queues
from django_durable.engine.options import check_queue_name
from django_durable.exceptions import InvalidOptionError
from django_durable.models import Job, Queue
from django_durable.queues import LONGEST_TEXT, pause_queue, resume_queue

CHANGE = Changing("change", "durable.change_queue")
LATER = gettext_lazy("When it resumes by itself. Empty: when somebody resumes it.")
_UNTIL: dict[str, Any] = {
    "required": False,
    "label": gettext_lazy("Until"),
    "widget": forms.DateTimeInput(attrs={"type": "datetime-local"}),
}
_REASON: dict[str, Any] = {
    "required": False,
    "max_length": LONGEST_TEXT,
    "label": gettext_lazy("Reason"),
}


class PauseForm(forms.Form):
    """Until when a queue is paused, and why."""

    until = forms.DateTimeField(help_text=LATER, **_UNTIL)
    reason = forms.CharField(help_text=gettext_lazy("For people who wonder."), **_REASON)


class QueueActionForm(ActionForm):
    """The same beside the list's actions; checked by the one above."""

    until = forms.CharField(**_UNTIL)
    reason = forms.CharField(**_REASON)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueVerb:
    """What can be done to a queue: with a form, and said in the admin's log."""

    name: str
    form: type[forms.Form]
    change: Callable[[str, dict[str, Any]], Queue]
    said: Callable[[dict[str, Any]], str]

    def apply(self, request: HttpRequest, name: str, form: forms.Form) -> bool:
        """Whether it was done; if not, the form says why."""
        return apply(request, form, lambda chosen: self.change(name, chosen), self.said)


def _resume(name: str, chosen: dict[str, Any]) -> Queue:
    resume_queue(name)
    return Queue(name=name)


def _paused(chosen: dict[str, Any]) -> str:
    until, reason = chosen["until"], chosen["reason"]
    said = gettext("paused")
    if until is not None:
        said = gettext("paused until %(when)s") % {"when": display.clock_time(until)}
    return f"{said}: {reason}" if reason else f"{said}."


def _bounded(chosen: dict[str, Any]) -> str:
    bounds = bounding.bounds_in_words(**chosen)
    return gettext("limits: %(limits)s.") % {"limits": bounds or gettext("none")}


PAUSE = QueueVerb(
    name="pause",
    form=PauseForm,
    change=lambda name, chosen: pause_queue(name, **chosen),
    said=_paused,
)
RESUME = QueueVerb(
    name="resume", form=forms.Form, change=_resume, said=lambda chosen: gettext("resumed.")
)
BOUNDS = QueueVerb(
    name="bounds",
    form=BoundsForm,
    change=lambda name, chosen: queues.bound_queue(get_settings().DATABASE, name, chosen),
    said=_bounded,
)
VERBS = (PAUSE, RESUME, BOUNDS)


class NameForm(forms.Form):
    """The name of a queue that has neither jobs nor a row yet."""

    name = forms.CharField(max_length=100, label=gettext_lazy("Name"))

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        try:
            queues.check_queue(name)
        except InvalidOptionError as error:
            raise forms.ValidationError(vars(error)["reason"]) from None
        return name


class QueueChangeList(ChangeList):
    """Every queue that somebody knows of, whether it has a row or not."""

    def get_results(self, request: HttpRequest) -> None:
        rows = known_queues()
        self.paginator = Paginator(rows, self.list_per_page)
        try:
            self.result_list: Any = self.paginator.page(self.page_num).object_list
        except InvalidPage:
            raise IncorrectLookupParameters from None
        self.result_count = self.full_result_count = len(rows)
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = False
        self.multi_page = len(rows) > self.list_per_page


def known_queues() -> list[Any]:
    """A row for each queue, stored or not, with ``overview`` and ``now``."""
    alias = get_settings().DATABASE
    now = overview.database_now(alias)
    found = []
    for each in overview.read_queues(alias, now):
        row: Any = Queue(name=each.name)
        row._state.db = alias
        row.overview, row.now = each, now
        found.append(row)
    return found


def is_paused(queue: Any) -> bool:
    return queue.overview.paused_at is not None


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    list_display = ("title", "state", "ready", "oldest", "running", "scheduled", "bounds")
    list_display_links = ("title",)
    ordering = ("name",)
    actions = ("pause_selected", "resume_selected")
    action_form = QueueActionForm
    fieldsets = (
        (
            None,
            {"fields": ("standing", "ready", "oldest", "running", "scheduled", "bounds", "jobs")},
        ),
    )

    # --- rows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return QueueChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """A queue somebody knows of, or any other that may be; its row is made when needed."""
        known = {row.name: row for row in known_queues()}
        if object_id in known:
            return known[object_id]
        if check_queue_name(object_id):
            return None
        row: Any = Queue(name=object_id)
        row._state.db = get_settings().DATABASE
        row.overview = overview.QueueOverview(name=object_id)
        row.now = overview.database_now(get_settings().DATABASE)
        return row

    # --- columns and lines

    @admin.display(description=gettext_lazy("queue"))
    def title(self, queue: Any) -> str:
        return str(queue.name)

    @admin.display(description=gettext_lazy("state"))
    def state(self, queue: Any) -> SafeString | str:
        return display.badge("paused", gettext("paused")) if is_paused(queue) else display.EMPTY

    @admin.display(description=gettext_lazy("state"))
    def standing(self, queue: Any) -> SafeString | str:
        """Since when, until when, and why it is paused."""
        if not is_paused(queue):
            return gettext("Its jobs are started.")
        found = queue.overview
        parts = [(gettext("since"), display.moment(found.paused_at, queue.now))]
        if found.resume_at is not None:
            parts.append((gettext("until"), display.moment(found.resume_at, queue.now)))
        said = format_html_join("; ", "{} {}", parts)
        if found.reason:
            said = format_html("{}; {}", said, found.reason)
        return format_html("{} {}", display.badge("paused", gettext("paused")), said)

    @admin.display(description=gettext_lazy("ready"))
    def ready(self, queue: Any) -> str:
        return str(queue.overview.ready)

    @admin.display(description=gettext_lazy("oldest ready"))
    def oldest(self, queue: Any) -> SafeString | str:
        due_at = queue.overview.oldest_ready_due_at
        return display.EMPTY if due_at is None else display.age(due_at, queue.now)

    @admin.display(description=gettext_lazy("running"))
    def running(self, queue: Any) -> str:
        return str(queue.overview.running)

    @admin.display(description=gettext_lazy("scheduled"))
    def scheduled(self, queue: Any) -> str:
        return str(queue.overview.scheduled)

    @admin.display(description=gettext_lazy("limits"))
    def bounds(self, queue: Any) -> str:
        return bounding.bounds_of(queue.overview) or display.EMPTY

    @admin.display(description=gettext_lazy("jobs"))
    def jobs(self, queue: Any) -> SafeString:
        return display.list_link(self.admin_site, Job, gettext("all of them"), queue=queue.name)

    # --- what can be done

    def get_urls(self) -> list[URLPattern]:
        views = [
            path(
                f"<path:object_id>/{verb.name}/",
                self.admin_site.admin_view(partial(self.verb_view, verb=verb)),
                name=f"durable_queue_{verb.name}",
            )
            for verb in VERBS
        ]
        return [*views, *super().get_urls()]

    def verb_view(self, request: HttpRequest, object_id: str, verb: QueueVerb) -> HttpResponse:
        """Do it by POST, for those who may; what is refused stands in the form on the same page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        name = unquote(object_id)
        CHANGE.require(request, f"queue {name}")
        form = verb.form(request.POST)
        if verb.apply(request, name, form):
            return self._to(request, "change", quote(name))
        shown = copy(request)
        shown.method = "GET"  # the page of a row is only shown, never posted to
        return self.change_view(shown, quote(name), extra_context={f"{verb.name}_form": form})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the forms, for those who may use them."""
        queue: Any = context["original"]
        if CHANGE.is_allowed(request):
            found = queue.overview
            until = found.resume_at and localtime(found.resume_at).strftime("%Y-%m-%dT%H:%M")
            context = {
                "pause_form": PauseForm(initial={"until": until, "reason": found.reason}),
                "bounds_form": BoundsForm.of(found),
                "is_paused": is_paused(queue),
                "row_key": quote(queue.name),
                **context,
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return CHANGE.is_allowed(request)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Lead to the page of any queue; its row is made when something is said about it."""
        CHANGE.require(request, "a queue")
        form = NameForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            return self._to(request, "change", quote(form.cleaned_data["name"]))
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Another queue"),
            "opts": self.opts,
            "form": form,
            "media": self.media + form.media,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/durable/queue/name_form.html", context)

    # --- many at once

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return CHANGE.is_allowed(request)

    @admin.action(permissions=["pause"], description=gettext_lazy("Pause selected queues"))
    def pause_selected(self, request: HttpRequest, queryset: Any) -> None:
        self._apply_to_selected(request, PAUSE)

    @admin.action(permissions=["pause"], description=gettext_lazy("Resume selected queues"))
    def resume_selected(self, request: HttpRequest, queryset: Any) -> None:
        self._apply_to_selected(request, RESUME)

    def _apply_to_selected(self, request: HttpRequest, verb: QueueVerb) -> None:
        CHANGE.require(request, "selected queues")
        for name in request.POST.getlist(ACTION_CHECKBOX_NAME):
            form = verb.form(request.POST)
            if not verb.apply(request, name, form):
                said = " ".join(str(e) for found in form.errors.values() for e in found)
                messages.error(request, f"{name}: {said}")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Refuse forbidden actions aloud: the list itself would only not offer them."""
        if request.method == "POST":
            CHANGE.require(request, "selected queues")
        return super().changelist_view(request, extra_context)

    def _to(self, request: HttpRequest, page: str, *args: str) -> HttpResponse:
        name = f"admin:durable_queue_{page}"
        return HttpResponseRedirect(reverse(name, args=args, current_app=self.admin_site.name))
