"""Queues are paused and resumed over real workers; workers serve what they are told."""

from datetime import timedelta

from django.db import connection
from django.utils import timezone

from django_durable import enqueue, enqueue_many, pause_queue, resume_queue
from django_durable.models import Job, Queue
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.testapp import durable_stories as stories

quick, gated = stories.quick.using(queue_name="mails"), stories.gated.using(queue_name="mails")


def states_of(queue_name: str) -> set[str]:
    return set(Job.objects.filter(queue_name=queue_name).values_list("state", flat=True))


def works(ref: str) -> None:
    """A job of another queue comes to its end: the workers have looked, and do look."""
    job_is(enqueue(stories.quick.using(queue_name="elsewhere"), ref), "SUCCESSFUL")


def test_nothing_starts_while_a_queue_is_paused_and_what_runs_goes_on(
    workers: Workers, gates: Gates
) -> None:
    running = enqueue(gated, "a")
    workers.start().has_lock()
    gates.reached("body-a")

    pause_queue("mails", reason="the mail server moves")
    waiting = enqueue_many([quick.bind(f"b{n}") for n in range(20)])
    works("c1")
    gates.open("body-a")

    job_is(running, "SUCCESSFUL")
    works("c2")
    assert states_of("mails") == {"SUCCESSFUL", "READY"}
    assert [gates.count(f"quick-b{n}") for n in range(20)] == [0] * 20
    resume_queue("mails")
    for job in waiting:
        job_is(job, "SUCCESSFUL")


def test_a_pause_survives_restarts_and_holds_for_workers_that_start_later(
    workers: Workers, gates: Gates
) -> None:
    pause_queue("mails")
    job = enqueue(quick, "a")
    old = workers.start().has_lock()
    works("c1")
    old.kill()

    workers.start().has_lock()
    workers.start("--queue", "mails", "--queue", "elsewhere").has_lock()
    works("c2")

    job.refresh()
    assert (job.state, gates.count("quick-a")) == ("READY", 0)
    resume_queue("mails")
    job_is(job, "SUCCESSFUL")


def test_a_job_that_lost_its_worker_waits_for_the_end_of_the_pause(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(gated, "a")
    victim = workers.start().has_lock()
    gates.reached("body-a")
    pause_queue("mails")
    victim.kill()
    gates.open("body-a")

    workers.start().has_lock()

    job_is(job, "READY")
    works("c")
    job.refresh()
    assert (job.state, gates.count("body-a")) == ("READY", 1)
    resume_queue("mails")
    job_is(job, "SUCCESSFUL")


def test_a_pause_until_a_time_ends_by_itself(workers: Workers, gates: Gates) -> None:
    workers.start().has_lock()
    pause_queue("mails", until=timezone.now() + timedelta(hours=1))
    job = enqueue(quick, "a")
    works("c")
    job.refresh()
    assert job.state == "READY"

    until = timezone.now() + timedelta(seconds=5)  # so that it is not over before it is asked for
    pause_queue("mails", until=until)
    job_is(job, "SUCCESSFUL")

    assert job.started_at is not None
    assert job.started_at >= until
    assert Queue.objects.get().resume_at == until


def test_jobs_claimed_ahead_do_not_start_in_a_paused_queue(workers: Workers, gates: Gates) -> None:
    """Long jobs keep all slots busy; what was claimed behind them is handed back."""
    before, behind = ([quick.bind(name) for _ in range(400)] for name in ("before", "behind"))
    enqueue_many([*before, *[gated.bind("a")] * 8, *behind])
    workers.start("--slots", "8").has_lock()
    eventually(lambda: gates.count("body-a") == 8, "all slots are busy")
    begun = gates.count("quick-behind")

    pause_queue("mails")
    held = Job.objects.filter(queue_name="mails", state="RUNNING")
    eventually(lambda: held.count() == 8, "only the jobs in the slots are held")
    assert Job.objects.filter(state="READY", lease_token__gt=0).exists()
    gates.open("body-a")

    works("c")
    eventually(lambda: states_of("mails") == {"SUCCESSFUL", "READY"}, "the long jobs have ended")
    assert gates.count("quick-behind") == begun
    resume_queue("mails")
    eventually(lambda: gates.count("quick-behind") == 400, "they run")


def test_workers_serve_the_queues_that_their_patterns_say(workers: Workers, gates: Gates) -> None:
    one = workers.start("--queue", "mail*", "--queue=-mail.bulk").has_lock()
    told = one.row
    assert told is not None
    assert (told.queues, told.queue_patterns) == ([], ["mail*", "-mail.bulk"])
    bulk = enqueue(stories.quick.using(queue_name="mail.bulk"), "bulk")
    default = enqueue(stories.quick, "default")

    job_is(enqueue(stories.quick.using(queue_name="mail.daily"), "daily"), "SUCCESSFUL")
    for job in (bulk, default):
        job.refresh()
        assert job.state == "READY"
    assert "serves mail*, -mail.bulk with" in one.output

    workers.start("--queue=-mail*").has_lock()
    job_is(default, "SUCCESSFUL")
    bulk.refresh()
    assert bulk.state == "READY"


def test_a_worker_is_not_started_with_a_pattern_that_makes_no_sense(workers: Workers) -> None:
    for option, reason in {
        "--queue=-*": "nothing is left to serve",
        "--queue=a b": "a queue name has",
        "--queue=": "a queue name has",
    }.items():
        worker = workers.start(option)

        assert worker.exit_code() == 2
        assert reason in worker.output


def test_a_long_backlog_in_one_queue_does_not_keep_another_waiting(
    workers: Workers, gates: Gates
) -> None:
    backlog = enqueue(stories.quick.using(queue_name="busy"), "busy")
    columns = [f.column for f in Job._meta.concrete_fields if f.column != "id"]
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"insert into durable_job (id, {names}) select gen_random_uuid(), {names}"
            " from durable_job, generate_series(1, 20000) where id = %s",
            [backlog.pk],
        )
    workers.start("--slots", "2").has_lock()
    gates.reached("quick-busy")

    quiet = job_is(enqueue(stories.quick.using(queue_name="quiet"), "quiet"), "SUCCESSFUL")

    busy = Job.objects.filter(queue_name="busy")
    assert busy.exclude(claimed_at__lt=quiet.claimed_at).exists()
