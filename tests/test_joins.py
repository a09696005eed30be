"""Children are awaited anywhere: in the branch that started them, in others, in several at once."""

from typing import Any

from django.test import TestCase

from django_durable import (
    emit_event,
    first,
    fork_job,
    gather,
    retry_job,
    send_event,
    sleep,
    step,
    task,
    wait_for_event,
)
from django_durable.models import Event, Job
from tests.builders import HOUR, checkpoints_of, ended_job, redeployed, resumed_job


@task(path="tests.asks")
def asks(n: int) -> int:
    wait_for_event("go")
    return n


@task(path="tests.doubles")
def doubles(n: int) -> int:
    return 2 * n


@step
def note(text: str) -> str:
    return text


def child_of(job: Job, index: int = 0) -> Job:
    return Job.objects.filter(parent_id=job.pk).order_by("origin")[index]


class JoinTests(TestCase):
    def test_several_branches_await_one_child(self) -> None:
        @task(path="tests.parent")
        def parent() -> Any:
            child = asks.start(1)
            return gather(lambda: child.result() + 1, lambda: [note("a"), child.result()])

        job = ended_job(parent)
        assert job.state == "WAITING"
        send_event(child_of(job), "go")

        assert resumed_job(job).return_value == [2, ["a", 1]]

    def test_what_is_new_in_one_branch_while_another_awaits_a_child(self) -> None:
        @task(path="tests.parent")
        def parent() -> Any:
            child = asks.start(1)

            def other() -> str:
                note("a")
                wait_for_event("go")
                return note("b")

            return gather(other, child.result)

        job = ended_job(parent)
        send_event(job, "go")
        assert resumed_job(job).wait_reason == "waits for a child, tests.asks"
        send_event(child_of(job), "go")

        assert resumed_job(job).return_value == ["b", 1]

    def test_first_of_a_child_and_a_time(self) -> None:
        @task(path="tests.parent")
        def parent() -> Any:
            child = asks.start(1)
            return first(lambda: [child.result(), note("a")], lambda: sleep(HOUR)).value

        job = ended_job(parent)
        send_event(child_of(job), "go")

        assert resumed_job(job).return_value == [1, "a"]

    def test_first_of_children(self) -> None:
        @task(path="tests.parent")
        def parent() -> Any:
            return first(asks.start(1), asks.start(2)).index

        job = ended_job(parent)
        send_event(child_of(job, 1), "go")

        assert resumed_job(job).return_value == 1

    def test_a_child_started_in_a_branch_is_awaited_after_it(self) -> None:
        @task(path="tests.parent")
        def parent() -> Any:
            (child,) = gather(lambda: asks.start(1))
            note("a")
            return [child.result(), note("b")]

        job = ended_job(parent)
        send_event(child_of(job), "go")

        assert resumed_job(job).return_value == [1, "b"]

    def test_a_new_step_before_a_recorded_join_blocks(self) -> None:
        def before() -> None:
            doubles.start(1).result()
            sleep(HOUR)

        def after() -> None:
            child = doubles.start(1)
            note("new")
            child.result()

        job = ended_job(redeployed("tests.parent", before))
        redeployed("tests.parent", after)

        job = resumed_job(job, ahead=HOUR)
        assert job.wait_kind == "blocked"
        assert "expected start:tests.doubles (recorded" in (job.wait_reason or "")

    def test_a_retry_runs_the_failed_one_of_several_again(self) -> None:
        refusals = [True]

        @task(path="tests.refuses")
        def refuses(n: int) -> int:
            if n == 0 and refusals:
                raise ValueError("not yet")
            return n

        @task(path="tests.parent")
        def parent() -> Any:
            return gather(*[refuses.start(n) for n in range(3)], lambda: note("a"))

        job = ended_job(parent)
        assert job.state == "FAILED"
        refusals.clear()
        retry_job(job)

        assert resumed_job(job).return_value == [0, 1, 2, "a"]

    def test_a_failure_that_the_task_went_on_from_stays(self) -> None:
        refusals = [True]

        @task(path="tests.refuses")
        def refuses() -> None:
            raise ValueError("never")

        @step
        def last() -> str:
            if refusals:
                raise ValueError("not yet")
            return "done"

        @task(path="tests.parent")
        def parent() -> Any:
            (error,) = gather(refuses.start(), return_exceptions=True)
            return [type(error).__name__, last()]

        job = ended_job(parent)
        refusals.clear()
        retry_job(job)

        assert resumed_job(job).return_value == ["ChildFailedError", "done"]
        assert child_of(job).attempt == 1

    def test_a_fork_says_what_is_new_beside_a_join_that_it_has(self) -> None:
        @task(path="tests.parent")
        def parent() -> None:
            child = doubles.start(1)

            def says() -> None:
                note("a")
                wait_for_event("go")
                emit_event("said")

            gather(says, child.result)

        job = ended_job(parent)
        send_event(job, "go")
        assert resumed_job(job).state == "SUCCESSFUL"
        Event.objects.all().delete()
        fork = fork_job(job, from_step="gather/0/event:go")
        Event.objects.all().delete()
        send_event(fork, "go")

        assert resumed_job(fork).state == "SUCCESSFUL"
        assert Event.objects.filter(key="said", emitted_at__isnull=False).exists()

    def test_a_first_that_was_not_decided_is_not_decided_by_what_stops_the_job(self) -> None:
        def before() -> None:
            first(lambda: [note("a"), wait_for_event("go")], lambda: sleep(HOUR))

        @step
        def new() -> None:
            pass

        def after() -> None:
            first(lambda: [new(), note("a"), wait_for_event("go")], lambda: sleep(HOUR))

        job = ended_job(redeployed("tests.parent", before))
        redeployed("tests.parent", after)
        send_event(job, "go")

        assert resumed_job(job).wait_kind == "blocked"
        assert "first" not in checkpoints_of(job)
