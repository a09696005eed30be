"""Admin pages that only show rows, and lists that never count a million of them."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import ngettext

from django_durable.conf import get_settings

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _Paginator = Paginator

MOST_COUNTED = 10_000
"""A list counts no further, and has no more pages than that; filters and actions see every row."""


class BoundedPaginator(_Paginator):
    """Counts at most ``MOST_COUNTED`` rows, in a subquery that stops there."""

    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        return min(self._bounded, MOST_COUNTED)

    @property
    def is_cut(self) -> bool:
        return self._bounded > MOST_COUNTED

    @cached_property
    def _bounded(self) -> int:
        rows = self.object_list.order_by().values("pk")[: MOST_COUNTED + 1]
        return rows.count()


class BoundedChangeList(ChangeList):
    """A list whose count may be a lower bound; templates then use ``shown`` in its place."""

    paginator: BoundedPaginator

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """The list's own, whatever the address says: any other would sort the whole table."""
        return list(self.model_admin.ordering or ())

    @property
    def is_cut(self) -> bool:
        return self.paginator.is_cut

    @property
    def shown(self) -> Any:
        """The same list with the count as people read it: ``10000+``."""
        shown: Any = copy(self)
        shown.result_count = f"{self.result_count}+"
        return shown

    @property
    def selection_note_all(self) -> str:
        note = ngettext(
            "%(total_count)s selected", "All %(total_count)s selected", self.result_count
        )
        return note % {"total_count": self.shown.result_count}


class ReadOnlyAdmin(_ModelAdmin):
    """Shows the rows of one model, from the jobs' database. Nothing is added, edited or deleted."""

    list_filter: ClassVar[Any] = ()
    list_per_page = 100
    ordering: ClassVar[Any] = ("-pk",)
    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    class Media:
        css = {"all": ["durable/admin.css"]}  # noqa: RUF012 (the way Django wants it)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(get_settings().DATABASE)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BoundedChangeList

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Only the filters on the page: any other lookup would read a whole table."""
        return lookup in {getattr(one, "parameter_name", one) for one in self.list_filter}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
