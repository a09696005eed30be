"""Django's admin for jobs, approvals, schedules, idempotency keys and workers.

Only schedules are edited here, checked as everywhere. The verbs go through
``django_durable.jobs``, ``approvals`` and ``schedules`` as everybody's do, each with its own
permission, and each is recorded in the admin's log.
"""

from django_durable.admin.approvals import ApprovalAdmin
from django_durable.admin.jobs import JobAdmin
from django_durable.admin.keys import IdempotencyKeyAdmin
from django_durable.admin.schedules import ScheduleAdmin
from django_durable.admin.workers import WorkerAdmin

__all__ = ["ApprovalAdmin", "IdempotencyKeyAdmin", "JobAdmin", "ScheduleAdmin", "WorkerAdmin"]
