"""``durable explain``: each thing that can stand in a job's way, told with its cure."""

from datetime import timedelta

import pytest
from django.test import TestCase, override_settings

from django_durable import Unique, cancel_job, run_step, step, task
from django_durable.engine.clock import StatementTimestamp
from django_durable.exceptions import StepInterrupted
from django_durable.management.operations import obstacles
from django_durable.models import Checkpoint
from django_durable.testing import run_jobs
from tests.builders import HOUR, crashed_job, ended_job, policy, redeployed, rewritten_job
from tests.management.console import (
    LONG,
    claimed,
    codes,
    copies,
    declared_task,
    document,
    finding,
    live_worker,
    lost_worker,
    moved,
    run_by,
    silent_worker,
    typed,
)


class UniqueTests(TestCase):
    def test_a_unique_job_says_how_long_and_by_which_key(self) -> None:
        live_worker()
        for during, until in [
            ("queued", "until it is claimed"),
            ("unfinished", "until it is finished"),
            (HOUR, "until 20"),
        ]:
            rule = Unique(during, key=lambda: f"key {during}")
            job = declared_task().using(unique=rule).enqueue()

            assert "unique" in codes(job)
            assert f"{until}" in finding(job, "unique")
            assert f"{job.unique_key}." in finding(job, "unique")
            assert f"{until}" in typed("show", str(job.pk))

    def test_one_that_made_way_does_not(self) -> None:
        for during in ("queued", "unfinished"):
            job = ended_job(declared_task().using(unique=Unique(during)))

            assert codes(job) == ["successful"]
            assert "until it is" not in typed("show", str(job.pk))


class DueTests(TestCase):
    def test_a_job_that_is_not_due_says_when(self) -> None:
        live_worker()
        job = declared_task().using(delay=HOUR).enqueue()

        assert codes(job) == ["not-due"]
        assert "(in 60 min). That is what its caller asked." in finding(job, "not-due")

    def test_a_retry_says_what_it_waits_for(self) -> None:
        @task(path="explain.retries", retry=policy(2))
        def retries() -> None:
            raise ValueError("out of paper")

        job = ended_job(retries)

        assert "attempt 1 failed: ValueError: out of paper" in finding(job, "not-due")

    def test_a_step_that_is_tried_again_is_named(self) -> None:
        @task(path="explain.step_retries")
        def retries() -> None:
            def fails() -> None:
                raise ValueError

            step(name="print", retry=policy(3))(fails)()

        job = ended_job(retries)

        assert "Step print failed 1 time and is tried again in" in finding(job, "step-retries")
        live_worker()
        assert codes(rewritten_job(job, state="READY")) == ["about-to-run"]

    def test_a_wait_says_for_what(self) -> None:
        job = declared_task().using(delay=HOUR).enqueue()
        rewritten_job(job, state="WAITING", wait_kind="approval", wait_reason="waits for the boss")

        assert "It waits for the boss." in finding(job, "waiting")

    def test_a_job_that_nobody_promotes_is_overdue(self) -> None:
        live_worker()
        job = moved(declared_task().using(delay=HOUR).enqueue(), "due_at", by=-2 * HOUR)
        just = moved(declared_task().using(delay=HOUR).enqueue(), "due_at", by=-HOUR)

        assert codes(job) == ["overdue"]
        assert "became due 60 min ago" in finding(job, "overdue")
        assert codes(just) == ["due"]


class WorkerTests(TestCase):
    def test_no_worker_at_all(self) -> None:
        job = declared_task().enqueue()
        live_worker(stopped_at=StatementTimestamp())
        lost_worker()

        assert codes(job) == ["no-worker"]
        assert "manage.py durable_worker" in finding(job, "no-worker")

    def test_a_silent_worker_is_not_taken_for_a_live_one(self) -> None:
        job = declared_task().enqueue()
        silent_worker()

        assert codes(job) == ["no-worker", "silent-workers"]
        assert "last heard 5 h ago, lease over" in finding(job, "silent-workers")

    def test_live_workers_that_serve_other_queues(self) -> None:
        job = declared_task().using(queue_name="orders").enqueue()
        worker = live_worker("mails", "reports")

        assert codes(job) == ["unserved-queue"]
        said = finding(job, "unserved-queue")
        assert f"web1:4711 (worker {worker}) serves mails, reports" in said
        assert said.endswith("manage.py durable_worker --queue orders")

    def test_the_only_worker_is_stopping(self) -> None:
        job = declared_task().enqueue()
        live_worker(id=7, stopping_at=StatementTimestamp())

        assert "(worker 7) is stopping." in finding(job, "unserved-queue")

    def test_nothing_in_the_way(self) -> None:
        live_worker("default")
        job = declared_task().enqueue()

        assert codes(job) == ["about-to-run"]

    def test_all_slots_busy(self) -> None:
        called, worker = declared_task(), live_worker(slots=1)
        claimed(called.enqueue(), worker)
        job = called.enqueue()

        assert codes(job) == ["slots-busy"]
        assert "All 1 slot of the 1 worker" in finding(job, "slots-busy")


