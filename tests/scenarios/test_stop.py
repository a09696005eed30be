"""SIGTERM: finish, flush, hand back, leave."""

from django_durable import enqueue
from django_durable.models import Attempt
from tests.scenarios.harness import Gates, Workers, eventually, job_is, sessions_of
from tests.testapp import durable_stories as stories


def test_a_running_job_may_finish_and_nothing_new_is_claimed(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.gated, "a")
    worker = workers.start().has_lock()
    gates.reached("body-a")

    worker.terminate()
    eventually(lambda: worker.row and worker.row.stopping_at, "it is stopping")
    later = enqueue(stories.quick, "b")
    gates.open("body-a")

    assert worker.exit_code() == 0
    job_is(job, "SUCCESSFUL")
    later.refresh()
    assert later.state == "READY"
    assert worker.row is not None
    assert worker.row.stopped_at is not None


def test_after_the_grace_jobs_are_handed_back_with_their_attempt(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.two_steps, "a")
    worker = workers.start("--grace", "0.2").has_lock()
    gates.reached("between-a")

    worker.terminate()

    assert worker.exit_code() == 0
    job.refresh()
    assert (job.state, job.attempt, job.lost_count) == ("READY", 1, 0)
    assert not Attempt.objects.filter(job=job).exists()
    gates.open("between-a")
    workers.start()
    job_is(job, "SUCCESSFUL")


def test_a_second_signal_stops_at_once(workers: Workers, gates: Gates) -> None:
    job = enqueue(stories.gated, "a")
    worker = workers.start("--grace", "600").has_lock()
    gates.reached("body-a")
    worker.terminate()
    eventually(lambda: worker.row and worker.row.stopping_at, "it is stopping")

    worker.terminate()

    assert worker.exit_code() == 0
    job.refresh()
    assert job.state == "READY"


def test_a_draining_worker_does_not_take_back_what_it_released(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.gated, "a")
    old = workers.start("--grace", "0.2").has_lock()
    gates.reached("body-a")
    new = workers.start().has_lock()

    old.terminate()

    assert old.exit_code() == 0
    eventually(lambda: gates.count("body-a") == 2, "the new worker runs it")
    job.refresh()
    assert new.row is not None
    assert job.worker_id == new.row.pk
    gates.open("body-a")
    job_is(job, "SUCCESSFUL")


def test_burst_runs_until_nothing_is_ready(workers: Workers) -> None:
    jobs = [enqueue(stories.quick, f"q{i}") for i in range(30)]

    worker = workers.start("--burst", "--slots", "4")

    assert worker.exit_code() == 0
    for job in jobs:
        job.refresh()
        assert job.state == "SUCCESSFUL"


def test_burst_waits_for_the_jobs_of_a_worker_that_looks_dead(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.two_steps, "a")
    victim = workers.start("--lease", "2").has_lock()
    gates.reached("between-a")
    assert victim.row is not None
    worker_id = victim.row.pk
    victim.kill()
    gates.open("between-a")
    eventually(lambda: sessions_of(worker_id) == 0, "its lock is free")

    burst = workers.start("--burst", "--lease", "2")

    assert burst.exit_code() == 0
    job.refresh()
    assert job.state == "SUCCESSFUL"
