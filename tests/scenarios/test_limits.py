"""Limits over several worker processes, judged by when the bodies were inside."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from django_durable import cancel_job, enqueue, enqueue_many
from django_durable.models import Job, Limit, Queue
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.scheduled import database_now
from tests.testapp import limited_stories as stories
from tests.testapp.models import Stay

MANY = ("--slots", "8")


def all_ended(patience: float = 120.0) -> None:
    live = Job.objects.live()
    eventually(lambda: not live.exists(), "all jobs have ended", patience)


def most_at_once(place: str, key: str = "") -> int:
    """How many bodies were inside at the same time."""
    stays = Stay.objects.filter(place=place, key=key)
    moments: list[tuple[datetime, int]] = []
    for began_at, ended_at in stays.values_list("began_at", "ended_at"):
        moments += [(began_at, 1), (ended_at, -1)]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def test_limits_of_keys_and_queues_hold_over_processes_and_are_reached(workers: Workers) -> None:
    Queue.objects.bulk_create([Queue(name="narrow", concurrency=3)])
    enqueue_many([stories.by_key.bind(key, n, 0.3) for n in range(16) for key in "ab"])
    enqueue_many([stories.in_queue.bind(n, 0.3) for n in range(24)])

    for _ in range(3):
        workers.start(*MANY)
    all_ended()

    assert set(Job.objects.values_list("state", flat=True)) == {"SUCCESSFUL"}
    assert [most_at_once("by_key", key) for key in "ab"] == [2, 2]
    assert most_at_once("in_queue") == 3


def test_places_come_back_after_a_crash_a_cancel_and_a_deleted_row(
    workers: Workers, gates: Gates
) -> None:
    crashed, deleted, cancelled, last = (enqueue(stories.one_place, ref) for ref in "abcd")
    first = workers.start("--lease", "2", "--slots", "2").has_lock()
    gates.reached("a")
    workers.start("--lease", "2", "--slots", "2").has_lock()

    first.kill()
    eventually(lambda: gates.count("a") == 2, "the job of the lost worker runs again")
    assert gates.count("b") == 0
    gates.open("a")
    gates.reached("b")
    with connection.cursor() as cursor:
        cursor.execute("delete from durable_job where id = %s", [deleted.pk])
    gates.reached("c")
    cancel_job(cancelled)
    assert gates.count("d") == 0
    gates.open("c")
    gates.reached("d")
    for ref in "bd":
        gates.open(ref)

    job_is(crashed, "SUCCESSFUL")
    job_is(cancelled, "CANCELLED")
    job_is(last, "SUCCESSFUL")


def test_one_at_a_time_for_each_key_keeps_their_order_though_some_fail(workers: Workers) -> None:
    numbers = range(8)
    for number in numbers:
        for key in "ab":
            enqueue(stories.in_order, key, number, number % 3 == 0)

    for _ in range(2):
        workers.start(*MANY)
    all_ended()

    for key in "ab":
        stays = Stay.objects.filter(place="in_order", key=key).order_by("began_at")
        order = [number for number in numbers for _ in range(3 if number % 3 == 0 else 1)]
        assert list(stays.values_list("number", flat=True)) == order
        assert most_at_once("in_order", key) == 1


def test_a_quiet_key_is_not_starved_by_a_hot_one(workers: Workers) -> None:
    enqueue_many([stories.in_order.bind("hot", n) for n in range(300)])
    enqueue_many([stories.by_key.bind("hot", n, 0.02) for n in range(100)])
    for n in range(3):
        enqueue(stories.in_order, "quiet", n)
        enqueue(stories.by_key, "quiet", n, 0.02)

    workers.start("--slots", "2")
    all_ended()

    for place in ("in_order", "by_key"):
        stays = Stay.objects.filter(place=place)
        quiet = stays.filter(key="quiet").latest("ended_at").ended_at
        hot = stays.filter(key="hot")
        assert hot.filter(began_at__lt=quiet).count() < hot.count() / 3


def test_a_rate_is_never_exceeded_by_two_workers(workers: Workers) -> None:
    count = 5 * stories.RATE
    enqueue_many([stories.rated.bind(n) for n in range(count)])

    for _ in range(2):
        workers.start(*MANY)
    all_ended()

    assert set(Job.objects.values_list("state", flat=True)) == {"SUCCESSFUL"}
    starts = sorted(Job.objects.values_list("claimed_at", flat=True))
    gaps = [later - earlier for earlier, later in zip(starts, starts[stories.RATE :], strict=False)]
    assert min(gaps) >= stories.PERIOD


def test_an_operator_changes_a_limit_while_workers_run(workers: Workers, gates: Gates) -> None:
    limit = Limit.objects.filter(name="stories.until_open")
    for _ in range(2):
        workers.start(*MANY).is_registered()
    eventually(limit.exists, "the row is made")
    enqueue_many([stories.until_open.bind(n) for n in range(40)])
    eventually(lambda: Stay.objects.count() == 2, "two are inside")

    limit.update(concurrency=6)
    eventually(lambda: Stay.objects.count() == 6, "six are inside")
    limit.update(concurrency=1)
    changed_at = database_now()
    gates.open("open")
    all_ended()

    assert most_at_once("until_open") == 6
    before = Job.objects.filter(claimed_at__lte=changed_at)
    Stay.objects.filter(number__in=[job.args[0] for job in before]).delete()
    assert Stay.objects.count() == 34
    assert most_at_once("until_open") == 1
