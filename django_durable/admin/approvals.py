"""Approvals: what jobs ask people, and the form to answer with."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http import HttpResponseRedirect as Redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin import details, display
from django_durable.admin.filters import Choices, exactly
from django_durable.admin.readonly import BoundedChangeList, ReadOnlyAdmin
from django_durable.approvals import answer_approval
from django_durable.conf import get_settings
from django_durable.engine import answering
from django_durable.engine.states import ApprovalState
from django_durable.exceptions import (
    ApprovalClosedError,
    ApprovalFormError,
    ApprovalNotFoundError,
    UnknownFormError,
)
from django_durable.models import Approval
from django_durable.views.answers import AnswerForms, is_approval, not_recorded, require, thanks

_OPTIONAL = {
    "subject": "subject_type",
    "form_line": "form_path",
    "answered_by": "answered_at",
    "shown_answer": "answered_at",
}
"""Lines of the page that are there only if a column is filled."""


class ApprovalChangeList(BoundedChangeList):
    """Leaves the large column in the database."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        return super().get_queryset(request, exclude_parameters).defer("answer")


class ApprovalStateFilter(SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(state.value, state.label) for state in ApprovalState]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        if value == ApprovalState.OPEN:  # said so that the index over open ones can be used
            queryset = queryset.filter(closed_at__isnull=True)
        return queryset.filter(state=value) if value in ApprovalState.values else queryset.none()


class ApprovalGroupFilter(SimpleListFilter):
    title = gettext_lazy("group")
    parameter_name = "group"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """The groups that open approvals ask."""
        rows = Approval.objects.using(get_settings().DATABASE).filter(closed_at__isnull=True)
        names = rows.order_by().values_list("group_name", flat=True).distinct()
        known = {name for name in (*names, self.value()) if name}
        return [(name, name) for name in sorted(known)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = self.value()
        return queryset if name is None else exactly(queryset, group_name=name)


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    list_display = ("title", "shown_state", "who", "age", "left", "answered_by")
    list_filter = (ApprovalStateFilter, ApprovalGroupFilter)
    ordering = (F("closed_at").desc(nulls_first=True), "-pk")
    fieldsets = (
        (None, {"fields": ("standing", "subject", "who", "form_line", "job", "asked", "deadline")}),
        (gettext_lazy("Answer"), {"fields": ("answered_by", "shown_answer")}),
        (gettext_lazy("More columns"), {"classes": ("collapse",), "fields": ("identity",)}),
    )

    # --- rows

    def get_queryset(self, request: HttpRequest) -> Any:
        questions: Any = super().get_queryset(request)
        return questions.judged()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ApprovalChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without the lines that say nothing of this question."""
        hidden = {name for name, column in _OPTIONAL.items() if not getattr(obj, column, None)}
        sets = [
            (title, {**options, "fields": [f for f in options["fields"] if f not in hidden]})
            for title, options in super().get_fieldsets(request, obj)
        ]
        return [(title, options) for title, options in sets if options["fields"]]

    # --- columns and lines

    @admin.display(description=gettext_lazy("state"))
    def shown_state(self, approval: Any) -> SafeString:
        return details.approval_badge(approval)

    @admin.display(description=gettext_lazy("state"))
    def standing(self, approval: Any) -> SafeString:
        if approval.state == ApprovalState.OPEN:
            return self.shown_state(approval)
        said = gettext("Closed: %(why)s") % {"why": answering.why_closed(approval)}
        return format_html("{} {}", self.shown_state(approval), said)

    @admin.display(description=gettext_lazy("who may answer"))
    def who(self, approval: Approval) -> str:
        if approval.permission is not None:
            return gettext("holders of %(name)s") % {"name": approval.permission}
        return gettext("group %(name)s") % {"name": approval.group_name}

    @admin.display(description=gettext_lazy("about"))
    def subject(self, approval: Approval) -> object:
        found = answering.find_subject(approval)
        if found is None:
            return f"{approval.subject_type} {approval.subject_key} {gettext('(gone)')}"
        return display.link(self.admin_site, found, found)

    @admin.display(description=gettext_lazy("form"))
    def form_line(self, approval: Approval) -> str:
        return str(approval.form_path)

    @admin.display(description=gettext_lazy("job"))
    def job(self, approval: Approval) -> object:
        return details.job_link(self.admin_site, approval._state.db, approval.job_id)

    @admin.display(description=gettext_lazy("asked"))
    def asked(self, approval: Any) -> object:
        return display.moment(approval.requested_at, approval.now)

    @admin.display(description=gettext_lazy("deadline"))
    def deadline(self, approval: Any) -> object:
        if approval.deadline_at is None:
            return display.EMPTY
        return display.moment(approval.deadline_at, approval.now)

    @admin.display(description=gettext_lazy("age"))
    def age(self, approval: Any) -> SafeString:
        return display.age(approval.requested_at, approval.now)

    @admin.display(description=gettext_lazy("deadline"))
    def left(self, approval: Any) -> str:
        if approval.deadline_at is None:
            return display.EMPTY
        return display.distance(approval.deadline_at, approval.now)

    @admin.display(description=gettext_lazy("answered by"))
    def answered_by(self, approval: Approval) -> str:
        return approval.answered_by_name or display.EMPTY

    @admin.display(description=gettext_lazy("what was filled in"))
    def shown_answer(self, approval: Approval) -> object:
        return display.encoded(approval.answer)

    # --- the page of one, and the answer

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the form to answer with, for those who may and as long as it is open."""
        approval = context["original"]
        is_open = approval.state == ApprovalState.OPEN
        if is_open and answering.may_answer(request.user, approval):
            forms = context.get("answer_forms") or AnswerForms.of(approval)
            context |= {"answer_forms": forms}
            if forms.form is not None:
                context["media"] += forms.form.media
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        answer = self.admin_site.admin_view(self.answer_view)
        return [
            path("<int:approval_id>/answer/", answer, name="durable_approval_answer"),
            *super().get_urls(),
        ]

    def answer_view(self, request: HttpRequest, approval_id: int) -> HttpResponse:
        """Answer one question, by POST, for those who may see approvals and answer this one."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            approval = answering.find(approval_id)
        except ApprovalNotFoundError as error:
            raise Http404(str(error)) from None
        require(request, approval)
        return self._answer(request, approval)

    def _answer(self, request: HttpRequest, approval: Approval) -> HttpResponse:
        approved = is_approval(request)
        try:
            self._record(request, approval, approved=approved)
        except ApprovalFormError as error:
            forms = AnswerForms.of(approval, error.form)
            shown = copy(request)
            shown.method = "GET"  # the page of a row is only shown, never posted to
            return self.change_view(shown, str(approval.pk), extra_context={"answer_forms": forms})
        except (ApprovalClosedError, UnknownFormError) as error:
            messages.error(request, not_recorded(error))
        else:
            messages.success(request, thanks(approved=approved))
        url = reverse(
            "admin:durable_approval_change",
            args=[approval.pk],
            current_app=self.admin_site.name,
        )
        return Redirect(url)

    def _record(self, request: HttpRequest, approval: Approval, *, approved: bool) -> None:
        """The answer and its entry in the admin's log are one transaction."""
        user: Any = request.user
        with transaction.atomic(using=get_settings().DATABASE):
            answer_approval(approval, user, approved=approved, data=request.POST)
            said = thanks(approved=approved)
            LogEntry.objects.log_actions(user.pk, [approval], CHANGE, change_message=said)
