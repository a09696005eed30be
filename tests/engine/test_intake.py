"""Enqueueing inside a job: exactly once over crashes, retries and replays."""

import time
from itertools import count
from typing import Any

import pytest

from django_durable import current_step, enqueue, enqueue_many, step, task
from django_durable.engine.enqueueing import uuid7
from django_durable.models import Job
from tests.builders import (
    HOUR,
    crashed_job,
    ended_job,
    policy,
    resumed_job,
    rolled_back,
)

pytestmark = pytest.mark.django_db


@task(queue_name="children")
def child(n: Any = 0) -> Any:
    return n


@task(queue_name="children")
def other_child(n: Any = 0) -> Any:
    return n


@step
def checkpoint() -> None: ...


def children() -> list[tuple[str | None, Any]]:
    """Origin and argument of each child, oldest first."""
    rows = Job.objects.filter(queue_name="children").order_by("pk")
    return [(row.origin, row.args[0] if row.args else None) for row in rows]


ORIGIN = f"enqueue:{child.path}"


class BetweenStepsTests:
    def test_a_child_is_enqueued_once_over_replays_and_attempts(self) -> None:
        broken = [True]
        seen: list[Any] = []

        @task(path="parent", retry=policy(5))
        def parent() -> None:
            seen.append(enqueue(child, 1).pk)
            checkpoint()
            if broken:
                raise OSError

        job = crashed_job(parent, after="checkpoint")
        job = resumed_job(job)
        broken.clear()
        job = resumed_job(job, ahead=HOUR)

        assert (job.state, job.attempt) == ("SUCCESSFUL", 2)
        assert len(seen) == 3
        assert {Job.objects.get(queue_name="children").pk} == set(seen)
        assert children() == [(ORIGIN, 1)]

    def test_equal_calls_are_told_apart_by_number(self) -> None:
        @task(path="parent")
        def parent() -> None:
            for _ in range(3):
                enqueue(child, 1)
            other_child.enqueue(2)
            checkpoint()

        resumed_job(crashed_job(parent, after="checkpoint"))

        assert children() == [
            (ORIGIN, 1), (f"{ORIGIN}#2", 1), (f"{ORIGIN}#3", 1),
            (f"enqueue:{other_child.path}", 2),
        ]  # fmt: skip

    def test_many_at_once_too(self) -> None:
        @task(path="parent")
        def parent() -> list[str]:
            jobs = enqueue_many([child.bind(n) for n in range(5)])
            more = enqueue_many([child.bind(9), child.using(idempotency_key="k").bind(10)])
            checkpoint()
            return [str(one.pk) for one in (*jobs, *more)]

        job = resumed_job(crashed_job(parent, after="checkpoint"))

        rows = Job.objects.filter(queue_name="children").order_by("pk")
        assert sorted(job.return_value) == [str(row.pk) for row in rows]
        assert {row.parent_id for row in rows} == {job.pk}
        assert sorted(n for _, n in children()) == [0, 1, 2, 3, 4, 9, 10]

    def test_other_arguments_on_replay_block(self) -> None:
        numbers = iter([1, 2])

        @task(path="parent")
        def parent() -> None:
            enqueue(child, next(numbers))
            checkpoint()

        job = resumed_job(crashed_job(parent, after="checkpoint"))

        assert (job.state, job.wait_kind) == ("WAITING", "blocked")
        assert f'{ORIGIN} with the arguments {{"args":[1],' in str(job.wait_reason)
        assert children() == [(ORIGIN, 1)]

    def test_a_child_says_whose_it_is(self) -> None:
        @task(path="parent")
        def parent() -> str:
            return str(enqueue(child).parent_id)

        job = ended_job(parent)

        assert job.return_value == str(job.pk)

    def test_a_transaction_of_the_tasks_own_may_take_it_back(self) -> None:
        @task(path="parent")
        def parent() -> None:
            with rolled_back():
                enqueue(child, "rolled back")
            enqueue(child, "kept")

        assert ended_job(parent).state == "SUCCESSFUL"
        assert [n for _, n in children()] == ["kept"]


