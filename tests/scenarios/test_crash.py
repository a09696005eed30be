"""A worker dies by SIGKILL; another goes on from what was committed."""

import pytest

from django_durable import enqueue, retry_job
from django_durable.models import Attempt, Job
from tests.scenarios.harness import Gates, Process, Workers, eventually, job_is
from tests.testapp import durable_stories as stories
from tests.testapp.models import Charge

LEASE = ("--lease", "3")


def refs() -> list[str]:
    return sorted(Charge.objects.values_list("order_ref", flat=True))


def is_over(job: Job) -> bool:
    job.refresh()
    return job.is_finished


def wait_for_one_end(worker: Process, job: Job) -> None:
    eventually(lambda: worker.popen.poll() is not None or is_over(job), "worker or job ended")


def test_killed_between_two_steps_another_worker_resumes_after_the_first(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.two_steps, "a")
    victim = workers.start(*LEASE).has_lock()
    gates.reached("between-a")

    victim.kill()
    gates.open("between-a")
    workers.start(*LEASE)

    job_is(job, "SUCCESSFUL")
    assert refs() == ["a:first", "a:second"]
    assert Attempt.objects.filter(job=job, outcome="LOST").count() == 1
    assert job.attempt == 1


def test_killed_inside_a_plain_step_it_runs_again_with_the_same_idempotency_key(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.inside_plain, "a")
    victim = workers.start(*LEASE).has_lock()
    gates.reached("inside-a")

    victim.kill()
    gates.open("inside-a")
    workers.start(*LEASE)

    job_is(job, "SUCCESSFUL")
    assert refs() == [f"a:{job.return_value}"] * 2


def test_killed_inside_an_at_most_once_step_it_is_interrupted_until_told_otherwise(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.inside_at_most_once, "a")
    victim = workers.start(*LEASE).has_lock()
    gates.reached("inside-a")

    victim.kill()
    gates.open("inside-a")
    workers.start(*LEASE)

    job_is(job, "FAILED")
    assert job.errors[-1].exception_class_path == "django_durable.exceptions.StepInterrupted"
    assert refs() == ["a:letter"]
    retry_job(job)
    job_is(job, "FAILED")
    assert refs() == ["a:letter"]
    retry_job(job, rerun_interrupted=True)
    job_is(job, "SUCCESSFUL")
    assert refs() == ["a:letter"] * 2


@pytest.mark.parametrize("instant", ["begun", "written", "after"])
def test_killed_around_an_atomic_step_row_and_checkpoint_are_both_there_or_neither(
    workers: Workers, gates: Gates, instant: str
) -> None:
    job = enqueue(stories.inside_atomic, "a")
    victim = workers.start(*LEASE).has_lock()
    for gate in ("begun", "written", "after"):
        gates.reached(f"{gate}-a")
        if gate == instant:
            break
        gates.open(f"{gate}-a")

    victim.kill()
    there = refs()
    for gate in ("begun", "written", "after"):
        gates.open(f"{gate}-a")
    workers.start(*LEASE)

    assert there == (["a:reserved"] if instant == "after" else [])
    job_is(job, "SUCCESSFUL")
    assert refs() == ["a:reserved"]


def test_killed_inside_an_atomic_task_its_writes_are_there_once(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.atomic_task, "a")
    victim = workers.start(*LEASE).has_lock()
    gates.reached("written-a")

    victim.kill()
    gates.open("written-a")
    workers.start(*LEASE)

    job_is(job, "SUCCESSFUL")
    assert refs() == ["a:atomic"]


def test_a_job_enqueued_between_steps_is_one_job_after_the_kill(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.parent, "a")
    victim = workers.start(*LEASE).has_lock()
    gates.reached("enqueued-a")

    victim.kill()
    gates.open("enqueued-a")
    workers.start(*LEASE)

    job_is(job, "SUCCESSFUL")
    (child,) = Job.objects.filter(parent_id=job.pk)
    assert str(child.pk) == job.return_value
    assert child.origin == "enqueue:stories.quick"


def test_a_job_that_kills_its_worker_is_poison_and_its_neighbours_succeed(
    workers: Workers,
) -> None:
    good = [enqueue(stories.quick, f"n{i}") for i in range(8)]
    bad = enqueue(stories.killer, "k")
    good += [enqueue(stories.quick, f"m{i}") for i in range(7)]

    while not is_over(bad):
        wait_for_one_end(workers.start(*LEASE), bad)

    for job in good:
        job_is(job, "SUCCESSFUL")
    assert bad.errors[-1].exception_class_path == "django_durable.exceptions.PoisonJobError"
    assert bad.attempt == 1
    assert Attempt.objects.filter(job=bad, outcome="LOST").count() == 5
    assert not Attempt.objects.exclude(job=bad).filter(outcome="FAILED").exists()