class OrderTests(TestCase):
    def test_jobs_that_come_first_are_counted(self) -> None:
        called, _ = declared_task(), live_worker()
        called.enqueue()
        called.using(priority=5).enqueue()
        called.using(queue_name="elsewhere").enqueue()
        job = called.enqueue()
        called.enqueue()

        assert codes(job) == ["behind-others"]
        assert finding(job, "behind-others").startswith("2 jobs in queue default come first")

    def test_jobs_that_nobody_claims_are_not_ahead(self) -> None:
        called, _ = declared_task(), live_worker()
        rewritten_job(called.enqueue(), lost_count=2)
        rewritten_job(called.enqueue(), task_path="explain.gone")
        job = called.enqueue()

        assert codes(job) == ["about-to-run"]

    def test_counting_ends_at_a_bound(self) -> None:
        self.enterContext(pytest.MonkeyPatch.context()).setattr(obstacles, "MOST", 3)
        called, _ = declared_task(), live_worker()
        copies(called.enqueue(), 6)
        job = called.using(priority=-1).enqueue()

        assert finding(job, "behind-others").startswith("3+ jobs")


class TaskTests(TestCase):
    def test_a_task_that_this_process_does_not_know(self) -> None:
        live_worker()
        job = rewritten_job(declared_task("explain.task").enqueue(), task_path="explain.tusk")

        assert codes(job) == ["unknown-task"]
        said = finding(job, "unknown-task")
        assert 'No task "explain.tusk" is registered' in said
        assert "Nearest known: explain.task" in said
        assert '@task(aliases=("explain.tusk",))' in said

    def test_a_path_that_two_tasks_claim(self) -> None:
        live_worker()
        job = declared_task("explain.twice").enqueue()
        task(path="explain.twice")(another)

        assert "is declared by both" in finding(job, "unknown-task")

    def test_a_queue_that_the_settings_do_not_name(self) -> None:
        live_worker()
        job = declared_task().using(queue_name="old").enqueue()

        with override_settings(DURABLE={"QUEUES": ["default", "mails"]}):
            assert codes(job) == ["unnamed-queue"]
            assert "DURABLE['QUEUES'] (default, mails)" in finding(job, "unnamed-queue")


def another() -> None:
    pass


class VerdictTests(TestCase):
    def test_a_suspect_is_claimed_alone(self) -> None:
        live_worker()
        job = rewritten_job(declared_task().enqueue(), lost_count=2)

        assert codes(job) == ["suspect"]
        assert "After 5 losses it is FAILED as poison" in finding(job, "suspect")

    def test_poison_waits_for_its_verdict(self) -> None:
        live_worker()
        job = rewritten_job(declared_task().enqueue(), lost_count=5)

        assert codes(job) == ["poison"]
        assert "lost its worker 5 times" in finding(job, "poison")

    def test_cancelling_that_was_asked_for_before_its_worker_was_lost(self) -> None:
        live_worker()
        job = rewritten_job(declared_task().enqueue(), cancel_requested_at=StatementTimestamp())

        assert codes(job) == ["cancel-requested"]

    def test_a_replay_mismatch_says_what_was_expected_and_found(self) -> None:
        @step
        def pack() -> int:
            return 1

        @step
        def wrap() -> int:
            return 2

        job = crashed_job(redeployed("explain.ships", lambda: pack()), after="pack")
        redeployed("explain.ships", lambda: wrap())
        run_jobs()
        live_worker()

        said = finding(job, "blocked")

        assert codes(job) == ["blocked"]
        assert "Expected: pack (recorded, not reached yet)." in said
        assert "Found: wrap, which has no checkpoint" in said
        assert f"durable retry {job.pk} --allow-new-step wrap" in said

    def test_a_step_of_another_kind_cannot_be_allowed_as_new(self) -> None:
        plain = step(name="pack")(lambda: 1)
        atomic = step(name="pack", atomic=True)(lambda: 1)
        job = crashed_job(redeployed("explain.ships", lambda: plain()), after="pack")
        redeployed("explain.ships", lambda: atomic())
        run_jobs()

        said = finding(job, "blocked")

        assert "Expected: a plain step at pack (recorded)." in said
        assert "--allow-new-step" not in said


