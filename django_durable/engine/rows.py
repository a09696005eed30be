"""The models, reached when called: the package can be imported before the app registry is ready."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections
from django.db.models.base import ModelState
from psycopg.types.datetime import TimestamptzLoader

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_durable.models import (
        Checkpoint,
        Job,
        JobQuerySet,
        Limit,
        Message,
        Queue,
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


def queues(alias: str) -> QuerySet[Queue]:
    return apps.get_model("durable", "Queue")._base_manager.using(alias)


def new_queue(**columns: Any) -> Queue:
    return apps.get_model("durable", "Queue")(**columns)


def limits(alias: str) -> QuerySet[Limit]:
    return apps.get_model("durable", "Limit")._base_manager.using(alias)


def stored_job(alias: str, **columns: Any) -> Job:
    """A job as the database holds it by now, without asking it again."""
    job = apps.get_model("durable", "Job")(**columns)
    job._state.adding = False
    job._state.db = alias
    return job


def load_jobs(alias: str, statement: str, params: Sequence[Any]) -> list[Job]:
    """The rows of a SELECT of all columns of jobs, as Django wrote it.

    What ``from_db`` and ``__init__`` would do takes longer than the statement.
    """
    model = apps.get_model("durable", "Job")
    names = [field.attname for field in model._meta.concrete_fields]
    with connections[alias].cursor() as cursor:
        # Django's own loader of times is Python; the driver's is C and gives UTC as well
        cursor.cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        cursor.execute(statement, params)
        return [_load(model, alias, names, row) for row in cursor.fetchall()]


def _load(model: Any, alias: str, names: list[str], row: tuple[Any, ...]) -> Job:
    job: Job = model.__new__(model)
    state = ModelState()
    state.adding, state.db = False, alias
    job.__dict__ = dict(zip(names, row, strict=True))
    job._state = state
    return job
