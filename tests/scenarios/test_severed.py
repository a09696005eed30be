"""The answer to a commit is lost on the wire: nothing is done twice, nothing is forgotten."""

from collections.abc import Iterator

import pytest
from django.db import connection

from django_durable import enqueue
from django_durable.models import Attempt, Checkpoint, Worker
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.scenarios.severing import SeveringProxy
from tests.testapp import durable_stories as stories
from tests.testapp.models import Charge


@pytest.fixture
def proxy(transactional_db: None) -> Iterator[SeveringProxy]:
    made = SeveringProxy(connection.settings_dict)
    yield made
    made.close()


def refs() -> list[str]:
    return sorted(Charge.objects.values_list("order_ref", flat=True))


def test_a_plain_step_whose_save_went_unanswered_is_not_run_again(
    workers: Workers, gates: Gates, proxy: SeveringProxy
) -> None:
    job = enqueue(stories.inside_plain, "a")
    workers.start(DATABASE_URL=proxy.url())
    gates.reached("inside-a")

    proxy.cut_after(b"effect_then_gate")
    gates.open("inside-a")

    job_is(job, "SUCCESSFUL")
    eventually(proxy.cut.is_set, "the answer was cut off")
    assert len(refs()) == 1
    assert (job.lease_token, job.lost_count) == (1, 0)


def test_an_atomic_step_whose_commit_went_unanswered_has_its_effect_once(
    workers: Workers, gates: Gates, proxy: SeveringProxy
) -> None:
    job = enqueue(stories.inside_atomic, "a")
    workers.start(DATABASE_URL=proxy.url())
    gates.reached("begun-a")
    gates.open("begun-a")
    gates.reached("written-a")

    proxy.cut_after(b"reserve", b"COMMIT")  # not that of a chore
    gates.open("written-a")
    gates.open("after-a")

    job_is(job, "SUCCESSFUL")
    eventually(proxy.cut.is_set, "the answer was cut off")
    assert refs() == ["a:reserved"]
    assert Checkpoint.objects.filter(job_id=job.pk).count() == 1


def test_an_outcome_whose_write_went_unanswered_is_not_forgotten(
    workers: Workers, gates: Gates, proxy: SeveringProxy
) -> None:
    job = enqueue(stories.gated, "a")
    workers.start(DATABASE_URL=proxy.url())
    gates.reached("body-a")

    proxy.cut_after(b"SUCCESSFUL")
    gates.open("body-a")

    job_is(job, "SUCCESSFUL")
    eventually(proxy.cut.is_set, "the answer was cut off")
    assert gates.count("body-a") == 1
    assert not Attempt.objects.filter(job=job).exists()


def test_a_claim_that_went_unanswered_is_given_back_and_made_again(
    workers: Workers, gates: Gates, proxy: SeveringProxy
) -> None:
    worker = workers.start("--poll-interval", "0.2", DATABASE_URL=proxy.url())
    job_is(enqueue(stories.quick, "first"), "SUCCESSFUL")

    proxy.cut_after(b"update durable_job set", b"COMMIT")
    job = enqueue(stories.quick, "a")

    job_is(job, "SUCCESSFUL")
    eventually(proxy.cut.is_set, "the answer was cut off")
    assert gates.count("quick-a") == 1
    assert (job.attempt, job.lost_count, job.lease_token) == (1, 0, 2)
    assert worker.row is not None
    assert worker.row.lost_at is None


def test_a_worker_whose_sessions_are_all_ended_reconnects_and_goes_on(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.two_steps, "a")
    worker = workers.start("--lease", "3").has_lock()
    gates.reached("between-a")
    assert worker.row is not None
    worker_id = worker.row.pk

    with connection.cursor() as cursor:
        cursor.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s",
            [f"durable:{worker_id}"],
        )
        assert len(cursor.fetchall()) >= 3
    gates.open("between-a")

    job_is(job, "SUCCESSFUL")
    assert refs() == ["a:first", "a:second"]
    job_is(enqueue(stories.quick, "b"), "SUCCESSFUL")
    assert list(Worker.objects.filter(pid=worker.pid).values_list("lost_at", flat=True)) == [None]
