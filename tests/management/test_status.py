"""``durable status``."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import TestCase

from django_durable.engine import queues
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.states import FINISHED
from django_durable.management.operations import reading, status
from tests.builders import HOUR, rewritten_job
from tests.management.console import (
    claimed,
    copies,
    declared_task,
    document,
    live_worker,
    lost_worker,
    moved,
    silent_worker,
    typed,
)
from tests.scheduled import database_now


def jobs_in(queue: dict[str, Any], state: str) -> tuple[int, bool]:
    count = queue["jobs"][state]
    return count["count"], count["is_exact"]


class StatusTests(TestCase):
    def test_counts_jobs_by_queue_and_state(self) -> None:
        called = declared_task()
        claimed(called.enqueue(), live_worker())
        called.enqueue()
        called.using(delay=HOUR).enqueue()
        called.using(queue_name="orders").enqueue()
        rewritten_job(called.enqueue(), state="FAILED", finished_at=StatementTimestamp())

        default, orders = document("status")["queues"]

        assert (default["queue_name"], orders["queue_name"]) == ("default", "orders")
        states = ("READY", "RUNNING", "SCHEDULED", "FAILED", "SUCCESSFUL")
        assert [jobs_in(default, state)[0] for state in states] == [1, 1, 1, 1, 0]
        assert jobs_in(orders, "READY") == (1, True)

    def test_the_oldest_ready_job_is_found_whatever_its_priority(self) -> None:
        called = declared_task()
        called.using(priority=50).enqueue()
        old = moved(called.using(priority=-50).enqueue(), "due_at", by=-HOUR)

        (queue,) = document("status")["queues"]

        assert queue["oldest_ready_due_at"] == old.due_at.isoformat()
        assert "60 min ago" in typed("status")

    def test_workers_are_listed_with_their_state_and_jobs(self) -> None:
        live, silent, lost = live_worker(), silent_worker("a", "b"), lost_worker()
        stopping = live_worker(stopping_at=StatementTimestamp())
        live_worker(stopped_at=StatementTimestamp())
        claimed(declared_task().enqueue(), live)

        workers = document("status")["workers"]

        assert {worker["id"]: worker["state"] for worker in workers} == {
            live: "live",
            silent: "silent",
            lost: "lost",
            stopping: "stopping",
        }
        assert [worker["running"] for worker in workers if worker["id"] == live] == [1]
        assert "a, b" in typed("status")

    def test_a_lock_is_free_or_a_lease_is_over(self) -> None:
        over, at_once = StatementTimestamp() - HOUR, timedelta(0)
        dead = live_worker(has_lock=True, lease=at_once)
        late = live_worker(lease_expires_at=over, lease=at_once)

        workers = {worker["id"]: worker for worker in document("status")["workers"]}

        assert {worker["state"] for worker in workers.values()} == {"silent"}
        assert [workers[worker]["lock_is_free"] for worker in (dead, late)] == [True, False]

    def test_a_queue_that_only_a_stopping_worker_serves_is_named(self) -> None:
        declared_task().enqueue()
        live_worker(stopping_at=StatementTimestamp())
        live_worker("elsewhere")

        assert "No live worker serves default" in typed("status")

    def test_blocked_jobs_and_suspects_are_counted(self) -> None:
        called = declared_task()
        rewritten_job(called.enqueue(), lost_count=2)
        rewritten_job(called.enqueue(), state="WAITING", wait_kind="blocked")

        text = typed("status")

        assert "1 job blocked by a replay mismatch" in text
        assert "1 suspect lost a worker twice or more" in text

    def test_an_empty_database_says_so(self) -> None:
        text = typed("status")

        assert "No jobs." in text
        assert "None is alive. Start one: manage.py durable_worker" in text


class BoundTests(TestCase):
    """No count reads more than so many rows of a kind."""

    def setUp(self) -> None:
        self.enterContext(pytest.MonkeyPatch.context()).setattr(status, "MOST", 3)

    def test_counts_end_at_the_bound_and_say_so(self) -> None:
        called = declared_task()
        for state in ("READY", "SUCCESSFUL"):
            job = called.enqueue()
            finished = StatementTimestamp() if state == "SUCCESSFUL" else None
            copies(rewritten_job(job, state=state, finished_at=finished), 6)

        (queue,) = document("status")["queues"]

        assert jobs_in(queue, "READY") == (3, False)
        assert jobs_in(queue, "SUCCESSFUL") == (3, False)
        assert jobs_in(queue, "FAILED") == (0, True)
        assert " 3+ " in typed("status")

    def test_a_count_that_was_crowded_out_does_not_say_none(self) -> None:
        called = declared_task()
        copies(called.using(delay=HOUR).enqueue(), 6)
        blocked = rewritten_job(called.enqueue(), state="WAITING", wait_kind="blocked")
        moved(blocked, "due_at", by=2 * HOUR)

        found = document("status")

        assert jobs_in(found["queues"][0], "WAITING") == (0, False)
        assert found["blocked"] == {"count": 0, "is_exact": False}

    def test_what_was_read_together_is_bounded_together(self) -> None:
        called = declared_task()
        called.using(delay=HOUR).enqueue()
        rewritten_job(called.enqueue(), state="WAITING", wait_kind="blocked")
        copies(called.using(delay=2 * HOUR).enqueue(), 3)

        found = document("status")

        assert jobs_in(found["queues"][0], "WAITING") == (1, False)
        assert jobs_in(found["queues"][0], "SCHEDULED") == (2, False)
        assert found["blocked"] == {"count": 1, "is_exact": False}

    def test_many_finished_jobs_leave_the_other_counts_exact(self) -> None:
        called = declared_task()
        rewritten_job(called.enqueue(), state="WAITING", wait_kind="blocked")
        done = rewritten_job(called.enqueue(), state="SUCCESSFUL", finished_at=StatementTimestamp())
        copies(done, 6)

        assert document("status")["blocked"] == {"count": 1, "is_exact": True}

    def test_each_ready_queue_is_counted_for_itself(self) -> None:
        called = declared_task()
        copies(called.using(queue_name="a").enqueue(), 6)
        called.using(queue_name="b").enqueue()

        first, second = document("status")["queues"]

        assert jobs_in(first, "READY") == (3, False)
        assert jobs_in(second, "READY") == (1, True)


class PlanTests(TestCase):
    """On a filled table each count goes through a partial index and stops early."""

    def setUp(self) -> None:
        called = declared_task()
        done = rewritten_job(called.enqueue(), state="SUCCESSFUL", finished_at=StatementTimestamp())
        copies(done, 20_000)
        copies(called.enqueue(), 500)
        copies(called.using(delay=HOUR).enqueue(), 500)
        with connection.cursor() as cursor:
            cursor.execute("analyze durable_job")

    def plan(self, statement: str, **params: object) -> str:
        with connection.cursor() as cursor:
            cursor.execute(f"explain {statement}", params)
            return "\n".join(row[0] for row in cursor.fetchall())

    def test_of_ready_jobs(self) -> None:
        plan = self.plan(queues.COUNT_READY, queues=["default"], limit=100)

        assert (plan.count("job_claim "), plan.count("job_claim_limited")) == (2, 1)
        assert "Seq Scan" not in plan

    def test_of_other_jobs(self) -> None:
        plan = self.plan(queues.COUNT_JOBS, finals=list(FINISHED), limit=100)

        for index in ("job_due", "job_running", "job_finished"):
            assert index in plan
        assert "Seq Scan" not in plan

    def test_of_running_jobs_by_worker(self) -> None:
        rows = reading.all_jobs().filter(worker_id__isnull=False).order_by()

        assert "job_running" in rows.values_list("worker_id").explain()


def test_ages_are_told_by_the_databases_clock(db: None) -> None:
    assert database_now() <= reading.database_now() <= database_now()
