"""Limits: how much of each is in use, what the code declares, and changing it."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin import bounding, display
from django_durable.admin.bounding import BoundsForm, Changing, apply
from django_durable.admin.readonly import BoundedChangeList, ReadOnlyAdmin
from django_durable.conf import get_settings
from django_durable.engine import overview, registry
from django_durable.engine.queues import NoSuchLimitError, bound_limit
from django_durable.models import Limit

CHANGE = Changing("change", "durable.change_limit")


class LimitChangeList(BoundedChangeList):
    """Counts the places in use of all limits by one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        usages = overview.count_usages(get_settings().DATABASE)
        self.result_list: Any = list(self.result_list)
        for limit in self.result_list:
            limit.usage = usages.get(limit.name, overview.Usage())


@admin.register(Limit)
class LimitAdmin(ReadOnlyAdmin):
    list_display = ("name", "bounds", "used", "declared", "tasks")
    ordering = ("name",)
    fieldsets = ((None, {"fields": ("bounds", "declared", "used", "tasks")}),)

    # --- rows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LimitChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        if "\x00" in object_id:
            return None
        limit: Any = super().get_object(request, object_id, from_field)
        if limit is not None:
            usages = overview.count_usages(get_settings().DATABASE)
            limit.usage = usages.get(limit.name, overview.Usage())
        return limit

    # --- columns and lines

    @admin.display(description=gettext_lazy("limit"))
    def bounds(self, limit: Any) -> str:
        return bounding.bounds_of(limit) or gettext("any number")

    @admin.display(description=gettext_lazy("the code declares"))
    def declared(self, limit: Any) -> SafeString | str:
        if overview.is_as_declared(limit):
            return gettext("the same")
        said = bounding.bounds_of(limit, "declared_") or gettext("any number")
        return format_html("{} {}", display.badge("changed", gettext("changed")), said)

    @admin.display(description=gettext_lazy("places in use"))
    def used(self, limit: Any) -> str:
        usage = limit.usage
        if usage.most == usage.running.count:  # one key, or none
            return str(usage.running)
        return gettext("%(n)s under %(keys)d keys, at most %(most)d under %(key)s") % {
            "n": usage.running,
            "keys": usage.keys,
            "most": usage.most,
            "key": display.one_line(usage.busiest_key, 40),
        }

    @admin.display(description=gettext_lazy("tasks"))
    def tasks(self, limit: Any) -> str:
        """The tasks known here that name it; by key, if it counts keys apart."""
        found = [t for t in registry.iter_tasks() if t.limit and t.limit.name == limit.name]
        by_key = gettext(" (by key)") if any(task.limit.key for task in found) else ""
        return ", ".join(task.path for task in found) + by_key if found else display.EMPTY

    # --- changing

    def get_urls(self) -> list[URLPattern]:
        views = {"bounds": BoundsForm, "declared": forms.Form}
        found = [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(partial(self.bounds_view, form_class=form_class)),
                name=f"durable_limit_{name}",
            )
            for name, form_class in views.items()
        ]
        return [*found, *super().get_urls()]

    def bounds_view(
        self, request: HttpRequest, object_id: str, form_class: type[forms.Form]
    ) -> HttpResponse:
        """Change it by POST, for those who may; a form without fields: as the code declares."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        name = unquote(object_id)
        CHANGE.require(request, f"limit {name}")
        form = form_class(request.POST)

        def change(chosen: dict[str, Any]) -> Limit:
            return bound_limit(get_settings().DATABASE, name, chosen or None)

        try:
            is_done = apply(request, form, change, _said)
        except NoSuchLimitError:
            messages.error(request, gettext("There is no such limit."))
            return self._to(request, "changelist")
        if is_done:
            return self._to(request, "change", quote(name))
        shown = copy(request)
        shown.method = "GET"  # the page of a row is only shown, never posted to
        return self.change_view(shown, quote(name), extra_context={"bounds_form": form})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the form, for those who may use it."""
        limit: Any = context["original"]
        if CHANGE.is_allowed(request):
            context = {
                "bounds_form": BoundsForm.of(limit),
                "is_changed": not overview.is_as_declared(limit),
                "row_key": quote(limit.name),
                **context,
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def _to(self, request: HttpRequest, page: str, *args: str) -> HttpResponse:
        name = f"admin:durable_limit_{page}"
        return HttpResponseRedirect(reverse(name, args=args, current_app=self.admin_site.name))


def _said(chosen: dict[str, Any]) -> str:
    if not chosen:
        return gettext("as the code declares.")
    bounds = bounding.bounds_in_words(**chosen) or gettext("any number")
    return gettext("limited to %(limits)s.") % {"limits": bounds}
