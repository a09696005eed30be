"""Answers, timeouts and chores that race for one question, each stopped in the middle."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from django_durable import answer_approval, cancel_job, retry_job, task, wait_for_approval
from django_durable.engine import approvals as store
from django_durable.exceptions import ApprovalClosedError
from django_durable.models import Approval, Checkpoint, Job
from django_durable.testing import run_jobs
from tests.builders import HOUR
from tests.protocol.stage import PATIENCE, Actor, Stage, failure_of

pytestmark = pytest.mark.django_db(transaction=True)


class Tollgate:
    """Where a thread says that it came by, and waits to be let through."""

    def __init__(self, stage: Stage) -> None:
        self.reached, self._open = stage.gate(), stage.gate()

    def pass_through(self) -> None:
        self.reached.set()
        assert self._open.wait(PATIENCE)

    def wait(self) -> None:
        assert self.reached.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


def asking_job(**options: Any) -> Job:
    """A job that waits for an answer and returns what came of it."""

    @task(path="races.asks")
    def asks() -> str:
        decision = wait_for_approval("Go?", permission="durable.answer_approval", **options)
        return "timed out" if decision is None else f"by {decision.answered_by_name}"

    job = asks.enqueue()
    run_jobs()
    return job


def user(name: str) -> User:
    return User.objects.create_superuser(name)


def question() -> Approval:
    return Approval.objects.judged().get()


def due_now(job: Job) -> None:
    """Let the wait's recorded deadline pass, a moment after that of the question's row."""
    past = job.enqueued_at - HOUR
    Checkpoint.objects.filter(job_id=job.pk).update(next_attempt_at=past)
    Job.objects.filter(pk=job.pk).update(due_at=past)


def end_of(job: Job) -> Any:
    run_jobs(ahead=HOUR)
    job.refresh()
    return job.return_value


class AnswerAgainstTimeoutTests:
    def test_the_timeout_waits_for_an_answer_under_way_and_heeds_it(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        anna = user("anna")
        job = asking_job(deadline=HOUR)
        due_now(job)
        answerer, worker = stage.actors("answerer", "worker")
        gate = Tollgate(stage)
        find = store.find_question
        monkeypatch.setattr(store, "find_question", lambda *a: (gate.pass_through(), find(*a))[1])
        run = worker.start(run_jobs)
        gate.wait()
        answerer.begin()
        answerer.do(answer_approval, question(), anna, approved=True)

        gate.open()
        run.result(PATIENCE)  # it could not lock the event, and looks again later
        answerer.commit()

        assert end_of(job) == "by anna"

    def test_an_answer_waits_for_a_timeout_under_way_and_is_refused(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        anna = user("anna")
        job = asking_job(deadline=HOUR)
        due_now(job)
        answerer, worker = stage.actors("answerer", "worker")
        gate = Tollgate(stage)
        close = store.close_timed_out
        monkeypatch.setattr(
            store, "close_timed_out", lambda *a: (gate.pass_through(), close(*a))[1]
        )
        run = worker.start(run_jobs)
        gate.wait()

        answer = answerer.start(answer_approval, question(), anna, approved=True)
        assert answerer.is_stopped_in(answer)
        gate.open()

        run.result(PATIENCE)
        assert isinstance(failure_of(answer), ApprovalClosedError)
        assert end_of(job) == "timed out"
        assert question().approved is None

    def test_a_timeout_that_rolls_back_leaves_the_question_open(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its worker was declared lost meanwhile: the lease is gone when it writes."""
        job = asking_job(deadline=HOUR)
        due_now(job)

        def lose_lease(*arguments: Any) -> None:
            close(*arguments)
            stage.actor("sweep").do(
                Job.objects.filter(pk=job.pk).update,
                state="WAITING",
                wait_kind="approval",
                worker_id=None,
                due_at=job.enqueued_at + 2 * HOUR,
            )

        close = store.close_timed_out
        monkeypatch.setattr(store, "close_timed_out", lose_lease)
        run_jobs()

        assert question().closed_at is None
        answer_approval(question(), user("anna"), approved=True)
        assert end_of(job) == "by anna"


class TwoPeopleTests:
    def answering(self, stage: Stage) -> tuple[Job, Actor, Any]:
        """Anna's answer is not committed, Ben's waits for it."""
        anna, ben = user("anna"), user("ben")
        job = asking_job()
        first, second = stage.actors("anna", "ben")
        first.begin()
        first.do(answer_approval, question(), anna, approved=True)
        answer = second.start(answer_approval, question(), ben, approved=False)
        assert second.is_stopped_in(answer)
        return job, first, answer

    def test_the_second_is_told_of_the_first(self, stage: Stage) -> None:
        job, first, answer = self.answering(stage)
        first.commit()
        error = failure_of(answer)
        assert isinstance(error, ApprovalClosedError)
        assert "it was approved by anna at" in str(error)
        assert end_of(job) == "by anna"

    def test_the_second_counts_if_the_first_comes_to_nothing(self, stage: Stage) -> None:
        job, first, answer = self.answering(stage)
        first.rollback()
        assert answer.result(PATIENCE).state == "REJECTED"
        assert end_of(job) == "by ben"


class ChoreTests:
    def test_a_job_retried_in_between_keeps_its_question(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The chore looks again after it has locked."""
        job = asking_job()
        cancel_job(job)
        gate = Tollgate(stage)
        close = store.close
        monkeypatch.setattr(store, "close", lambda *a: (gate.pass_through(), close(*a))[1])
        jobs_are_free = store.jobs
        monkeypatch.setattr(store, "jobs", lambda alias: jobs_are_free(alias).none())
        chore = stage.actor("chore").start(store.close_some, "default", limit=10)
        gate.wait()

        retry_job(job)
        gate.open()

        assert chore.result(PATIENCE) == 0
        run_jobs()
        assert question().state == "OPEN"

    def test_a_job_retried_while_it_is_closed_opens_it_again(self, stage: Stage) -> None:
        job = asking_job()
        cancel_job(job)
        chore, operator = stage.actors("chore", "operator")
        chore.begin()
        assert chore.do(store.close_some, "default", limit=10) == 1

        retry = operator.start(retry_job, job)
        assert operator.is_stopped_in(retry)
        chore.commit()
        retry.result(PATIENCE)

        assert question().closed_at is not None
        run_jobs()
        assert (question().state, question().closed_at) == ("OPEN", None)
