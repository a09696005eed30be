"""Django's admin for jobs, approvals, idempotency keys and workers: to look, retry, cancel, answer.

Rows are never edited here. The verbs go through ``django_durable.jobs`` and ``approvals`` as
everybody's do, each with its own permission, and each is recorded in the admin's log.
"""

from django_durable.admin.approvals import ApprovalAdmin
from django_durable.admin.jobs import JobAdmin
from django_durable.admin.keys import IdempotencyKeyAdmin
from django_durable.admin.workers import WorkerAdmin

__all__ = ["ApprovalAdmin", "IdempotencyKeyAdmin", "JobAdmin", "WorkerAdmin"]
