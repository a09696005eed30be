"""Idempotency keys: which requests were made, and what answers for them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin import details, display
from django_durable.admin.filters import ScopeFilter
from django_durable.admin.readonly import BoundedChangeList, ReadOnlyAdmin
from django_durable.admin.search import find_keys
from django_durable.engine.clock import StatementTimestamp
from django_durable.models import IdempotencyKey, Job


class KeyChangeList(BoundedChangeList):
    """Leaves the large column in the database."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        return super().get_queryset(request, exclude_parameters).defer("value")


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ("key", "scope", "names", "created", "expires")
    list_filter = (ScopeFilter,)
    search_fields = ("key",)
    search_help_text = gettext_lazy("A key, whole, or a scope and a key as “scope: key”.")
    fieldsets = (
        (None, {"fields": ("key", "scope", "job", "created", "expires", "fingerprint")}),
        (gettext_lazy("Data, as it is stored"), {"fields": ("shown_value",)}),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        keys: QuerySet[Any] = super().get_queryset(request)
        return keys.annotate(now=StatementTimestamp())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeyChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return (find_keys(queryset, search_term) if search_term.strip() else queryset), False

    @admin.display(description=gettext_lazy("job or result"))
    def names(self, key: IdempotencyKey) -> object:
        """Links to a job whether it is there or not: looking would take a query for each line."""
        if key.job_id is None:
            return gettext("a result of once()")
        return display.link(self.admin_site, Job(pk=key.job_id), key.job_id)

    @admin.display(description=gettext_lazy("job"))
    def job(self, key: IdempotencyKey) -> object:
        if key.job_id is None:
            return gettext("none: it guards a call of once()")
        return details.job_link(self.admin_site, key._state.db, key.job_id)

    @admin.display(description=gettext_lazy("first used"))
    def created(self, key: Any) -> object:
        return display.moment(key.created_at, key.now)

    @admin.display(description=gettext_lazy("expires"))
    def expires(self, key: Any) -> object:
        return display.moment(key.expires_at, key.now)

    @admin.display(description=gettext_lazy("result of once()"))
    def shown_value(self, key: IdempotencyKey) -> SafeString | str:
        return display.encoded(key.value)
