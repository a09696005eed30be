"""The rows: what each column means, which invariants hold, how to ask for rows by their state.

Nothing here writes. State is written by ``django_durable.engine`` only, each write to a running job
fenced by its lease token; ``save()`` and ``delete()`` are refused.
"""

from django_durable.engine.states import (
    BLOCKED,
    DELAYED,
    FINISHED,
    AttemptOutcome,
    CheckpointState,
    JobState,
    TickOutcome,
    WaitKind,
)
from django_durable.models.approval import Approval
from django_durable.models.checkpoint import Attempt, Checkpoint
from django_durable.models.event import Event, Mailbox, Message
from django_durable.models.flow import Limit, LimitStart, Queue
from django_durable.models.idempotency import IdempotencyKey
from django_durable.models.job import Job, JobQuerySet
from django_durable.models.progress import JobValue, Progress
from django_durable.models.schedule import Schedule, Tick
from django_durable.models.worker import Worker

__all__ = [
    "BLOCKED",
    "DELAYED",
    "FINISHED",
    "Approval",
    "Attempt",
    "AttemptOutcome",
    "Checkpoint",
    "CheckpointState",
    "Event",
    "IdempotencyKey",
    "Job",
    "JobQuerySet",
    "JobState",
    "JobValue",
    "Limit",
    "LimitStart",
    "Mailbox",
    "Message",
    "Progress",
    "Queue",
    "Schedule",
    "Tick",
    "TickOutcome",
    "WaitKind",
    "Worker",
]
