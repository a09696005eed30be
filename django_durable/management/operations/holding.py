"""What holds a ready job back by intent: a pause, or a limit, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.db.models import Min, Q, Sum
from django.db.models.functions import Coalesce

from django_durable.engine.states import JobState
from django_durable.management.operations.finding import Finding
from django_durable.management.operations.output import age, count_of, moment, span
from django_durable.management.operations.reading import all_jobs, jobs_alias
from django_durable.models import Limit, LimitStart, Queue

if TYPE_CHECKING:
    from django_durable.management.operations.obstacles import Situation


def paused(situation: Situation) -> Iterator[Finding]:
    now, name = situation.now, situation.job.queue_name
    open_end = Q(resume_at__isnull=True) | Q(resume_at__gt=now)
    queues = Queue.objects.using(jobs_alias()).filter(open_end, name=name, paused_at__isnull=False)
    for queue in queues:
        until = f" It goes on by itself {age(queue.resume_at, now)}." if queue.resume_at else ""
        why = f" ({queue.reason})" if queue.reason else ""
        yield Finding(
            code="queue-paused",
            says=f"Its queue {name} is paused since {moment(queue.paused_at, now)}{why}: running "
            f"jobs go on, nothing starts.{until}",
            cure=f"manage.py durable resume {name}",
        )


def queue_limited(situation: Situation) -> Iterator[Finding]:
    """The limits of its queue, where they leave no room."""
    name = situation.job.queue_name
    if situation.job.state != JobState.READY:
        return
    for queue in Queue.objects.using(jobs_alias()).filter(name=name):
        running = all_jobs().running().filter(worker_id__isnull=False, queue_name=name)
        what = f"Its queue {name}"
        yield from _full(queue, what, running, situation)
        yield from _too_fast(queue, what, f"queue/{name}", "", situation)


def limited(situation: Situation) -> Iterator[Finding]:
    """The limit that the job is under, where it leaves no room."""
    job = situation.job
    if job.state != JobState.READY or job.limit_name is None:
        return
    row = Limit.objects.using(jobs_alias()).filter(name=job.limit_name).first()
    if row is None:
        yield Finding(
            code="unknown-limit",
            says=f"It is under limit {job.limit_name}, whose numbers nobody knows: no task of a "
            "worker's code declares it.",
            cure="start a worker whose code has the limit; or enqueue the task again without it.",
        )
        return
    what = f"Its limit {row.name}"
    if job.limit_key:
        what = f"{what}, for {job.limit_key},"
    begun = all_jobs().filter(
        limit_name=job.limit_name,
        limit_key=job.limit_key,
        started_at__isnull=False,
        finished_at__isnull=True,
    )
    yield from _full(row, what, begun.running(), situation)
    yield from _too_fast(row, what, f"limit/{row.name}", job.limit_key or "", situation)
    if row.concurrency == 1 and job.limit_key:
        yield from _not_first(job, what, begun.filter(state__in=["READY", "SCHEDULED"]))


def _full(row: Any, what: str, running: Any, situation: Situation) -> Iterator[Finding]:
    count = running.count() if row.concurrency is not None else 0
    if count and count >= row.concurrency:
        yield Finding(
            code="limit-reached",
            says=f"{what} lets {count_of(row.concurrency, 'job')} run at once, and {count} run.",
            cure="wait: it starts when one of them ends; or raise the limit, in the admin.",
        )


def _too_fast(
    row: Any, what: str, scope: str, limit_key: str, situation: Situation
) -> Iterator[Finding]:
    if row.rate is None:
        return
    since = situation.now - row.period
    starts = LimitStart.objects.using(jobs_alias()).filter(
        scope=scope, limit_key=limit_key, started_at__gt=since
    )
    found = starts.aggregate(jobs=Coalesce(Sum("jobs"), 0), first=Min("started_at"))
    if found["jobs"] >= row.rate:
        opens_at = found["first"] + row.period
        yield Finding(
            code="rate-reached",
            says=f"{what} lets {count_of(row.rate, 'job')} start within {span(row.period)}, and "
            f"{found['jobs']} did. The next may start {age(opens_at, situation.now)}.",
            cure="wait; or raise the rate, in the admin.",
        )


def _not_first(job: Any, what: str, begun: Any) -> Iterator[Finding]:
    """One at a time, in order: what has begun and is to go on comes before it."""
    first = begun.exclude(pk=job.pk).first() if job.started_at is None else None
    if first is not None:
        yield Finding(
            code="not-its-turn",
            says=f"{what} keeps the order of its jobs: job {first.pk} has begun and is to go on "
            f"first; it is {first.state}.",
            cure=f"wait; or look at that one: manage.py durable explain {first.pk}",
        )
