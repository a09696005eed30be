"""The models, reached when called: the package can be imported before the app registry is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_durable.models import (
        Checkpoint,
        Job,
        JobQuerySet,
        Message,
        Schedule,
        Tick,
        Worker,
    )
    from django_durable.models.approval import ApprovalQuerySet


def jobs(alias: str) -> JobQuerySet:
    return apps.get_model("durable", "Job").objects.using(alias)


def checkpoints(alias: str) -> QuerySet[Checkpoint]:
    return apps.get_model("durable", "Checkpoint")._base_manager.using(alias)


def approvals(alias: str) -> ApprovalQuerySet:
    return apps.get_model("durable", "Approval").objects.using(alias)


def messages(alias: str) -> QuerySet[Message]:
    return apps.get_model("durable", "Message")._base_manager.using(alias)


def workers(alias: str) -> QuerySet[Worker]:
    return apps.get_model("durable", "Worker")._base_manager.using(alias)


def schedules(alias: str) -> QuerySet[Schedule]:
    return apps.get_model("durable", "Schedule")._base_manager.using(alias)


def ticks(alias: str) -> QuerySet[Tick]:
    return apps.get_model("durable", "Tick")._base_manager.using(alias)


def new_worker(**columns: Any) -> Worker:
    return apps.get_model("durable", "Worker")(**columns)


def stored_job(alias: str, **columns: Any) -> Job:
    """A job as the database holds it by now, without asking it again."""
    job = apps.get_model("durable", "Job")(**columns)
    job._state.adding = False
    job._state.db = alias
    return job
