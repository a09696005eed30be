"""Rows in every state, and what the pages about them say."""

import html
import re
from datetime import timedelta
from typing import Any

from django.db.models import Model
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from django_durable import enqueue
from django_durable.models import Attempt, Checkpoint, IdempotencyKey, Job, JobState, Worker
from tests.admin.tasks import succeed

FINISHED = (JobState.SUCCESSFUL, JobState.FAILED, JobState.CANCELLED)


def list_url(model: type[Model] = Job) -> str:
    return reverse(f"admin:durable_{model._meta.model_name}_changelist")


def page_url(row: Model) -> str:
    return reverse(f"admin:durable_{row._meta.model_name}_change", args=[row.pk])


def verb_url(verb: str, job: Job) -> str:
    return reverse(f"admin:durable_job_{verb}", args=[job.pk])


def text_of(response: HttpResponse) -> str:
    """The words of a page, without tags."""
    assert response.status_code == 200, response.status_code
    body = re.sub(r"(?s)<(script|style).*?</\1>", "", response.content.decode())
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def rewritten(job: Job, **columns: Any) -> Job:
    """The job with columns changed by hand, as in psql."""
    Job.objects.filter(pk=job.pk).update(**columns)
    return Job.objects.get(pk=job.pk)


def job_in(state: str, *, task: Any = succeed, **columns: Any) -> Job:
    """A job in a state, with what the table's constraints ask of it."""
    now = timezone.now()
    needed: dict[str, Any] = {}
    if state == JobState.RUNNING:
        worker = columns.pop("worker_id", None) or make_worker().pk
        needed = {"worker_id": worker, "lease_token": 1, "claimed_at": now}
    elif state == JobState.WAITING:
        needed = {"wait_kind": "blocked", "wait_reason": "replay mismatch: expected a; found b"}
    elif state in FINISHED:
        needed = {"finished_at": now}
    if state == JobState.SUCCESSFUL:
        needed["encoded_return_value"] = '{"paid":3}'
    elif state == JobState.FAILED:
        needed["error"] = '{"type":"shop.Declined","message":"no money","traceback":"Trace"}'
    started = {} if state == JobState.READY else {"started_at": now}
    return rewritten(enqueue(task, "o-1"), state=state, **(started | needed | columns))


def make_worker(hostname: str = "web-1", **columns: Any) -> Worker:
    now = timezone.now()
    defaults = {
        "id": Worker.objects.count() + 1,
        "pid": 4711,
        "queues": [],
        "slots": 8,
        "code_version": "abc",
        "lease": timedelta(minutes=5),
        "started_at": now,
        "heartbeat_at": now,
        "lease_expires_at": now + timedelta(minutes=5),
    }
    worker = Worker(hostname=hostname, **(defaults | columns))
    return Worker.objects.bulk_create([worker])[0]


def make_checkpoint(job: Job, seq: int, **columns: Any) -> Checkpoint:
    now = timezone.now()
    defaults = {
        "identity": f"step#{seq}",
        "kind": "plain",
        "state": "SUCCESSFUL",
        "function": "shop.tasks.step",
        "value": "1",
        "lease_token": 1,
        "started_at": now - timedelta(seconds=2),
        "saved_at": now,
    }
    row = Checkpoint(job_id=job.pk, seq=seq, **(defaults | columns))
    return Checkpoint.objects.bulk_create([row])[0]


def make_attempt(job: Job, **columns: object) -> Attempt:
    now = timezone.now()
    defaults: dict[str, object] = {
        "job_id": job.pk,
        "attempt": 1,
        "outcome": "FAILED",
        "lease_token": 1,
        "claimed_at": now - timedelta(seconds=3),
        "ended_at": now,
        "error": '{"type":"A","message":"b","traceback":"c"}',
    }
    return Attempt.objects.bulk_create([Attempt(**(defaults | columns))])[0]


def make_key(job: Job, **columns: str) -> IdempotencyKey:
    now = timezone.now()
    return IdempotencyKey(job_id=job.pk, fingerprint="f", created_at=now, expires_at=now, **columns)
