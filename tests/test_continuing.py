"""``continue_as``: one job that starts itself over, with other arguments and an empty history."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from django_durable import (
    Task,
    acontinue_as,
    cancel_job,
    continue_as,
    current_job,
    current_step,
    enqueue,
    first,
    gather,
    retry_job,
    send_event,
    sleep,
    step,
    task,
    wait_for_approval,
    wait_for_event,
)
from django_durable.engine import approvals
from django_durable.engine.clock import StatementTimestamp
from django_durable.exceptions import WaitOutsideJobError
from django_durable.models import Approval, Checkpoint, Job, Message
from django_durable.testing import run_jobs
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    error_of,
    outcomes_of,
    policy,
    redeployed,
    resumed_job,
    rewritten_job,
)

pytestmark = pytest.mark.django_db

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@step
def work(name: str) -> str:
    CALLS.append(name)
    return name


def counting(**options: Any) -> Task[..., Any]:
    """Works its way up to three, a life for each number."""

    def run(number: int = 1) -> str:
        work(f"{number}a")
        work(f"{number}b")
        if number < 3:
            continue_as(number + 1)
        return f"done at {number}"

    return redeployed("continuing.counts", run, **options)


class NextLifeTests:
    def test_the_same_job_runs_again_with_the_new_arguments(self) -> None:
        job = ended_job(counting())

        assert CALLS == ["1a", "1b", "2a", "2b", "3a", "3b"]
        assert (job.state, job.return_value) == ("SUCCESSFUL", "done at 3")
        assert (job.continued_count, job.args) == (2, [3])
        assert Job.objects.count() == 1

    def test_the_history_of_the_earlier_life_is_gone(self) -> None:
        job = ended_job(counting())

        assert list(checkpoints_of(job)) == ["continued2/work", "continued2/work#2"]

    @pytest.mark.parametrize(
        "place", ["work", "continued1/work", "continued1/work#2", "continued2/work#2"]
    )
    def test_a_crash_in_any_life_goes_on_in_that_life(self, place: str) -> None:
        job = crashed_job(counting(), after=place)

        assert resumed_job(job).return_value == "done at 3"
        assert CALLS == ["1a", "1b", "2a", "2b", "3a", "3b"]

    def test_columns_speak_of_the_new_life(self) -> None:
        losses: list[int] = []

        def run(number: int = 1) -> None:
            job = current_job()
            assert job is not None
            losses.append(job.lost_count)
            if number == 1:
                continue_as(2)
            sleep(HOUR)

        called = redeployed("continuing.columns", run, retry=policy(3))
        job = enqueue(called)
        rewritten_job(job, attempt=2, attempt_base=0, allowed_steps=["x"], lost_count=1)

        resumed_job(job)

        assert (job.attempt, job.attempt_base, losses) == (2, 1, [1, 0])
        assert (job.allowed_steps, job.worker_id) == ([], None)

    def test_attempts_count_anew_in_each_life(self) -> None:
        def run(number: int = 1) -> None:
            CALLS.append(f"{number}.{current_attempt()}")
            if number < 3 and current_attempt() in (2, 3):
                continue_as(number + 1)
            raise ValueError

        job = enqueue(redeployed("continuing.fails", run, retry=policy(2)))
        for _ in range(6):
            run_jobs(ahead=HOUR)
        job.refresh()

        assert CALLS == ["1.1", "1.2", "2.2", "3.2", "3.3"]
        assert (job.state, job.attempt) == ("FAILED", 3)

    def test_identities_keys_and_origins_of_two_lives_never_meet(self) -> None:
        keys: list[str] = []

        @step
        def keyed() -> None:
            keys.append(current_step().idempotency_key)
            enqueue(child)

        def run(number: int = 1) -> None:
            keyed()
            enqueue(child)
            if number == 1:
                continue_as(2)

        job = ended_job(redeployed("continuing.keys", run))

        assert len(set(keys)) == 2
        origins = Job.objects.filter(parent_id=job.pk).values_list("origin", flat=True)
        assert sorted(origin or "" for origin in origins) == [
            "continued1/enqueue:continuing.child",
            "continued1/keyed/enqueue:continuing.child",
            "enqueue:continuing.child",
            "keyed/enqueue:continuing.child",
        ]

    def test_events_that_were_not_taken_stay(self) -> None:
        def run(taken: list[Any]) -> list[Any]:
            if len(taken) < 3:
                event = wait_for_event("said")
                assert event is not None
                continue_as([*taken, event.payload])
            return taken

        job = enqueue(redeployed("continuing.listens", run), [])
        for number in range(3):
            send_event(job, "said", number)

        assert resumed_job(job).return_value == [0, 1, 2]

    def test_events_that_were_taken_go_but_keys_that_may_be_sent_again_stay(self) -> None:
        def run(count: int = 0) -> None:
            if count < 3:
                wait_for_event("said")
                continue_as(count + 1)

        job = enqueue(redeployed("continuing.forgets", run))
        send_event(job, "said", 1)
        send_event(job, "said", 2, idempotency_key="young")
        send_event(job, "said", 3, idempotency_key="old")
        week = StatementTimestamp() - timedelta(days=7)
        Message.objects.filter(idempotency_key="old").update(sent_at=week)

        resumed_job(job)

        assert Message.objects.get().idempotency_key == "young"

    def test_a_wait_of_an_earlier_life_is_waited_anew(self) -> None:
        def run(number: int = 1) -> str:
            sleep(HOUR)
            if number == 1:
                continue_as(2)
            return "over"

        job = ended_job(redeployed("continuing.sleeps", run))
        resumed_job(job, ahead=HOUR)
        assert (job.state, job.continued_count) == ("WAITING", 1)

        assert resumed_job(job, ahead=HOUR).return_value == "over"

    def test_a_row_left_over_from_an_earlier_life_is_ignored(self) -> None:
        job = crashed_job(counting(), after="continued1/work")
        (row,) = Checkpoint.objects.filter(job_id=job.pk)
        Checkpoint.objects.bulk_create([copy_of(row, "work#2")])

        assert resumed_job(job).state == "SUCCESSFUL"
        assert "2b" in CALLS

    def test_it_leaves_no_trace_of_a_bad_attempt(self) -> None:
        assert outcomes_of(ended_job(counting())) == []

    def test_an_async_task_does_it_too(self) -> None:
        async def run(number: int = 1) -> int:
            if number < 3:
                await acontinue_as(number=number + 1)
            return number

        job = ended_job(redeployed("continuing.async", run))

        assert (job.return_value, job.continued_count) == (3, 2)

    def test_finally_blocks_run_and_handlers_of_errors_let_it_pass(self) -> None:
        def run(number: int = 1) -> int:
            try:
                if number == 1:
                    continue_as(2)
            except Exception:
                CALLS.append("caught")
            finally:
                CALLS.append("finally")
            return number

        assert ended_job(redeployed("continuing.finally", run)).return_value == 2
        assert CALLS == ["finally", "finally"]


class ChildrenTests:
    def test_a_branch_cannot_start_the_job_over(self) -> None:
        def run(number: int = 1) -> None:
            gather(lambda: continue_as(2), lambda: None)

        job = ended_job(redeployed("continuing.branches", run))

        assert error_of(job)["type"].endswith("ContinueInBranchError")
        assert "gather/0/" in error_of(job)["message"]

    def test_composites_have_identities_in_each_life(self) -> None:
        def run(number: int = 1) -> list[str]:
            found = gather(lambda: work(f"{number}a"), child.start().result)
            if number < 3:
                continue_as(number + 1)
            return found

        job = ended_job(redeployed("continuing.gathers", run))

        assert (job.state, job.return_value) == ("SUCCESSFUL", ["3a", None])
        assert list(checkpoints_of(job)) == [
            "continued2/gather/0/work", "continued2/start:continuing.child",
        ]  # fmt: skip

    def test_a_child_that_an_earlier_life_left_alone_is_not_reopened(self) -> None:
        @task(path="continuing.bad_child")
        def bad_child() -> None:
            raise ValueError

        def run(number: int = 1) -> None:
            started = bad_child.start()
            if number == 1:
                continue_as(2)
            started.result()

        job = ended_job(redeployed("continuing.left", run))
        assert job.state == "FAILED"
        children = Job.objects.filter(parent_id=job.pk).order_by("id")
        assert [row.state for row in children] == ["FAILED", "FAILED"]

        retry_job(job)

        assert [row.state for row in children.all()] == ["FAILED", "READY"]


class ApprovalTests:
    def test_a_question_of_an_earlier_life_is_closed(self) -> None:
        def run(number: int = 1) -> None:
            first(lambda: sleep(HOUR), lambda: wait_for_approval(f"{number}?", permission=MAY))
            if number == 1:
                continue_as(2)

        job = ended_job(redeployed("continuing.asks", run))
        resumed_job(job, ahead=HOUR)
        assert (job.state, job.continued_count) == ("WAITING", 1)

        approvals.close_some("default", limit=10)

        found = Approval.objects.filter(job_id=job.pk).order_by("id")
        assert [(row.title, row.closed_at is None) for row in found] == [
            ("1?", False), ("2?", True),
        ]  # fmt: skip


MAY = "testapp.change_charge"


class CancelTests:
    def test_a_request_to_cancel_that_came_before_ends_the_job(self) -> None:
        def run(number: int = 1) -> None:
            job = current_job()
            assert job is not None
            if number == 2:
                cancel_job(job)
            continue_as(number + 1)

        job = ended_job(redeployed("continuing.cancelled", run))

        assert (job.state, job.continued_count) == ("CANCELLED", 1)


class RefusalTests:
    @pytest.mark.parametrize(
        ("call", "error"),
        [
            (lambda: continue_as(1, 2, 3), "InvalidArgumentsError"),
            (lambda: continue_as(object()), "NotSerializableError"),
            (lambda: continue_as(wrong=1), "InvalidArgumentsError"),
        ],
    )
    def test_arguments_are_checked_where_the_call_stands(self, call: Any, error: str) -> None:
        def run(number: int = 1) -> None:
            call()

        job = ended_job(redeployed("continuing.refused", run))

        assert (job.state, job.continued_count) == ("FAILED", 0)
        assert error_of(job)["type"].endswith(error)

    def test_outside_a_job_there_is_nothing_to_start_over(self) -> None:
        with pytest.raises(WaitOutsideJobError, match="continue_as"):
            continue_as()

    def test_in_a_step_it_is_refused(self) -> None:
        @step
        def outer() -> None:
            continue_as()

        assert "WaitInStepError" in error_of(ended_job(declared(lambda: outer())))["message"]

    def test_in_a_transaction_it_is_refused(self) -> None:
        def run() -> None:
            with transaction.atomic():
                continue_as()

        assert error_of(ended_job(declared(run)))["type"].endswith("StepInTransactionError")

    def test_in_an_atomic_task_it_is_refused(self) -> None:
        job = ended_job(redeployed("continuing.atomic", lambda: continue_as(), atomic=True))

        assert error_of(job)["type"].endswith("StepInTransactionError")

    def test_a_task_that_swallows_it_fails(self) -> None:
        def run(number: int = 1) -> str:
            try:
                continue_as(2)
            except BaseException:
                return "no"

        job = ended_job(redeployed("continuing.swallows", run))

        assert error_of(job)["type"].endswith("SuspensionSwallowedError")
        assert job.continued_count == 0


@task(path="continuing.child")
def child() -> None:
    pass


def declared(function: Any) -> Task[..., Any]:
    return redeployed("continuing.place", function)


def current_attempt() -> int:
    job = current_job()
    assert job is not None
    return job.attempt


def copy_of(row: Checkpoint, identity: str) -> Checkpoint:
    columns = {f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields}
    return Checkpoint(**columns | {"identity": identity, "seq": row.seq + 5})
