"""What can be done to jobs in the admin: an address for each verb, and the list's actions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import BadRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy

from django_durable.admin import forking, telling, verbs
from django_durable.admin.readonly import ReadOnlyAdmin


class ActingAdmin(ReadOnlyAdmin):
    """Each verb is POST only and checked here, whatever the page offered; each is recorded."""

    actions = ("retry_selected", "cancel_selected")

    def get_urls(self) -> list[URLPattern]:
        """The pages of a ModelAdmin, and an address for each verb.

        A list's actions commit chunk by chunk, whatever ATOMIC_REQUESTS says.
        """
        urls = super().get_urls()
        for url in urls:
            if url.name == "durable_job_changelist":
                for alias in connections:
                    transaction.non_atomic_requests(using=alias)(url.callback)
        views = (
            self.retry_view, self.cancel_view, self.fork_view, self.restart_view, self.send_view,
            self.wake_view,
        )  # fmt: skip
        names = [view.__name__.removesuffix("_view") for view in views]
        return [
            *(
                path(
                    f"<uuid:job_id>/{name}/",
                    self.admin_site.admin_view(view),
                    name=f"durable_job_{name}",
                )
                for name, view in zip(names, views, strict=True)
            ),
            *urls,
        ]

    def retry_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        return self._apply(request, verbs.RETRY, job_id)

    def cancel_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        return self._apply(request, verbs.CANCEL, job_id)

    def fork_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        return self._make(request, forking.FORK, job_id)

    def restart_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        return self._make(request, forking.RESTART, job_id)

    def send_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        return self._tell(request, telling.SEND, job_id)

    def wake_view(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        return self._tell(request, telling.WAKE, job_id)

    def _apply(self, request: HttpRequest, verb: verbs.Verb, job_id: UUID) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        verbs.require(request, verb, f"job {job_id}")
        verbs.apply_to_one(request, verb, job_id)
        return self._to_page(request, job_id)

    def _make(self, request: HttpRequest, making: forking.Making, job_id: UUID) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        verbs.require(request, making, f"job {job_id}")
        return self._to_page(request, forking.make_job(request, making, job_id))

    def _tell(self, request: HttpRequest, what: telling.Telling, job_id: UUID) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        verbs.require(request, what, f"job {job_id}")
        telling.tell_job(request, what, job_id)
        return self._to_page(request, job_id)

    def _to_page(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        url = reverse("admin:durable_job_change", args=[job_id], current_app=self.admin_site.name)
        filters = self.get_preserved_filters(request)
        context: Any = {"preserved_filters": filters, "opts": self.opts}
        return HttpResponseRedirect(add_preserved_filters(context, url))

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return verbs.is_allowed(request, verbs.RETRY)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return verbs.is_allowed(request, verbs.CANCEL)

    @admin.action(permissions=["retry"], description=gettext_lazy("Retry selected jobs"))
    def retry_selected(self, request: HttpRequest, queryset: Any) -> None:
        verbs.require(request, verbs.RETRY, "selected jobs")
        verbs.apply_to_many(request, verbs.RETRY, queryset)

    @admin.action(permissions=["cancel"], description=gettext_lazy("Cancel selected jobs"))
    def cancel_selected(self, request: HttpRequest, queryset: Any) -> None:
        verbs.require(request, verbs.CANCEL, "selected jobs")
        verbs.apply_to_many(request, verbs.CANCEL, queryset)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Refuse forbidden actions aloud: the list itself would only not offer them."""
        asked = request.POST.getlist("action")
        for verb in verbs.VERBS:
            if verb.action in asked:
                verbs.require(request, verb, "selected jobs")
        if not all(map(is_uuid, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            raise BadRequest("What was selected are not ids of jobs.")
        return super().changelist_view(request, extra_context)


def is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
