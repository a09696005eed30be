"""Django's admin for jobs, idempotency keys and workers: to look, to retry, to cancel.

Rows are never edited here. The two verbs go through ``django_durable.jobs`` as everybody's do, each
with its own permission, and each is recorded in the admin's log.
"""

from django_durable.admin.jobs import JobAdmin
from django_durable.admin.keys import IdempotencyKeyAdmin
from django_durable.admin.workers import WorkerAdmin

__all__ = ["IdempotencyKeyAdmin", "JobAdmin", "WorkerAdmin"]
