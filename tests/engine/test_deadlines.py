"""Past its deadline a job does not start: judged at claims, durable points, and by a chore."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from django_durable import enqueue, enqueue_many, get_job, sleep, step, task
from django_durable.engine import outcomes
from django_durable.engine.executor import execute, judge
from django_durable.engine.run import current_run
from django_durable.exceptions import ChildDepthError, InvalidOptionError
from django_durable.models import Attempt, Job
from django_durable.testing import run_jobs
from tests.builders import (
    HOUR,
    checkpoints_of,
    ended_job,
    error_of,
    outcomes_of,
    policy,
    resumed_job,
    rewritten_job,
    statements,
)
from tests.engine.test_executor import claimed_run
from tests.families import (
    CHILD,
    MAP,
    children_of,
    claim_only,
    compensated_step,
    fresh,
    mapped_children,
    parent_job,
    states_of,
    waiting,
)
from tests.protocol.stories_losses import new_maintenance
from tests.protocol.world import cancel, finish, new_job, suspend
from tests.scheduled import database_now as now

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)
LAST = datetime.max.replace(tzinfo=UTC)
OVERDUE = "django_durable.exceptions.DeadlineExceededError"
ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@step
def work(name: str) -> str:
    ran.append(name)
    return name


@task(path="deadlines.works")
def works(name: str = "a") -> str:
    return work(name)


@task(path="deadlines.sleeps")
def sleeps() -> None:
    work("before")
    sleep(10 * HOUR)
    work("after")


@task(path="deadlines.enqueues")
def enqueues() -> None:
    enqueue(works, "plain")
    enqueue(works.using(deadline=10 * HOUR), "later")
    enqueue(works.using(deadline=LAST.replace(year=9000)), "at some time")
    enqueue(works.using(deadline=SECOND), "sooner")
    enqueue_many([works.bind("many")])
    works.start("started")


def late(job: Job, by: timedelta = SECOND) -> Job:
    return rewritten_job(job, deadline_at=now() - by)


def sweep() -> list[outcomes.Overdue]:
    return outcomes.fail_overdue("default", limit=100)


class OptionTests:
    def test_a_time_counts_from_enqueueing(self) -> None:
        job = enqueue(works.using(deadline=HOUR))

        assert job.deadline_at == job.enqueued_at + HOUR
        assert get_job(job.pk).deadline_at == job.deadline_at

    def test_a_moment_is_that_moment(self) -> None:
        moment = now() + HOUR

        assert enqueue(works.using(deadline=moment)).deadline_at == moment

    def test_many_and_keyed_ones_have_it_too(self) -> None:
        limited = works.using(deadline=HOUR)
        keyed = enqueue(limited.using(idempotency_key="k"), "keyed")
        many = enqueue_many([limited.bind("a"), limited.bind("b")])

        assert [job.deadline_at for job in [keyed, *many]] == [
            job.enqueued_at + HOUR for job in [keyed, *many]
        ]

    def test_none_is_none(self) -> None:
        assert enqueue(works).deadline_at is None

    @pytest.mark.parametrize(
        "value",
        [
            timedelta(0), -SECOND, timedelta(days=40_000), LAST.replace(year=2030, tzinfo=None),
            LAST, 5, "1h", True,
        ],
    )  # fmt: skip
    def test_what_is_no_deadline_is_refused(self, value: Any) -> None:
        with pytest.raises(InvalidOptionError, match="deadline"):
            works.using(deadline=value)

    @pytest.mark.parametrize("value", ["fail", True, 1, ""])
    def test_what_a_parents_end_cannot_do_is_refused(self, value: Any) -> None:
        with pytest.raises(InvalidOptionError, match="on_parent_end"):
            works.using(on_parent_end=value)

    def test_outside_jobs_there_is_no_parent_to_end(self) -> None:
        bound = works.using(on_parent_end="cancel")
        jobs = [enqueue(bound), *enqueue_many([bound.bind()])]

        assert [fresh(job).on_parent_end for job in jobs] == [None, None]


class InheritanceTests:
    def test_children_have_their_parents_deadline_or_an_earlier_one(self) -> None:
        job = ended_job(enqueues.using(deadline=HOUR))
        children = {row.args[0]: row for row in Job.objects.filter(parent_id=job.pk)}
        sooner = children.pop("sooner")

        assert sorted(children) == ["at some time", "later", "many", "plain", "started"]
        assert {row.deadline_at for row in children.values()} == {job.deadline_at}
        assert sooner.deadline_at == sooner.enqueued_at + SECOND

    def test_without_one_they_have_their_own(self) -> None:
        job = ended_job(enqueues)
        rows = Job.objects.filter(parent_id=job.pk, deadline_at__isnull=False)

        assert sorted(row.args[0] for row in rows) == ["at some time", "later", "sooner"]

    def test_depth_is_counted(self) -> None:
        job = ended_job(enqueues)

        assert set(Job.objects.filter(parent_id=job.pk).values_list("depth", flat=True)) == {1}
        assert job.depth == 0

    def test_what_ends_with_its_parent_says_so(self) -> None:
        @task(path="deadlines.binds")
        def binds() -> None:
            bound = works.using(on_parent_end="cancel")
            enqueue(bound, "a")
            bound.start("b")
            enqueue_many([bound.bind("c")])
            enqueue(bound.using(idempotency_key="k"), "d")

        job = ended_job(binds)
        rows = Job.objects.filter(parent_id=job.pk)
        assert [row.on_parent_end for row in rows] == ["cancel"] * 4

    @pytest.mark.parametrize("verb", ["enqueue", "start", "enqueue_many"])
    def test_jobs_do_not_enqueue_each_other_without_end(self, verb: str) -> None:
        @task(path="deadlines.deeper")
        def deeper() -> None:
            if verb == "enqueue_many":
                enqueue_many([works.bind()])
            else:
                getattr(works, verb)()

        job = rewritten_job(enqueue(deeper), depth=100)
        job = resumed_job(job)
        assert job.state == "FAILED"
        assert error_of(job)["type"].endswith(ChildDepthError.__name__)
        assert f"Job {job.pk} (deadlines.deeper) stands below 100 jobs" in error_of(job)["message"]
        assert ran == []


class ClaimTests:
    def test_a_body_does_not_start(self) -> None:
        """The sweep has not come by yet."""
        run = claimed_run(late(enqueue(works)))
        execute(run)

        job = fresh(run.job)
        assert (job.state, ran) == ("FAILED", [])
        assert error_of(job)["type"] == OVERDUE
        assert outcomes_of(job) == ["FAILED"]

    def test_cancelling_goes_first(self) -> None:
        run = claimed_run(late(enqueue(works)))
        cancel(run.job)
        run.job.refresh()
        execute(run)

        job = fresh(run.job)
        assert (job.state, job.error) == ("CANCELLED", None)

    def test_one_that_has_decided_how_it_ends_is_not_judged_again(self) -> None:
        run = claimed_run(late(rewritten_job(enqueue(works), ends_as="FAILED")))

        assert judge(run) is None


class RunningTests:
    def test_it_stops_at_its_next_durable_point(self) -> None:
        @task(path="deadlines.overstays")
        def overstays() -> None:
            work("one")
            expire()
            work("two")

        job = ended_job(overstays.using(deadline=HOUR))

        assert (job.state, ran) == ("FAILED", ["one"])
        assert error_of(job)["type"] == OVERDUE

    def test_a_step_that_was_done_is_saved_first(self) -> None:
        @step
        def long() -> str:
            expire()
            return "done"

        @task(path="deadlines.overstays")
        def overstays() -> None:
            long()
            ran.append("went on")

        job = ended_job(overstays.using(deadline=HOUR))
        assert checkpoints_of(job)["long"].state == "SUCCESSFUL"
        assert (job.state, ran) == ("FAILED", [])

    def test_whatever_the_function_does_about_it(self) -> None:
        @task(path="deadlines.overstays")
        def overstays() -> str:
            expire()
            try:
                work("one")
            except BaseException:
                return "swallowed"
            return "?"

        job = ended_job(overstays.using(deadline=HOUR))
        assert (job.state, error_of(job)["type"]) == ("FAILED", OVERDUE)

    def test_a_body_that_ends_in_time_enough_has_ended(self) -> None:
        @task(path="deadlines.overstays")
        def overstays() -> str:
            expire()
            return "done"

        assert ended_job(overstays.using(deadline=HOUR)).return_value == "done"

    def test_no_retry_follows(self) -> None:
        @task(path="deadlines.overstays", retry=policy(5))
        def overstays() -> None:
            expire()
            work("one")

        assert ended_job(overstays.using(deadline=HOUR)).state == "FAILED"


def expire() -> None:
    """In a task: its deadline passes."""
    run = current_run()
    assert run is not None
    run.job.deadline_at = run.now()


class SweepTests:
    def test_whatever_does_not_run_fails_at_once(self) -> None:
        ready, sleeping, parent = new_job(), parent_job(), parent_job()
        suspend(sleeping)
        children_of(parent, CHILD)
        waiting(parent, CHILD)
        held_back = mapped_children(parent_job(), 2, max_concurrency=1)[1]
        jobs = [late(job) for job in (ready, sleeping, parent, held_back)]

        swept = sweep()

        assert {one.job_id for one in swept} == {job.pk for job in jobs}
        assert states_of(*jobs) == ["FAILED"] * 4
        for job in jobs:
            row = fresh(job)
            assert row.finished_at is not None
            assert (row.wait_kind, row.wait_key, row.wait_reason) == (None, None, None)
            assert error_of(row)["type"] == OVERDUE
            assert f"Job {job.pk} (protocol.task) was not done by" in error_of(row)["message"]
            assert outcomes_of(job)[-1] == "FAILED"

    def test_what_is_not_late_runs_ended_or_ends_anyway_is_left_alone(self) -> None:
        running, ended, in_time = parent_job(), new_job(), new_job()
        (claimed,) = claim_only(ended)
        finish(claimed)
        asked, ending = parent_job(), rewritten_job(new_job(), ends_as="FAILED")
        compensated_step(asked)
        suspend(asked)
        cancel(asked)
        jobs = [late(job) for job in (running, ended, asked, ending)]
        rewritten_job(in_time, deadline_at=now() + HOUR)

        assert sweep() == []
        assert states_of(*jobs, in_time) == ["RUNNING", "SUCCESSFUL", "READY", "READY", "READY"]

    def test_its_error_is_one_like_any_other(self) -> None:
        job = late(new_job())
        sweep()

        (error,) = fresh(job).errors
        assert error.exception_class_path == OVERDUE
        assert error.exception_class.__name__ == "DeadlineExceededError"
        assert "was not done by its deadline" in error.traceback

    def test_steps_to_undo_are_left_to_a_holder(self) -> None:
        job = parent_job()
        compensated_step(job)
        suspend(job)
        late(job)

        (swept,) = sweep()

        job = fresh(job)
        assert (swept.state, job.state, job.ends_as) == ("READY", "READY", "FAILED")
        assert error_of(job)["type"] == OVERDUE
        assert job.due_at <= now()
        assert not Attempt.objects.filter(job=job, outcome="FAILED").exists()
        assert sweep() == []

    def test_a_parent_is_woken_and_the_next_sibling_goes(self) -> None:
        parent = parent_job()
        children = mapped_children(parent, 3, max_concurrency=1, max_failures=0)
        waiting(parent, MAP)
        late(children[0])

        sweep()

        assert states_of(*children, parent) == ["FAILED", "READY", "WAITING", "READY"]

    def test_children_bound_to_it_are_marked(self) -> None:
        parent = parent_job()
        (bound,) = children_of(parent, CHILD, on_parent_end="cancel")
        suspend(parent)
        late(parent)

        sweep()

        assert fresh(parent).cancels_children
        new_maintenance().cancel_children()
        assert states_of(bound) == ["CANCELLED"]

    def test_with_nothing_late_it_is_one_statement(self) -> None:
        with statements() as sent:
            sweep()

        assert len(sent) == 1

    def test_it_works_in_chunks_the_latest_first(self) -> None:
        jobs = [late(new_job(), HOUR * n) for n in (1, 3, 2)]

        assert [len(outcomes.fail_overdue("default", limit=2)) for _ in range(3)] == [2, 1, 0]
        ended = sorted(Job.objects.all(), key=lambda job: job.finished_at)
        assert ended[-1].pk == jobs[0].pk

    def test_those_that_end_anyway_are_in_nobodys_way(self) -> None:
        ending = late(rewritten_job(new_job(), ends_as="FAILED"), HOUR)
        job = late(new_job())

        assert len(outcomes.fail_overdue("default", limit=1)) == 1
        assert states_of(ending, job) == ["READY", "FAILED"]

    def test_the_chore_tells_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        job = late(new_job())
        with caplog.at_level(logging.ERROR, "django_durable"):
            new_maintenance().fail_overdue()

        (record,) = caplog.records
        assert record.getMessage() == f"Job {job.pk} failed: protocol.task"
        assert record.exc_info is not None
        assert type(record.exc_info[1]).__name__ == "DeadlineExceededError"


def give_back(result: str) -> None:
    ran.append(f"give {result} back")


@step(compensate=give_back)
def book() -> str:
    return "a booking"


@task(path="deadlines.books")
def books(*, passes: bool) -> None:
    """Its deadline passes, or it sleeps longer than that."""
    book()
    if passes:
        expire()
    sleep(10 * HOUR)


class UndoingTests:
    def test_steps_are_undone_after_the_deadline(self) -> None:
        job = ended_job(books.using(deadline=HOUR), passes=False)
        assert (job.state, ran) == ("WAITING", [])

        job = resumed_job(job, ahead=2 * HOUR)

        assert (job.state, ran) == ("FAILED", ["give a booking back"])
        assert error_of(job)["type"] == OVERDUE

    def test_also_by_the_run_that_is_stopped_by_it(self) -> None:
        job = ended_job(books.using(deadline=HOUR), passes=True)

        assert (job.state, ran) == ("FAILED", ["give a booking back"])
        assert error_of(job)["type"] == OVERDUE


class RunJobsTests:
    def test_time_that_passes_brings_the_deadline_nearer(self) -> None:
        job = ended_job(sleeps.using(deadline=HOUR))
        assert job.state == "WAITING"

        assert resumed_job(job, ahead=2 * HOUR).state == "FAILED"
        assert ran == ["before"]

    def test_it_reaches_children(self) -> None:
        @task(path="deadlines.waits")
        def waits() -> None:
            sleeps.start().result()

        job = ended_job(waits.using(deadline=HOUR))
        (child,) = Job.objects.filter(parent_id=job.pk)
        assert states_of(job, child) == ["WAITING", "WAITING"]

        run_jobs(ahead=2 * HOUR)

        assert states_of(job, child) == ["FAILED", "FAILED"]
        assert {error_of(fresh(one))["type"] for one in (job, child)} == {OVERDUE}

    def test_bound_children_end_with_their_parent(self) -> None:
        @task(path="deadlines.leaves")
        def leaves() -> None:
            sleeps.using(on_parent_end="cancel").start()
            sleeps.start()

        job = ended_job(leaves)
        rows = Job.objects.filter(parent_id=job.pk).order_by("origin")
        assert [row.state for row in rows] == ["CANCELLED", "WAITING"]


def test_suspensions_leave_the_deadline_alone() -> None:
    job = ended_job(sleeps.using(deadline=HOUR))

    assert job.due_at > job.deadline_at
    with connection.cursor() as cursor:
        cursor.execute("select deadline_at from durable_job where id = %s", [job.pk])
        assert cursor.fetchone() == (job.deadline_at,)
