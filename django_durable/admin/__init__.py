"""Django's admin for jobs, approvals, keys, workers, queues and limits: to look, and to act.

Rows are never edited here, but for what operators say about queues and limits. The verbs are those
of the package, each with its own permission, and each is recorded in the admin's log.
"""

from django_durable.admin.approvals import ApprovalAdmin
from django_durable.admin.jobs import JobAdmin
from django_durable.admin.keys import IdempotencyKeyAdmin
from django_durable.admin.limits import LimitAdmin
from django_durable.admin.queues import QueueAdmin
from django_durable.admin.workers import WorkerAdmin

__all__ = [
    "ApprovalAdmin",
    "IdempotencyKeyAdmin",
    "JobAdmin",
    "LimitAdmin",
    "QueueAdmin",
    "WorkerAdmin",
]