class RunningTests(TestCase):
    def test_says_where_since_when_and_how_alive(self) -> None:
        worker = live_worker()
        job = moved(claimed(declared_task().enqueue(), worker), "claimed_at", by=-HOUR)

        assert codes(job) == ["running", "worker-alive", "no-checkpoint"]
        assert f"web1:4711 (worker {worker}), claimed 60 min ago" in finding(job, "running")
        assert "py-spy dump --pid 4711 on web1" in finding(job, "worker-alive")
        assert "its lease ends in 5 min" in finding(job, "worker-alive")

    def test_says_which_step_it_saved_last(self) -> None:
        called = redeployed("explain.runs", lambda: run_step("pack", lambda: 1))
        job = crashed_job(called, after="pack")
        run_by(job, live_worker())
        Checkpoint.objects.filter(job_id=job.pk).update(saved_at=StatementTimestamp() - LONG)

        assert "It last saved step pack, 5 h ago." in finding(job, "last-checkpoint")
        rewritten_job(job, lease_token=2)
        assert "step pack in an earlier run" in finding(job, "last-checkpoint")
        Checkpoint.objects.filter(job_id=job.pk).update(state="STARTED")
        assert "inside step pack (at most once)" in finding(job, "inside-step")

    def test_its_worker_died_a_moment_ago(self) -> None:
        worker = live_worker(has_lock=True, lease=timedelta(0))
        job = run_by(declared_task().enqueue(), worker)

        assert codes(job) == ["running", "not-recovered", "no-checkpoint"]
        assert "its lock is free, so its process has probably died" in finding(job, "not-recovered")

    def test_cancelling_was_asked_for(self) -> None:
        job = claimed(declared_task().enqueue(), live_worker())
        cancel_job(job)

        assert "at its next step" in finding(job, "cancel-requested")

    def test_its_worker_is_silent_lost_ended_or_gone(self) -> None:
        called, _ = declared_task(), live_worker("elsewhere")
        ended = live_worker(stopped_at=StatementTimestamp())
        said = {
            finding(run_by(called.enqueue(), worker), "being-recovered").partition(".")[0]
            for worker in (silent_worker(), lost_worker(), ended, 77)
        }

        assert said == {
            "That worker is silent: last heard 5 h ago, lease over",
            "That worker was declared lost 5 h ago",
            "That worker has ended",
            "The row of that worker is gone",
        }

    def test_nobody_is_alive_to_recover_it(self) -> None:
        job = run_by(declared_task().enqueue(), lost_worker())

        assert codes(job) == ["running", "not-recovered", "no-checkpoint"]
        assert "manage.py durable_worker" in finding(job, "not-recovered")


class EndTests(TestCase):
    def test_successful(self) -> None:
        assert codes(ended_job(declared_task())) == ["successful"]

    def test_failed_says_with_what(self) -> None:
        def fails() -> None:
            raise ValueError("out of paper")

        job = ended_job(redeployed("explain.fails", fails))

        assert codes(job) == ["failed"]
        assert "in attempt 1: ValueError: out of paper" in finding(job, "failed")
        assert f"manage.py durable retry {job.pk}" in finding(job, "failed")

    def test_failed_as_poison(self) -> None:
        called = declared_task()
        job = called.enqueue()
        rewritten_job(job, lost_count=5)
        ended_job(called)

        assert codes(job) == ["failed-as-poison"]

    def test_failed_inside_an_at_most_once_step(self) -> None:
        def interrupted() -> None:
            raise StepInterrupted(step="send", error_type="", error_message="", attempts=1)

        job = ended_job(redeployed("explain.sends", interrupted))

        assert codes(job) == ["failed-interrupted"]
        assert "--rerun-interrupted" in finding(job, "failed-interrupted")

    def test_cancelled(self) -> None:
        job = cancel_job(declared_task().enqueue())

        assert codes(job) == ["cancelled"]
        assert "to have it after all: manage.py durable retry" in finding(job, "cancelled")


class TextTests(TestCase):
    def test_reads_as_sentences_with_cures(self) -> None:
        job = moved(declared_task("explain.text").enqueue(), "enqueued_at", by=-LONG)

        assert typed("explain", job.pk).splitlines() == [
            f"Job {job.pk} (explain.text) is READY, attempt 1, queue default, enqueued 5 h ago.",
            "",
            "No worker is alive.",
            "  Cure: start one: manage.py durable_worker",
        ]

    def test_the_document_has_the_job_and_the_findings(self) -> None:
        job = declared_task().enqueue()

        found = document("explain", job.pk)

        assert found["job"]["id"] == str(job.pk)
        assert found["findings"] == [
            {
                "code": "no-worker",
                "says": "No worker is alive.",
                "cure": "start one: manage.py durable_worker",
            }
        ]
