"""What a running worker does with jobs that are odd, cancelled, late, or not for it."""

import uuid

import pytest
from django.db import connection, transaction

from django_durable import cancel_job, enqueue
from django_durable.models import Attempt, Checkpoint, Job
from tests.scenarios.harness import Gates, Workers, eventually, job_is, sessions_of, sessions_of_all
from tests.testapp import durable_stories as stories
from tests.testapp.models import Charge


def execute(statement: str, *params: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def test_one_undecodable_row_of_a_batch_fails_alone_and_says_why(workers: Workers) -> None:
    jobs = [enqueue(stories.quick, f"q{i}") for i in range(6)]
    bad = jobs[3]
    execute("update durable_job set arguments = '[1]' where id = %s", bad.pk)

    workers.start()

    for job in jobs:
        job_is(job, "FAILED" if job is bad else "SUCCESSFUL")
    assert bad.errors[0].exception_class_path == "django_durable.exceptions.JobRowError"
    assert "arguments are not what was enqueued" in bad.errors[0].message


def test_a_job_whose_task_is_unknown_waits_for_a_worker_that_knows_it(workers: Workers) -> None:
    stranger = enqueue(stories.quick, "x")
    execute("update durable_job set task_path = 'elsewhere.task' where id = %s", stranger.pk)
    known = enqueue(stories.quick, "y")

    workers.start()

    job_is(known, "SUCCESSFUL")
    stranger.refresh()
    assert (stranger.state, stranger.lease_token) == ("READY", 0)


def test_the_row_of_a_running_job_is_deleted_and_the_worker_survives(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.two_steps, "a")
    worker = workers.start()
    gates.reached("between-a")
    execute("delete from durable_checkpoint where job_id = %s", job.pk)
    execute("delete from durable_job where id = %s", job.pk)

    gates.open("between-a")

    job_is(enqueue(stories.quick, "b"), "SUCCESSFUL")
    assert worker.popen.poll() is None


def test_a_locked_row_is_skipped_never_waited_for(workers: Workers) -> None:
    held, free = enqueue(stories.quick, "held"), enqueue(stories.quick, "free")

    with transaction.atomic():
        Job.objects.select_for_update().get(pk=held.pk)
        workers.start()
        job_is(free, "SUCCESSFUL")
        assert Job.objects.get(pk=held.pk).state == "READY"

    job_is(held, "SUCCESSFUL")


def test_a_running_job_is_cancelled_at_its_next_durable_point(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.two_steps, "a")
    worker = workers.start("--lease", "2").is_registered()
    gates.reached("between-a")

    asked = cancel_job(job)
    assert asked.state == "RUNNING"
    asked_at = asked.cancel_requested_at
    assert asked_at is not None
    eventually(lambda: worker.row and worker.row.heartbeat_at > asked_at, "a heartbeat brought it")
    gates.open("between-a")

    job_is(job, "CANCELLED")
    assert list(Charge.objects.values_list("order_ref", flat=True)) == ["a:first"]


def test_a_step_that_runs_when_cancelling_is_asked_for_is_saved_before_the_job_ends(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.inside_plain, "a")
    workers.start()
    gates.reached("inside-a")

    cancel_job(job)
    gates.open("inside-a")

    job_is(job, "CANCELLED")
    assert Checkpoint.objects.get(job_id=job.pk).state == "SUCCESSFUL"


def test_a_body_without_durable_points_ends_cancelled_when_it_returns(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.gated, "a")
    workers.start()
    gates.reached("body-a")

    cancel_job(job)
    cancel_job(job)
    gates.open("body-a")

    job_is(job, "CANCELLED")


def test_a_synchronous_step_that_overstays_is_recorded_and_its_slot_replaced(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.times_out, "a")
    worker = workers.start("--slots", "2")
    gates.reached("slow-a")

    job_is(job, "SUCCESSFUL")
    neighbours = [enqueue(stories.quick, f"n{i}") for i in range(4)]

    assert job.return_value == "given up: slow"
    assert gates.count("slow-a") == 1
    assert Checkpoint.objects.get(job_id=job.pk).state == "FAILED"
    for neighbour in neighbours:
        job_is(neighbour, "SUCCESSFUL")
    assert worker.popen.poll() is None


def test_a_worker_whose_slots_were_all_given_up_leaves_with_75(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.times_out, "a")

    worker = workers.start("--slots", "1")

    assert worker.exit_code() == 75
    workers.start("--slots", "1")
    job_is(job, "SUCCESSFUL")
    assert job.return_value == "given up: slow"


def test_a_step_retries_durably_and_holds_no_slot(workers: Workers, gates: Gates) -> None:
    job = enqueue(stories.retries, "a")

    workers.start("--slots", "1", "--poll-interval", "0.1")

    job_is(job, "SUCCESSFUL")
    assert job.return_value == 3
    assert gates.count("try-a") == 3
    assert Attempt.objects.filter(job=job, outcome="STEP_RETRYING").count() == 2
    assert job.lease_token == 3


@pytest.mark.parametrize("option", ["--no-listen", "--verbosity=1"])
def test_everything_works_with_and_without_listening(workers: Workers, option: str) -> None:
    workers.start(option, "--poll-interval", "0.2").is_registered()

    job = enqueue(stories.two_steps.using(priority=5), "a")
    other = enqueue(stories.quick, "b")

    eventually(lambda: Checkpoint.objects.filter(job_id=job.pk).count() == 1, "it began")
    job_is(other, "SUCCESSFUL")


def test_connections_do_not_grow_over_a_thousand_jobs(workers: Workers) -> None:
    worker = workers.start("--slots", "4").has_lock()
    assert worker.row is not None
    worker_id = worker.row.pk
    ceiling = 3 + 4
    of_the_test = sessions_of_all() - sessions_of(worker_id)
    for batch in range(10):
        jobs = [enqueue(stories.quick, f"{batch}-{i}") for i in range(80)]
        jobs += [enqueue(stories.quick_async, f"{batch}-{i}a") for i in range(20)]
        for job in jobs:
            job_is(job, "SUCCESSFUL")
        # one that was closed just now is seen a moment longer
        eventually(lambda: sessions_of(worker_id) <= ceiling, "no more than it may have")
        eventually(lambda: sessions_of_all() - of_the_test <= ceiling, "nor under other names")

    eventually(lambda: sessions_of(worker_id) <= 4, "idle slots hold one connection")


def test_a_garbage_token_of_another_claim_changes_nothing(workers: Workers, gates: Gates) -> None:
    job = enqueue(stories.two_steps, "a")
    workers.start()
    gates.reached("between-a")
    execute("update durable_job set lease_token = lease_token + 1 where id = %s", job.pk)

    gates.open("between-a")

    eventually(lambda: Charge.objects.count() == 2, "the second step has run")
    job_is(enqueue(stories.quick, str(uuid.uuid4())), "SUCCESSFUL")
    job.refresh()
    assert job.state == "RUNNING"
    assert list(Charge.objects.values_list("order_ref", flat=True)) == ["a:first", "a:second"]
    assert Checkpoint.objects.filter(job_id=job.pk).count() == 1


def test_branches_get_connections_though_the_jobs_had_queried_before(
    workers: Workers, gates: Gates
) -> None:
    jobs = [enqueue(stories.branches_query, ref) for ref in ("a", "b")]
    workers.start("--slots", "2")
    eventually(lambda: gates.count("queried") == 2, "both jobs hold a connection")

    gates.open("queried")

    for job in jobs:
        job_is(job, "SUCCESSFUL")
    assert Charge.objects.count() == 6
