"""Django's admin for jobs, approvals, schedules, keys, workers, queues and limits: look, and act.

Rows are never edited here, but schedules, and what operators say about queues and limits; all is
checked as everywhere. The verbs are those of the package, each with its own permission, and each is
recorded in the admin's log.
"""

from django_durable.admin.approvals import ApprovalAdmin
from django_durable.admin.jobs import JobAdmin
from django_durable.admin.keys import IdempotencyKeyAdmin
from django_durable.admin.limits import LimitAdmin
from django_durable.admin.queues import QueueAdmin
from django_durable.admin.schedules import ScheduleAdmin
from django_durable.admin.workers import WorkerAdmin

__all__ = [
    "ApprovalAdmin",
    "IdempotencyKeyAdmin",
    "JobAdmin",
    "LimitAdmin",
    "QueueAdmin",
    "ScheduleAdmin",
    "WorkerAdmin",
]
