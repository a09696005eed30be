"""``durable queues``, ``pause``, ``resume`` and ``limit``."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_durable import pause_queue
from django_durable.engine import overview
from django_durable.engine.clock import StatementTimestamp
from django_durable.models import Limit, Queue
from tests.builders import HOUR, rewritten_job
from tests.management.console import (
    LONG,
    claimed,
    codes,
    copies,
    declared_task,
    document,
    finding,
    live_worker,
    moved,
    refused,
    run_by,
    typed,
)
from tests.scheduled import database_now


def queue_of(name: str) -> dict[str, Any]:
    (found,) = [queue for queue in document("queues")["queues"] if queue["name"] == name]
    queue: dict[str, Any] = found
    return queue


def misused(*arguments: object) -> str:
    """The message about a wrong option."""
    with pytest.raises(CommandError) as caught:
        typed(*arguments)
    return str(caught.value)


class QueuesTests(TestCase):
    def test_counts_what_is_ready_runs_and_is_scheduled(self) -> None:
        called = declared_task().using(queue_name="q")
        claimed(called.enqueue(), live_worker("q"))
        live_worker(queue_patterns=["-q"])
        for _ in range(2):
            called.enqueue()
        old = moved(called.enqueue(), "due_at", by=-HOUR)
        called.using(delay=HOUR).enqueue()
        rewritten_job(called.enqueue(), state="WAITING", wait_kind="event")

        found = queue_of("q")

        one = {"count": 1, "is_exact": True}
        assert found["ready"] == {"count": 3, "is_exact": True}
        assert (found["running"], found["scheduled"]) == (one, one)
        assert found["oldest_ready_due_at"] == old.due_at.isoformat()
        assert found["workers"] == 1

    def test_queues_without_jobs_are_those_of_tasks_settings_and_rows(self) -> None:
        declared_task(queue_name="of-a-task")
        pause_queue("of-a-row")
        with override_settings(DURABLE={"QUEUES": ["of-the-settings"]}):
            names = [queue["name"] for queue in document("queues")["queues"]]

        assert {"of-a-task", "of-a-row", "of-the-settings"} <= set(names)
        assert names == sorted(names)

    def test_a_pause_is_told_with_its_end_and_reason(self) -> None:
        pause_queue("q", until=timezone.now() + LONG, reason="the server moves")
        Queue.objects.update(paused_at=StatementTimestamp() - LONG)

        assert "since 5 h ago, resumes in 5 h, the server moves" in typed("queues")

    def test_a_pause_that_is_over_is_not_told(self) -> None:
        pause_queue("q", until=timezone.now() + HOUR, reason="the server moves")
        Queue.objects.update(resume_at=timezone.now() - HOUR)

        assert "the server moves" not in typed("queues")
        assert queue_of("q")["paused_at"] is None

    def test_counts_end_at_a_bound(self) -> None:
        self.enterContext(pytest.MonkeyPatch.context()).setattr(overview, "MOST", 3)
        job = declared_task().using(queue_name="q").enqueue()
        copies(job, 9)

        assert queue_of("q")["ready"] == {"count": 3, "is_exact": False}
        assert " 3+ " in typed("queues")

    def test_the_number_of_queries_does_not_grow(self) -> None:
        counts = []
        for n in range(2):
            for i in range(3):
                declared_task(f"t{n}{i}").using(queue_name=f"q{n}{i}").enqueue()
                pause_queue(f"q{n}{i}")
            with CaptureQueriesContext(connection) as captured:
                typed("queues")
            counts.append(len(captured))

        assert counts[0] == counts[1]


class PauseTests(TestCase):
    def test_pauses_until_it_is_resumed(self) -> None:
        declared_task(queue_name="q")

        assert typed("pause", "q", "--reason", "moves") == (
            "Queue q is paused until somebody resumes it; 0 jobs of it running, to the end.\n"
        )
        assert Queue.objects.get().reason == "moves"
        assert typed("resume", "q") == "Queue q goes on.\n"
        assert typed("resume", "q") == "Queue q was not paused.\n"

    def test_says_how_many_still_run(self) -> None:
        run_by(declared_task().using(queue_name="q").enqueue(), live_worker())

        assert "; 1 job of it running, to the end." in typed("pause", "q")

    def test_pauses_until_a_time(self) -> None:
        typed("pause", "q", "--until", "2999-01-01T00:00Z")

        row = Queue.objects.get()
        assert row.resume_at is not None
        assert row.resume_at.year == 2999

    def test_pauses_for_a_while(self) -> None:
        begun = database_now()
        typed("pause", "q", "--for", "90")

        row, length = Queue.objects.get(), timedelta(seconds=90)
        assert row.resume_at is not None
        assert begun + length <= row.resume_at <= database_now() + length

    def test_a_name_that_nobody_knows_is_paused_with_a_question(self) -> None:
        assert "is it spelt right?" in typed("pause", "ordres")
        declared_task().using(queue_name="orders").enqueue()
        assert "is it spelt right?" not in typed("pause", "orders")

    def test_bad_input_is_refused(self) -> None:
        for arguments, reason in {
            ("a b",): "a queue name has",
            ("q", "--until", "tomorrow"): "is not a time such as",
            ("q", "--until", "2999-01-01T00:00"): "has no time zone",
            ("q", "--until", "2999-13-01T00:00Z"): "month must be in 1..12",
            ("q", "--for", "soon"): "is not a number of seconds",
            ("q", "--for", "0"): "is not a positive number",
            ("q", "--for", "nan"): "is not a",
            ("q", "--for", "1", "--until", "2999-01-01T00:00Z"): "not allowed with",
        }.items():
            assert reason in misused("pause", *arguments)
        assert "that time has passed" in refused("pause", "q", "--until", "2001-01-01T00:00Z")
        with override_settings(DURABLE={"QUEUES": ["orders"]}):
            assert "names orders" in refused("pause", "ordres")
        assert not Queue.objects.exists()

    def test_status_and_explain_name_it(self) -> None:
        live_worker()
        job = declared_task().using(queue_name="q").enqueue()
        assert codes(job) == ["about-to-run"]

        typed("pause", "q", "--for", "3600", "--reason", "the server moves")

        assert codes(job) == ["queue-paused"]
        said = finding(job, "queue-paused")
        assert "Its queue q is paused since" in said
        assert "(the server moves)" in said
        assert "Paused: q; see durable queues" in typed("status")
        assert document("status")["paused_queues"] == ["q"]


class LimitTests(TestCase):
    def setUp(self) -> None:
        rows = [
            Limit(name="crm", concurrency=5, declared_concurrency=5),
            Limit(
                name="mail",
                rate=100,
                period=timedelta(minutes=1),
                declared_rate=9,
                declared_period=HOUR,
            ),
        ]
        Limit.objects.bulk_create(rows)

    def test_lists_limits_and_queues_that_have_some(self) -> None:
        pause_queue("free")
        typed("limit", "--queue", "reports", "--concurrency", "2")

        said = typed("limit")

        assert "crm              5  -             the same" in said
        assert "100 per 60 s  9 per 60 min" in said
        assert "Queue reports: 2 at once; 0 running." in said
        assert "free" not in said

    def test_counts_the_places_in_use(self) -> None:
        worker = live_worker()
        for key in ("anna", "anna", "bert"):
            job = run_by(declared_task().enqueue(), worker)
            rewritten_job(job, limit_name="crm", limit_key=key)

        crm = document("limit", "crm")["limits"][0]

        assert crm["usage"] == {
            "running": {"count": 3, "is_exact": True},
            "keys": 2,
            "most": 2,
            "busiest_key": "anna",
        }

    def test_changes_and_takes_back(self) -> None:
        typed("limit", "crm", "--concurrency", "2", "--rate", "7", "--period", "1.5")
        row = Limit.objects.get(name="crm")
        assert (row.concurrency, row.rate, row.period) == (2, 7, timedelta(seconds=1.5))

        typed("limit", "crm", "--rate", "none", "--concurrency", "none")
        row = Limit.objects.get(name="crm")
        assert (row.concurrency, row.rate, row.period) == (None, None, None)

        said = typed("limit", "crm", "--declared")
        assert Limit.objects.get(name="crm").concurrency == 5
        assert "the same" in said

    def test_changes_those_of_a_queue(self) -> None:
        typed("limit", "--queue", "q", "--rate", "3", "--period", "60")
        said = typed("limit", "--queue", "q", "--concurrency", "4")

        assert said == "Queue q: 4 at once, 3 per 60 s; 0 running.\n"
        assert "no limits" in typed("limit", "--queue", "other")

    def test_bad_input_is_refused(self) -> None:
        for arguments, reason in {
            ("crm", "--concurrency", "0"): "is not a number from 1",
            ("crm", "--rate", "many"): "is not a number from 1",
            ("crm", "--rate", "5"): "a rate and its period are given together",
            ("crm", "--period", "5"): "a rate and its period are given together",
            ("crm", "--period", "-5"): "is not a positive number",
            ("crn", "--concurrency", "1"): 'There is no limit "crn". Known: crm, mail.',
            ("crn",): 'There is no limit "crn"',
            ("crm", "--queue", "q"): "not both",
            ("--concurrency", "1"): "Which limit?",
            ("--declared",): "Which limit?",
            ("crm", "--declared", "--rate", "1"): "--declared takes back",
            ("--queue", "q", "--declared"): "No code declares limits of queues",
            ("--queue", "a b", "--concurrency", "1"): "a queue name has",
        }.items():
            assert reason in misused("limit", *arguments)
        assert Limit.objects.get(name="crm").concurrency == 5
        assert not Queue.objects.exists()


def test_no_limits_at_all(db: None) -> None:
    assert typed("limit") == "No limits.\n"
    assert "Known: none." in refused("limit", "crm", "--concurrency", "1")
