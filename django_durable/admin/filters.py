"""What lists can be narrowed by. Choices come from code and small indexes, not from a DISTINCT."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.admin import SimpleListFilter
from django.db import connections
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy

from django_durable.conf import get_settings
from django_durable.engine import registry
from django_durable.engine.claims import find_ready_queues
from django_durable.models import FINISHED, JobState, Worker

Choices = list[tuple[str, Any]]


def _with_chosen(names: Iterable[str], chosen: str | None) -> Choices:
    """Sorted choices, with the one in the address even if nobody else knows it."""
    known = {*names} | ({chosen} if chosen else set())
    return [(name, name) for name in sorted(known)]


def exactly(rows: QuerySet[Any], **texts: str) -> QuerySet[Any]:
    """Rows with these texts; none for a text that PostgreSQL could not store."""
    return rows.none() if any("\x00" in text for text in texts.values()) else rows.filter(**texts)


def of_task(jobs: QuerySet[Any], path: str) -> QuerySet[Any]:
    """The jobs of a task, under its path and the former ones."""
    task = registry.find_task(path)
    if task is None:
        return exactly(jobs, task_path=path)
    return jobs.filter(task_path__in=[task.path, *task.aliases])


def children_of(jobs: QuerySet[Any], parent_id: UUID) -> QuerySet[Any]:
    # Each child has an origin; saying so lets the index on (parent_id, origin) be used.
    return jobs.filter(parent_id=parent_id, origin__isnull=False)


_FILLED = {state.value: "finished_at__isnull" for state in FINISHED} | {
    JobState.RUNNING.value: "worker_id__isnull"
}
"""What is never empty in a state, said so that the partial index over it can be used."""


class StateFilter(SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [*JobState.choices, ("BLOCKED", gettext_lazy("waiting, blocked by a mismatch"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        state = self.value()
        if state is None:
            return queryset
        if state == "BLOCKED":
            return queryset.blocked()
        if state not in JobState.values:
            return queryset.none()
        return queryset.filter(state=state, **{_FILLED[state]: False} if state in _FILLED else {})


class TaskFilter(SimpleListFilter):
    title = gettext_lazy("task")
    parameter_name = "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return _with_chosen((task.path for task in registry.iter_tasks()), self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        path = self.value()
        return queryset if path is None else of_task(queryset, path)


class QueueFilter(SimpleListFilter):
    title = gettext_lazy("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Queues that tasks declare, that workers serve, and that have ready jobs."""
        settings = get_settings()
        workers = Worker.objects.using(settings.DATABASE)
        live = workers.filter(stopped_at__isnull=True, lost_at__isnull=True)
        names = {task.queue_name for task in registry.iter_tasks()}
        names.update(settings.QUEUES or (), find_ready_queues(connections[settings.DATABASE]))
        names.update(*live.values_list("queues", flat=True))
        return _with_chosen(names, self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = self.value()
        return queryset if name is None else exactly(queryset, queue_name=name)


class EnqueuedFilter(SimpleListFilter):
    """By the time in the job's id, which is a range of the primary key."""

    title = gettext_lazy("time enqueued")
    parameter_name = "enqueued"
    spans: ClassVar[dict[str, tuple[timedelta, Any]]] = {
        "1h": (timedelta(hours=1), gettext_lazy("Last hour")),
        "24h": (timedelta(hours=24), gettext_lazy("Last 24 hours")),
        "7d": (timedelta(days=7), gettext_lazy("Last 7 days")),
        "30d": (timedelta(days=30), gettext_lazy("Last 30 days")),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(value, label) for value, (_, label) in self.spans.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        if value not in self.spans:
            return queryset.none()
        since = timezone.now() - self.spans[value][0]
        return queryset.filter(pk__gte=UUID(int=int(since.timestamp() * 1000) << 80))


class ParentFilter(SimpleListFilter):
    """The children of one job; shown only in a list that was reached by a link to them."""

    title = gettext_lazy("parent")
    parameter_name = "parent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return _with_chosen((), self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        try:
            return children_of(queryset, UUID(value))
        except ValueError:
            return queryset.none()


class SubjectFilter(SimpleListFilter):
    """The jobs about one object, as ``shop.order:42``; shown only in a list reached by a link."""

    title = gettext_lazy("subject")
    parameter_name = "subject"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return _with_chosen((), self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        label, _, key = value.partition(":")
        return exactly(queryset, subject_type=label, subject_key=key)


class ScopeFilter(SimpleListFilter):
    """Of idempotency keys: those of one task."""

    title = gettext_lazy("scope")
    parameter_name = "scope"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return _with_chosen((task.path for task in registry.iter_tasks()), self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        scope = self.value()
        return queryset if scope is None else exactly(queryset, scope=scope)
