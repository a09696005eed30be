"""Pruning: old finished jobs go, in chunks; whatever is alive stays."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_durable import enqueue, enqueue_many
from django_durable.engine import retention
from django_durable.models import Attempt, Checkpoint, IdempotencyKey, Job
from django_durable.testing import run_jobs
from tests.testapp.durable_stories import quick
from tests.testapp.tasks import fulfil

pytestmark = pytest.mark.django_db
WEEK = timedelta(days=7)


def aged(**columns: object) -> None:
    """Every finished job as if it had finished eight days ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update durable_job set finished_at = finished_at - interval '8 days' "
            "where finished_at is not null"
        )


def pruned(limit: int = 100) -> int:
    return retention.prune_jobs(connection, "SUCCESSFUL", WEEK, limit=limit)


@pytest.fixture(autouse=True)
def _gates(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLE_TEST_GATES", str(tmp_path))


def test_old_finished_jobs_go_with_their_checkpoints_and_attempts() -> None:
    enqueue(fulfil, "a")
    run_jobs()
    aged()

    assert pruned() == 1
    assert not Job.objects.exists()
    assert not Checkpoint.objects.exists()
    assert not Attempt.objects.exists()


def test_young_and_live_jobs_stay() -> None:
    enqueue(quick, "done")
    run_jobs()
    enqueue(quick, "ready")
    enqueue(quick.using(delay=timedelta(days=1)), "scheduled")
    with connection.cursor() as cursor:
        cursor.execute("update durable_job set enqueued_at = enqueued_at - interval '1 year'")

    assert pruned() == 0
    assert Job.objects.count() == 3


def test_it_works_in_chunks_and_goes_on_where_it_stopped() -> None:
    enqueue_many(quick.bind(str(i)) for i in range(5))
    run_jobs()
    aged()

    assert [pruned(limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_a_job_whose_key_still_answers_is_spared_until_it_expires() -> None:
    enqueue(quick.using(idempotency_key="k", idempotency_retention=timedelta(days=30)), "a")
    run_jobs()
    aged()

    assert pruned() == 0
    IdempotencyKey.objects.update(expires_at="2020-01-01T00:00Z")
    assert pruned() == 1
    assert not IdempotencyKey.objects.exists()


def test_a_job_whose_parent_is_not_finished_is_spared() -> None:
    parent = enqueue(quick.using(delay=timedelta(days=1)), "parent")
    child = enqueue(quick, "child")
    with connection.cursor() as cursor:
        cursor.execute(
            "update durable_job set parent_id = %s, origin = 'o' where id = %s",
            [parent.pk, child.pk],
        )
    run_jobs()
    aged()

    assert pruned() == 0
    assert Job.objects.filter(pk=child.pk).exists()


def test_a_chunk_is_one_statement() -> None:
    with CaptureQueriesContext(connection) as captured:
        pruned()

    assert len(captured) == 1
