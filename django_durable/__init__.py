"""Durable background jobs for Django on PostgreSQL.

``from django_durable import task, step, enqueue`` works before the app registry is ready: names are
loaded when first asked for. Models are reached as ``django_durable.models``; everything under
``django_durable.engine`` is private.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from django_durable.approvals import aanswer_approval as aanswer_approval
    from django_durable.approvals import answer_approval as answer_approval
    from django_durable.approvals import await_for_approval as await_for_approval
    from django_durable.approvals import open_approvals as open_approvals
    from django_durable.approvals import wait_for_approval as wait_for_approval
    from django_durable.children import ChildHandle as ChildHandle
    from django_durable.composing import MapResult as MapResult
    from django_durable.composing import agather as agather
    from django_durable.composing import amap_task as amap_task
    from django_durable.composing import first as first
    from django_durable.composing import gather as gather
    from django_durable.composing import map_task as map_task
    from django_durable.context import acting_as as acting_as
    from django_durable.context import acurrent_user as acurrent_user
    from django_durable.context import current_user as current_user
    from django_durable.continuing import acontinue_as as acontinue_as
    from django_durable.continuing import continue_as as continue_as
    from django_durable.cron import Cron as Cron
    from django_durable.events import aemit_event as aemit_event
    from django_durable.events import asend_event as asend_event
    from django_durable.events import emit_event as emit_event
    from django_durable.events import send_event as send_event
    from django_durable.exceptions import DurableError as DurableError
    from django_durable.forks import afork_job as afork_job
    from django_durable.forks import arestart_job as arestart_job
    from django_durable.forks import fork_job as fork_job
    from django_durable.forks import restart_job as restart_job
    from django_durable.jobs import acancel_job as acancel_job
    from django_durable.jobs import aenqueue as aenqueue
    from django_durable.jobs import aenqueue_many as aenqueue_many
    from django_durable.jobs import aget_job as aget_job
    from django_durable.jobs import aretry_job as aretry_job
    from django_durable.jobs import awake_job as awake_job
    from django_durable.jobs import cancel_job as cancel_job
    from django_durable.jobs import current_job as current_job
    from django_durable.jobs import enqueue as enqueue
    from django_durable.jobs import enqueue_many as enqueue_many
    from django_durable.jobs import get_job as get_job
    from django_durable.jobs import once as once
    from django_durable.jobs import retry_job as retry_job
    from django_durable.jobs import wake_job as wake_job
    from django_durable.limits import Limit as Limit
    from django_durable.patching import apatched as apatched
    from django_durable.patching import patched as patched
    from django_durable.progress import JobProgress as JobProgress
    from django_durable.progress import aget_progress as aget_progress
    from django_durable.progress import aget_values as aget_values
    from django_durable.progress import aset_progress as aset_progress
    from django_durable.progress import aset_value as aset_value
    from django_durable.progress import get_progress as get_progress
    from django_durable.progress import get_values as get_values
    from django_durable.progress import set_progress as set_progress
    from django_durable.progress import set_value as set_value
    from django_durable.queues import apause_queue as apause_queue
    from django_durable.queues import aresume_queue as aresume_queue
    from django_durable.queues import pause_queue as pause_queue
    from django_durable.queues import resume_queue as resume_queue
    from django_durable.retry import RetryAfter as RetryAfter
    from django_durable.retry import RetryPolicy as RetryPolicy
    from django_durable.schedules import BackfilledTick as BackfilledTick
    from django_durable.schedules import aadd_schedule as aadd_schedule
    from django_durable.schedules import abackfill_schedule as abackfill_schedule
    from django_durable.schedules import achange_schedule as achange_schedule
    from django_durable.schedules import add_schedule as add_schedule
    from django_durable.schedules import apause_schedule as apause_schedule
    from django_durable.schedules import aremove_schedule as aremove_schedule
    from django_durable.schedules import aresume_schedule as aresume_schedule
    from django_durable.schedules import arun_schedule as arun_schedule
    from django_durable.schedules import backfill_schedule as backfill_schedule
    from django_durable.schedules import change_schedule as change_schedule
    from django_durable.schedules import pause_schedule as pause_schedule
    from django_durable.schedules import remove_schedule as remove_schedule
    from django_durable.schedules import resume_schedule as resume_schedule
    from django_durable.schedules import run_schedule as run_schedule
    from django_durable.steps import current_step as current_step
    from django_durable.steps import release_connections as release_connections
    from django_durable.steps import run_step as run_step
    from django_durable.steps import step as step
    from django_durable.tasks import Task as Task
    from django_durable.tasks import task as task
    from django_durable.unique import Unique as Unique
    from django_durable.waiting import ReceivedEvent as ReceivedEvent
    from django_durable.waiting import asleep as asleep
    from django_durable.waiting import asleep_until as asleep_until
    from django_durable.waiting import await_for_event as await_for_event
    from django_durable.waiting import await_until as await_until
    from django_durable.waiting import sleep as sleep
    from django_durable.waiting import sleep_until as sleep_until
    from django_durable.waiting import wait_for_event as wait_for_event
    from django_durable.waiting import wait_until as wait_until

_HOMES = {
    "aanswer_approval": "approvals",
    "answer_approval": "approvals",
    "await_for_approval": "approvals",
    "open_approvals": "approvals",
    "wait_for_approval": "approvals",
    "DurableError": "exceptions",
    "Limit": "limits",
    "Cron": "cron",
    "BackfilledTick": "schedules",
    "aadd_schedule": "schedules",
    "abackfill_schedule": "schedules",
    "achange_schedule": "schedules",
    "add_schedule": "schedules",
    "apause_schedule": "schedules",
    "aremove_schedule": "schedules",
    "aresume_schedule": "schedules",
    "arun_schedule": "schedules",
    "backfill_schedule": "schedules",
    "change_schedule": "schedules",
    "pause_schedule": "schedules",
    "remove_schedule": "schedules",
    "resume_schedule": "schedules",
    "run_schedule": "schedules",
    "RetryAfter": "retry",
    "RetryPolicy": "retry",
    "Unique": "unique",
    "Task": "tasks",
    "task": "tasks",
    "current_step": "steps",
    "release_connections": "steps",
    "run_step": "steps",
    "step": "steps",
    "acontinue_as": "continuing",
    "continue_as": "continuing",
    "apatched": "patching",
    "patched": "patching",
    "afork_job": "forks",
    "arestart_job": "forks",
    "fork_job": "forks",
    "restart_job": "forks",
    "aenqueue": "jobs",
    "aenqueue_many": "jobs",
    "aget_job": "jobs",
    "acancel_job": "jobs",
    "awake_job": "jobs",
    "wake_job": "jobs",
    "aretry_job": "jobs",
    "cancel_job": "jobs",
    "current_job": "jobs",
    "enqueue": "jobs",
    "enqueue_many": "jobs",
    "get_job": "jobs",
    "once": "jobs",
    "retry_job": "jobs",
    "ChildHandle": "children",
    "MapResult": "composing",
    "agather": "composing",
    "amap_task": "composing",
    "first": "composing",
    "gather": "composing",
    "map_task": "composing",
    "aemit_event": "events",
    "asend_event": "events",
    "emit_event": "events",
    "send_event": "events",
    "ReceivedEvent": "waiting",
    "asleep": "waiting",
    "asleep_until": "waiting",
    "await_for_event": "waiting",
    "await_until": "waiting",
    "sleep": "waiting",
    "sleep_until": "waiting",
    "wait_for_event": "waiting",
    "wait_until": "waiting",
    "acting_as": "context",
    "acurrent_user": "context",
    "current_user": "context",
    "JobProgress": "progress",
    "aget_progress": "progress",
    "aget_values": "progress",
    "aset_progress": "progress",
    "aset_value": "progress",
    "get_progress": "progress",
    "get_values": "progress",
    "set_progress": "progress",
    "set_value": "progress",
    "apause_queue": "queues",
    "aresume_queue": "queues",
    "pause_queue": "queues",
    "resume_queue": "queues",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
