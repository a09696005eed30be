"""``durable explain`` of jobs that a pause or a limit holds back, with the numbers."""

from typing import Any

from django.db import connection
from django.test import TestCase

from django_durable import Limit, Task, task
from django_durable.engine import limits, registry
from django_durable.engine.clock import StatementTimestamp
from django_durable.models import Limit as LimitRow
from django_durable.models import LimitStart, Queue
from tests.builders import HOUR, rewritten_job
from tests.management.console import codes, finding, live_worker


def limited(*, keyed: bool = False, **numbers: Any) -> Task[..., Any]:
    def work(key: str) -> None: ...

    limit = Limit("crm", key=(lambda key: key) if keyed else None, **numbers)
    declared: Task[..., Any] = task(path="explain.limited", limit=limit)(work)
    limits.declare_limits(connection, registry.declared_limits().values())
    return declared


def running(job: Any) -> None:
    worker_id = live_worker()
    columns = {"state": "RUNNING", "lease_token": 1, "started_at": StatementTimestamp()}
    rewritten_job(job, worker_id=worker_id, **columns)


class LimitTests(TestCase):
    def test_all_places_are_taken(self) -> None:
        crm = limited(concurrency=1)
        running(crm.enqueue("a"))
        job = crm.enqueue("b")

        assert codes(job) == ["limit-reached"]
        assert "Its limit crm lets 1 job run at once, and 1 run." in finding(job, "limit-reached")

    def test_of_its_key(self) -> None:
        crm = limited(keyed=True, concurrency=2)
        for key in "aab":
            running(crm.enqueue(key))

        assert "limit-reached" in codes(crm.enqueue("a"))
        assert "limit-reached" not in codes(crm.enqueue("b"))

    def test_its_rate_is_reached(self) -> None:
        crm = limited(rate=5, period=HOUR)
        live_worker()
        now = StatementTimestamp()
        LimitStart.objects.bulk_create(
            [LimitStart(scope="limit/crm", limit_key="", jobs=5, started_at=now - HOUR / 2)]
        )
        job = crm.enqueue("a")

        assert codes(job) == ["rate-reached"]
        assert "lets 5 jobs start within 60 min, and 5 did. The next may start in" in finding(
            job, "rate-reached"
        )

    def test_another_job_of_its_key_comes_first(self) -> None:
        crm = limited(keyed=True, concurrency=1)
        live_worker()
        first = crm.enqueue("a")
        now = StatementTimestamp()
        rewritten_job(first, state="SCHEDULED", due_at=now + HOUR, started_at=now)
        job = crm.enqueue("a")

        assert codes(job) == ["not-its-turn"]
        assert str(first.pk) in finding(job, "not-its-turn")

    def test_its_limit_is_unknown(self) -> None:
        job = limited(concurrency=1).enqueue("a")
        live_worker()
        LimitRow.objects.all()._raw_delete("default")

        assert codes(job) == ["unknown-limit"]


class QueueTests(TestCase):
    def test_its_queue_is_full(self) -> None:
        crm = limited(concurrency=9)
        Queue.objects.bulk_create([Queue(name="default", concurrency=1)])
        running(crm.enqueue("a"))

        assert codes(crm.enqueue("b")) == ["limit-reached"]