class InStepTests:
    @pytest.mark.parametrize("kind", ["plain", "atomic"])
    def test_a_step_that_is_tried_again_starts_one_child(self, kind: str) -> None:
        @step(retry=policy(3), atomic=kind == "atomic")
        def start() -> str:
            started = enqueue(child, current_step().attempt)
            if current_step().attempt < 3:
                raise OSError
            return str(started.pk)

        job = ended_job(task(path="parent")(lambda: start()))
        for _ in range(2):
            resumed_job(job, ahead=HOUR)

        assert job.state == "SUCCESSFUL"
        assert job.return_value == str(Job.objects.get(queue_name="children").pk)
        assert children() == [(f"start/{ORIGIN}", 1 if kind == "plain" else 3)]

    def test_a_step_that_ran_half_way_before_a_crash_starts_one_child(self) -> None:
        """The checkpoint is never saved, so the body runs again; its first child is found."""
        deaths = iter([True, False])

        @step
        def start() -> None:
            enqueue(child, 1)
            if next(deaths):
                take_over()
            enqueue(child, 2)

        def take_over() -> None:
            parent_row = Job.objects.filter(task_path="parent")
            parent_row.update(lease_token=7)

        job = ended_job(task(path="parent")(lambda: start()))
        assert job.state == "RUNNING"
        job = resumed_job(job)

        assert job.state == "SUCCESSFUL"
        assert children() == [(f"start/{ORIGIN}", 1), (f"start/{ORIGIN}#2", 2)]

    def test_each_call_of_a_step_has_its_own_children(self) -> None:
        start = step(name="start")(lambda n: enqueue(child, n) and None)
        keyed = step(name="keyed", key=lambda n: n)(lambda n: enqueue(child, n) and None)

        ended_job(task(path="parent")(lambda: [start(1), start(2), keyed(3)]))

        assert children() == [
            (f"start/{ORIGIN}", 1), (f"start#2/{ORIGIN}", 2), (f"keyed[3]/{ORIGIN}", 3),
        ]  # fmt: skip

    def test_a_replayed_step_enqueues_nothing(self) -> None:
        ran: list[int] = []
        start = step(name="start")(lambda: ran.append(1) or enqueue(child).pk)

        @task(path="parent")
        def parent() -> None:
            start()
            checkpoint()

        resumed_job(crashed_job(parent, after="checkpoint"))

        assert (len(ran), len(children())) == (1, 1)


class LostLeaseTests:
    @pytest.mark.parametrize("many", [False, True])
    def test_a_job_that_was_taken_over_enqueues_nothing(self, many: bool) -> None:
        @task(path="parent")
        def parent() -> None:
            Job.objects.filter(task_path="parent").update(lease_token=7)
            if many:
                enqueue_many([child.bind(1), child.bind(2)])
            else:
                enqueue(child, 1)

        @task(path="keyed-parent")
        def keyed_parent() -> None:
            Job.objects.filter(task_path="keyed-parent").update(lease_token=7)
            enqueue(child.using(idempotency_key="k"), 1)

        jobs = [ended_job(parent), ended_job(keyed_parent)]

        assert children() == []
        assert [job.state for job in jobs] == ["RUNNING", "RUNNING"]


class Uuid7Tests:
    def test_sorts_by_time_and_is_of_version_7(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ticks = count(time.time_ns(), 250)  # an id tells 4096 parts of a millisecond apart
        with monkeypatch.context() as clock:
            clock.setattr("django_durable.engine.enqueueing.time.time_ns", lambda: next(ticks))
            keys = [uuid7() for _ in range(9000)]

        assert keys == sorted(keys)
        assert len(set(keys)) == 9000
        assert {(key.version, key.variant) for key in keys} == {(7, "specified in RFC 4122")}
