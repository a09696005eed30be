"""Jobs claimed beyond the free slots, ends written many at a time: nothing is lost by either."""

from __future__ import annotations

from collections import Counter

from django_durable import enqueue_many
from django_durable.models import Attempt, Job
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.testapp import durable_stories as stories
from tests.testapp.models import Charge

MANY = 1500
LIMITED = 300


def enqueue_small(count: int) -> list[Job]:
    return enqueue_many([stories.charge_once.bind(f"small-{n}") for n in range(count)])


def charges() -> Counter[str]:
    return Counter(Charge.objects.values_list("order_ref", flat=True))


def how_many(state: str) -> int:
    return Job.objects.filter(state=state).count()


def test_slow_jobs_behind_quick_ones_are_handed_back_and_run_elsewhere(
    workers: Workers, gates: Gates
) -> None:
    gates.open("body-quick")  # so the task has a pace, and jobs are claimed ahead
    enqueue_many([stories.gated.bind("quick") for _ in range(300)])
    slow = enqueue_many([stories.gated.bind(f"slow-{n}") for n in range(12)])
    first = workers.start("--slots", "4").has_lock()
    eventually(lambda: gates.count("body-slow-*") == 4, "the slow ones have all slots")
    eventually(lambda: how_many("SUCCESSFUL") == 300, "the quick ones are done")

    handed_back = Job.objects.filter(state="READY", lease_token__gt=0)
    eventually(handed_back.exists, "what was claimed ahead is handed back")
    eventually(lambda: how_many("READY") == 8, "all that waits for a slot is")
    workers.start("--slots", "8").has_lock()
    eventually(lambda: gates.count("body-slow-*") == 12, "another worker runs them")

    for n in range(12):
        gates.open(f"body-slow-{n}")
    for job in slow:
        job_is(job, "SUCCESSFUL")
    assert {(job.attempt, job.lost_count) for job in slow} == {(1, 0)}
    assert all(gates.count(f"body-slow-{n}") == 1 for n in range(12)), first.output


def test_a_place_under_a_limit_is_taken_as_soon_as_an_end_is_written(
    workers: Workers, gates: Gates
) -> None:
    long = stories.gated.enqueue("long")
    workers.start("--slots", "4", "--poll-interval", "60").has_lock()
    gates.reached("body-long")

    enqueue_many([stories.one_at_a_time.bind() for _ in range(LIMITED)])

    # told of no end at all, it would look four times a second
    eventually(lambda: how_many("SUCCESSFUL") == LIMITED, "one after the other, each at once", 60)
    gates.open("body-long")
    job_is(long, "SUCCESSFUL")


def test_told_to_stop_amid_many_small_jobs_it_leaves_none_behind(workers: Workers) -> None:
    enqueue_small(MANY)
    worker = workers.start().has_lock()
    eventually(lambda: how_many("SUCCESSFUL") > 100, "it is in the midst of them")

    worker.terminate()

    assert worker.exit_code() == 0
    assert how_many("RUNNING") == 0
    assert len(charges()) == how_many("SUCCESSFUL"), "an end was not flushed"
    assert set(charges().values()) == {1}
    assert workers.start("--burst").exit_code() == 0
    assert (how_many("SUCCESSFUL"), len(charges())) == (MANY, MANY)
    assert set(charges().values()) == {1}


def test_killed_amid_many_small_jobs_only_what_had_begun_counts_as_lost(workers: Workers) -> None:
    jobs = enqueue_small(MANY)
    worker = workers.start("--slots", "4").has_lock()
    eventually(lambda: how_many("SUCCESSFUL") > 100, "it is in the midst of them")

    worker.kill()

    workers.start("--lease", "2")
    eventually(lambda: how_many("SUCCESSFUL") == MANY, "all are done", 60)
    assert len(charges()) == MANY
    lost = Attempt.objects.filter(outcome="LOST").values_list("job_id", flat=True)
    counted = charges()
    again = [job.args[0] for job in jobs if counted[job.args[0]] > 1]
    assert len(again) <= len(lost), "a job ran twice that was not lost"
