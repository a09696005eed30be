"""Schedules fired by real workers: two at once, none for a while, and one that is killed inside."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import QuerySet

from django_durable.models import Job, Schedule, Tick
from tests.scenarios.harness import Gates, Workers, eventually
from tests.scheduled import (
    HOURLY,
    due_since,
    hourly_but_now,
    jobs_of,
    names,
    new_schedule,
    rewrite,
    row_of,
    ticks_of,
)

pytestmark = [pytest.mark.process, pytest.mark.django_db(transaction=True)]
DECLARING = {"DJANGO_SETTINGS_MODULE": "tests.scheduled_settings"}


def all_due(ago: timedelta) -> None:
    """Every schedule of this story is due at the same moment."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update durable_schedule set next_tick_at = now() - %s where name ~ '^s'", [ago]
        )


def all_ticks() -> QuerySet[Tick]:
    """Those of this story's schedules; the example project's comes due once a night."""
    return Tick.objects.filter(schedule_name__startswith="s")


def all_jobs() -> QuerySet[Job]:
    return Job.objects.filter(schedule_name__startswith="s")


def waits_to_note_a_tick() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "select exists (select from pg_locks "
            "where not granted and relation = 'durable_tick'::regclass)"
        )
        return bool(cursor.fetchone()[0])


def test_a_tick_seen_by_several_workers_is_one_job(workers: Workers, gates: Gates) -> None:
    wanted_names = [f"s{n}" for n in range(20)]
    for name in wanted_names:
        new_schedule(name, overlap="queue", args=(name,))
    started = [workers.start("--poll-interval", "0.05") for _ in range(3)]
    for worker in started:
        worker.is_registered()

    for round_number in range(1, 4):
        all_due(timedelta(seconds=1))
        wanted = len(wanted_names) * round_number
        eventually(lambda n=wanted: all_ticks().count() >= n, f"round {round_number} was decided")

    assert Counter(all_ticks().values_list("outcome", flat=True)) == {"ENQUEUED": 60}
    assert all_jobs().count() == 60
    assert {tick.job_id for tick in all_ticks()} == {job.pk for job in all_jobs()}
    eventually(lambda: all_jobs().filter(state="SUCCESSFUL").count() == 60, "all have run")


def test_what_passed_while_no_worker_was_there_follows_the_schedule(
    workers: Workers, gates: Gates
) -> None:
    for policy in ("none", "one", "all"):
        new_schedule(policy, cron=hourly_but_now(), missed=policy, args=(policy,))
        due_since(policy, timedelta(hours=3, minutes=30))

    for _ in range(2):
        workers.start()
    eventually(lambda: len(jobs_of("all")) >= 4 and jobs_of("one"), "missed ticks are made up")
    eventually(lambda: ticks_of("none"), "missed ticks are noted")

    assert set(ticks_of("none")) == {"MISSED"}
    assert jobs_of("none") == []
    assert ticks_of("one").count("ENQUEUED") == len(jobs_of("one")) == 1
    assert ticks_of("one")[-1] == "ENQUEUED"
    assert set(ticks_of("all")) == {"ENQUEUED"}
    assert len(jobs_of("all")) == len(ticks_of("all"))


def test_a_worker_killed_while_it_fires_leaves_the_tick_to_another(
    workers: Workers, gates: Gates
) -> None:
    new_schedule()
    due_since("tea", timedelta(seconds=1))

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("lock table durable_tick in exclusive mode")
        killed = workers.start()
        # It waits a quarter of a second, and again ten seconds later.
        eventually(waits_to_note_a_tick, "the job is inserted and its tick is not", patience=60)
        killed.kill()
    assert jobs_of() == []
    assert row_of().last_tick_at is None

    workers.start()

    eventually(lambda: jobs_of(), "another worker fired")
    assert ticks_of() == ["ENQUEUED"]
    eventually(lambda: jobs_of()[0].state == "SUCCESSFUL", "its job has run")
    assert len(jobs_of()) == 1


def test_workers_that_start_at_once_make_each_declared_schedule_once(workers: Workers) -> None:
    started = [workers.start(**DECLARING) for _ in range(4)]
    for worker in started:
        worker.is_registered()
    eventually(lambda: names() == ["often", "yearly"], "the schedules are there")
    rewrite("often", next_tick_at=None)
    Schedule.objects.filter(pk="often").update(cron=HOURLY)  # by an operator, in psql
    workers.start(**DECLARING).is_registered()

    due_since("yearly", timedelta(seconds=1))
    eventually(lambda: [j for j in jobs_of("yearly") if j.state == "SUCCESSFUL"], "it was fired")

    assert names() == ["often", "yearly"]
    assert row_of("often").cron == HOURLY
    assert len(jobs_of("yearly")) == 1
    assert "ERROR" not in workers.logs
    assert "Traceback" not in workers.logs


def test_a_bad_row_stops_no_other_and_no_worker(workers: Workers, gates: Gates) -> None:
    new_schedule("bad")
    new_schedule("good")
    rewrite("bad", cron="nonsense")
    due_since("bad", timedelta(seconds=30))
    due_since("good", timedelta(seconds=1))

    worker = workers.start()

    eventually(lambda: ticks_of("good") == ["ENQUEUED"], "the good one is fired")
    eventually(lambda: row_of("bad").problem, "the bad one says why")
    assert worker.popen.poll() is None
    rewrite("bad", cron=hourly_but_now())
    workers.start()
    eventually(lambda: ticks_of("bad") == ["ENQUEUED"], "mended, it is fired")
