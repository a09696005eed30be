"""The models, reached when called: the package can be imported before the app registry is ready."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps
from django.db.models import NOT_PROVIDED
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
    model = apps.get_model("durable", "Job")
    return _made(model, alias, {**_blank(model), "allowed_steps": [], **columns})


def like_jobs(job: Job, ids: Iterable[UUID], arguments: Iterable[str]) -> list[Job]:
    """Jobs that differ from one in these two columns only."""
    model, alias = type(job), job._state.db or ""
    same = {name: value for name, value in job.__dict__.items() if name != "_state"}
    return [
        _made(model, alias, {**same, "id": job_id, "arguments": text, "allowed_steps": []})
        for job_id, text in zip(ids, arguments, strict=True)
    ]


@cache
def _blank(model: Any) -> dict[str, Any]:
    """The columns of a row of which nothing is said."""
    return {
        field.attname: field.get_default() if field.db_default is NOT_PROVIDED else field.db_default
        for field in model._meta.concrete_fields
    }


def _made(model: Any, alias: str, columns: dict[str, Any]) -> Job:
    """A row of these columns: what ``__init__`` would do takes longer than to insert it."""
    job: Job = model.__new__(model)
    state = ModelState()
    state.adding, state.db = False, alias
    columns["_state"] = state
    job.__dict__ = columns
    return job


def load_jobs(connection: Any, statement: str, params: Sequence[Any] | None = None) -> list[Job]:
    """The rows of a SELECT of all columns of jobs, as Django wrote it.

    What ``from_db`` and ``__init__`` would do takes longer than the statement.
    """
    model = apps.get_model("durable", "Job")
    names = [field.attname for field in model._meta.concrete_fields]
    with connection.cursor() as cursor:
        # Django's own loader of times is Python; the driver's is C and gives UTC as well
        cursor.cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        cursor.execute(statement, params)
        rows = cursor.fetchall()
    return [_made(model, connection.alias, dict(zip(names, row, strict=True))) for row in rows]
