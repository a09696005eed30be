"""Parents and children on real workers: cancelled, late, and ending all at once."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest

from django_durable import cancel_job, enqueue, get_job, retry_job
from django_durable.engine.clock import StatementTimestamp
from django_durable.exceptions import JobStateError
from django_durable.models import FINISHED, Job
from tests.builders import HOUR, error_of
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.testapp import family_stories as stories
from tests.testapp.durable_stories import two_steps
from tests.testapp.models import Charge

OVERDUE = "django_durable.exceptions.DeadlineExceededError"


def child(parent: Job, name: str) -> Job:
    """The child of a job whose argument ends so, once it is there."""

    def fact() -> Job | None:
        rows = Job.objects.filter(parent_id=parent.pk)
        return next((row for row in rows if row.args[0].endswith(name)), None)

    return eventually(fact, f"{parent} has a child {name}")


def family_of(job: Job) -> list[Job]:
    """A job and all below it."""
    ids, level = [job.pk], [job.pk]
    while level := list(Job.objects.filter(parent_id__in=level).values_list("pk", flat=True)):
        ids += level
    return list(Job.objects.filter(pk__in=ids))


def live_ones(*parents: Job) -> list[Job]:
    return [one for job in parents for one in family_of(job) if one.state not in FINISHED]


def test_cancelling_reaches_children_of_all_kinds_and_one_that_comes_late(
    workers: Workers, gates: Gates
) -> None:
    parent = enqueue(stories.all_kinds, "a")
    workers.start("--slots", "4", "--poll-interval", "0.1")
    gates.reached("begun-a")
    gates.reached("body-a-running")
    job_is(child(parent, "waiting"), "WAITING")
    middle = job_is(child(parent, "a"), "WAITING")
    job_is(child(middle, "grandchild"), "WAITING")

    assert cancel_job(parent).state == "RUNNING"
    assert cancel_job(parent).cancel_requested_at is not None
    for name in ("waiting", "pending"):
        job_is(child(parent, name), "CANCELLED")
    job_is(child(middle, "grandchild"), "CANCELLED")
    gates.open("begun-a")
    job_is(parent, "CANCELLED")
    eventually(lambda: len(live_ones(parent)) == 1, "only the running child is left")
    gates.open("body-a-running")
    job_is(child(parent, "running"), "CANCELLED")

    assert child(parent, "done").state == "SUCCESSFUL"
    assert gates.count("awake-a-late") == 0
    eventually(
        lambda: not Job.objects.filter(cancels_children=True).exists(), "nobody has more to cancel"
    )
    for finished in (parent, child(parent, "done")):
        with pytest.raises(JobStateError, match="It is finished"):
            cancel_job(finished)


def test_what_ends_with_its_parent_does_and_the_rest_runs_on(workers: Workers) -> None:
    parent = enqueue(stories.leaves, "a")
    workers.start("--poll-interval", "0.1")

    job_is(parent, "SUCCESSFUL")
    job_is(child(parent, "bound"), "CANCELLED")
    job_is(child(parent, "free"), "WAITING")


def test_ends_and_cancels_at_the_same_moment_leave_nobody_behind(workers: Workers) -> None:
    """One wins for each job, whoever it is; parents are woken by whichever end is the last."""
    chance = Random(42)
    parents = [enqueue(stories.tolerant_maps, f"t{n}-", 8) for n in range(6)]
    parents += [enqueue(stories.maps, f"m{n}-", 8) for n in range(6)]
    for _ in range(2):
        workers.start("--slots", "4", "--poll-interval", "0.1")

    while live := live_ones(*parents):
        for job in chance.sample(live, min(len(live), 2)):
            if job.parent_id is not None or chance.random() < 0.1:
                cancel_if_it_lives(job)

    for parent in parents:
        assert_it_ended_as_its_children_say(get_job(parent.pk))
    assert "deadlock" not in workers.logs


def cancel_if_it_lives(job: Job) -> None:
    with suppress(JobStateError):
        cancel_job(job)


def assert_it_ended_as_its_children_say(parent: Job) -> None:
    """A map succeeds with all its children, a tolerant one with those that did."""
    bad = Job.objects.filter(parent_id=parent.pk).exclude(state="SUCCESSFUL").count()
    if parent.state != "SUCCESSFUL":
        assert parent.cancel_requested_at is not None or bad > 0, parent.error
    elif parent.task_path == "families.tolerant_maps":
        assert parent.return_value == 8 - bad
    else:
        assert (bad, len(parent.return_value)) == (0, 8)


def test_a_deadline_passes_while_no_worker_is_alive_and_reaches_children(
    workers: Workers, gates: Gates
) -> None:
    parent = enqueue(stories.waits_for_all.using(deadline=HOUR), "a")
    victim = workers.start("--queue", "default", "--poll-interval", "0.1").has_lock()
    job_is(child(parent, "a"), "WAITING")
    unserved = child(parent, "unserved")
    job_is(parent, "WAITING")
    family = [parent, child(parent, "a"), unserved]
    assert {job.deadline_at for job in family} == {parent.deadline_at}
    victim.kill()
    Job.objects.update(deadline_at=StatementTimestamp())

    workers.start("--poll-interval", "0.1")

    for job in family:
        job_is(job, "FAILED")
        assert error_of(job)["type"] == OVERDUE
        assert job.errors[-1].exception_class_path == OVERDUE
    assert gates.count("awake-a") == gates.count("quick-a-unserved") == 0
    assert [job.lease_token for job in family] == [1, 1, 0]


def test_a_deadline_stops_a_running_job_at_its_next_durable_point(
    workers: Workers, gates: Gates
) -> None:
    workers.start("--poll-interval", "0.1").has_lock()
    job = enqueue(two_steps.using(deadline=timedelta(seconds=10)), "a")  # it gets to the gate
    gates.reached("between-a")
    eventually(lambda: is_late(job), "its deadline has passed")
    job.refresh()
    assert job.state == "RUNNING"

    gates.open("between-a")

    job_is(job, "FAILED")
    assert error_of(job)["type"] == OVERDUE
    assert Charge.objects.filter(order_ref="a:second").count() == 0


def is_late(job: Job) -> bool:
    return Job.objects.filter(pk=job.pk, deadline_at__lt=StatementTimestamp()).exists()


def test_a_parent_retried_by_hand_takes_its_failed_child_along(workers: Workers) -> None:
    parent = enqueue(stories.fails_once, "a")
    workers.start("--poll-interval", "0.1")
    job_is(parent, "FAILED")
    (failed,) = Job.objects.filter(parent_id=parent.pk)
    Charge.objects.create(order_ref="a")

    retry_job(parent)

    assert job_is(parent, "SUCCESSFUL").return_value == "bread"
    assert get_job(failed.pk).attempt == 2
    assert Job.objects.filter(parent_id=parent.pk).count() == 1
