"""``durable list``."""

import pytest
from django.core.management import CommandError
from django.test import TestCase

from django_durable import enqueue
from django_durable.engine.clock import StatementTimestamp
from django_durable.models import Job
from tests.builders import HOUR, ended_job, rewritten_job
from tests.management.console import (
    LONG,
    claimed,
    copies,
    declared_task,
    document,
    live_worker,
    moved,
    typed,
)


def listed(*arguments: object) -> list[str]:
    """The ids in the list, in its order."""
    return [job["id"] for job in document("list", *arguments)["jobs"]]


def ids(*jobs: Job) -> list[str]:
    return [str(job.pk) for job in jobs]


class FilterTests(TestCase):
    def test_by_state_queue_and_task(self) -> None:
        one, two = declared_task("list.one"), declared_task("list.two")
        ready, later = one.enqueue(), one.using(delay=HOUR).enqueue()
        elsewhere, other = one.using(queue_name="orders").enqueue(), two.enqueue()

        assert listed("--state", "SCHEDULED") == ids(later)
        assert listed("--queue", "orders") == ids(elsewhere)
        assert listed("--task", "list.two") == ids(other)
        assert listed("--state", "ready", "--queue", "default", "--task", "list.one") == ids(ready)
        assert set(listed("--state", "READY", "--state", "SCHEDULED", "--task", "list.one")) == set(
            ids(ready, later, elsewhere)
        )

    def test_by_task_finds_its_former_paths(self) -> None:
        moved_task = declared_task("list.new", aliases=("list.old",))
        old = rewritten_job(moved_task.enqueue(), task_path="list.old")

        assert listed("--task", "list.new") == ids(old)

    def test_by_idempotency_key(self) -> None:
        called = declared_task()
        called.enqueue()
        keyed = called.using(idempotency_key="order-7").enqueue()

        assert listed("--key", "order-7") == ids(keyed)
        assert listed("--key", "order-8") == []

    def test_blank_names_and_unknown_states_are_refused(self) -> None:
        for arguments in (
            ["--key", " "],
            ["--task", ""],
            ["--queue", ""],
            ["--state", "DONE"],
            ["--limit", "0"],
        ):
            with pytest.raises(CommandError, match=f"argument {arguments[0]}"):
                typed("list", *arguments)


class OrderTests(TestCase):
    def test_without_states_the_last_enqueued_come_first(self) -> None:
        called = declared_task()
        first, second = called.enqueue(), called.using(delay=HOUR).enqueue()

        assert listed() == ids(second, first)

    def test_ready_jobs_stand_as_they_are_claimed(self) -> None:
        called = declared_task()
        low, high = called.enqueue(), called.using(priority=9).enqueue()

        assert listed("--state", "READY") == ids(high, low)

    def test_the_next_due_and_the_last_finished_come_first(self) -> None:
        called = declared_task()
        near, far = called.using(delay=HOUR).enqueue(), called.using(delay=2 * HOUR).enqueue()
        last, before = ended_job(called), ended_job(called)
        moved(last, "finished_at", by=HOUR)

        assert listed("--state", "SCHEDULED") == ids(near, far)
        assert listed("--state", "SUCCESSFUL") == ids(last, before)

    def test_the_longest_running_come_first(self) -> None:
        called, worker = declared_task(), live_worker()
        short, long = claimed(called.enqueue(), worker), claimed(called.enqueue(), worker)
        moved(long, "claimed_at", by=-HOUR)

        assert listed("--state", "RUNNING") == ids(long, short)


class LimitTests(TestCase):
    def test_says_when_there_are_more(self) -> None:
        copies(declared_task().enqueue(), 2)

        assert document("list", "--limit", 3)["is_complete"] is True
        assert document("list", "--limit", 2)["is_complete"] is False
        assert "There are more" in typed("list", "--limit", 2)
        assert len(listed("--limit", 2)) == 2


class NoteTests(TestCase):
    def note(self, job: Job) -> str:
        (line,) = [line for line in typed("list").splitlines() if line.startswith(str(job.pk))]
        return line

    def test_ids_are_never_cut(self) -> None:
        job = declared_task("x" * 200).enqueue()

        assert f"{job.pk}  {'x' * 200}  READY  default" in self.note(job)

    def test_says_why_a_job_stands_where_it_stands(self) -> None:
        called = declared_task()
        waits = called.using(delay=HOUR).enqueue()
        suspect = rewritten_job(called.enqueue(), lost_count=2)
        running = claimed(called.using(queue_name="q").enqueue(), live_worker())
        rewritten_job(running, cancel_requested_at=StatementTimestamp())
        moved(running, "claimed_at", by=-LONG)
        failed = rewritten_job(
            called.enqueue(),
            state="FAILED",
            finished_at=StatementTimestamp(),
            error='{"type": "shop.errors.OutOfStock", "message": "none left\\nat all"}',
        )

        assert self.note(waits).endswith("due in 60 min.")
        assert self.note(suspect).endswith("lost 2 workers")
        assert self.note(running).endswith(f"worker {running.worker_id}, 5 h ago, asked to stop")
        assert self.note(failed).endswith("  OutOfStock: none left")

    def test_an_error_that_nobody_wrote_is_shown_as_it_is(self) -> None:
        job = rewritten_job(
            declared_task().enqueue(),
            state="FAILED",
            finished_at=StatementTimestamp(),
            error='["nonsense"]',
        )

        assert '["nonsense"]' in self.note(job)

    def test_nothing_found_is_said(self) -> None:
        assert typed("list") == "No such jobs.\n"
        assert document("list")["jobs"] == []


def test_a_job_enqueued_outside_a_test_case_is_found(transactional_db: None) -> None:
    job = enqueue(declared_task())

    assert listed() == ids(job)
