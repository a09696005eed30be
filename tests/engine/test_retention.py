"""Pruning: old finished jobs go, in chunks; whatever is alive stays."""

from datetime import timedelta
from typing import NoReturn

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_durable import (
    cancel_job,
    emit_event,
    enqueue,
    enqueue_many,
    task,
    wait_for_event,
)
from django_durable.engine import pruning, retention
from django_durable.engine.clock import StatementTimestamp, machine_seconds
from django_durable.engine.pruning import Pruner
from django_durable.models import Attempt, Checkpoint, Event, IdempotencyKey, Job
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


def aged_by(interval: str, *, but_first: int) -> None:
    """All finished jobs but the first enqueued ones as finished 8 days ago, less an interval."""
    first = [job.pk for job in Job.objects.order_by("id")[:but_first]]
    with connection.cursor() as cursor:
        cursor.execute(
            "update durable_job set finished_at = finished_at - interval '8 days' + %s::interval "
            "where finished_at is not null and id <> all (%s)",
            [interval, first],
        )


RULE = retention.Rule("SUCCESSFUL", WEEK)


def pruned(limit: int = 100, rule: retention.Rule = RULE) -> int:
    return retention.prune_jobs(connection, rule, limit=limit).pruned


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


def test_a_job_with_live_children_is_spared() -> None:
    """They are settled with it when they end, and one that is held back gets its turn."""
    parent, child = enqueue(quick, "parent"), enqueue(quick.using(delay=timedelta(days=1)), "child")
    with connection.cursor() as cursor:
        cursor.execute(
            "update durable_job set parent_id = %s, origin = 'o' where id = %s",
            [parent.pk, child.pk],
        )
    run_jobs()
    aged()

    assert pruned() == 0
    Job.objects.filter(pk=child.pk).update(
        state="CANCELLED", finished_at=StatementTimestamp() - timedelta(days=1)
    )
    assert pruned() == 1


class QueueTests:
    """Queues with lengths of their own."""

    @pytest.fixture(autouse=True)
    def _of_three_queues(self) -> None:
        for name in ("mails", "audits", "default"):
            enqueue(quick.using(queue_name=name), name)
        run_jobs()
        aged()

    def left(self) -> set[str]:
        return set(Job.objects.values_list("queue_name", flat=True))

    def test_their_jobs_go_by_them_and_all_others_by_the_states(self, settings: Settings) -> None:
        settings.DURABLE = {
            "RETENTION": {
                "SUCCESSFUL": timedelta(days=30),
                "QUEUES": {"mails": {"SUCCESSFUL": WEEK}, "audits": {"SUCCESSFUL": None}},
            }
        }
        Pruner(connection).look()

        assert self.left() == {"audits", "default"}

    def test_one_kept_for_ever_stays_when_the_others_go(self, settings: Settings) -> None:
        settings.DURABLE = {"RETENTION": {"QUEUES": {"audits": {"SUCCESSFUL": None}}}}
        Pruner(connection).look()

        assert self.left() == {"audits"}

    def test_a_state_without_a_length_of_its_own_is_kept_as_everywhere(
        self, settings: Settings
    ) -> None:
        settings.DURABLE = {"RETENTION": {"QUEUES": {"audits": {"FAILED": None}}}}
        Pruner(connection).look()

        assert self.left() == set()


class PaceTests:
    """A look is bounded, goes on where the last one ended, and rests between."""

    @pytest.fixture(autouse=True)
    def _fast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No chunk takes long, however slow the machine is."""
        monkeypatch.setattr(pruning, "LOOK_SECONDS", 3600.0)

    def test_what_is_spared_does_not_stand_in_the_way_of_what_is_behind(self) -> None:
        for n in range(3):
            enqueue(quick.using(idempotency_key=str(n), idempotency_retention=4 * WEEK), "a")
        run_jobs()
        aged()
        enqueue(quick, "b")
        run_jobs()
        aged_by("1 hour", but_first=3)
        pruner = Pruner(connection, chunk=2)

        pauses = [pruner.look(), pruner.look()]

        assert Job.objects.count() == 3
        assert pauses[0] is not None
        assert pauses[1] is None

    def test_a_look_looks_at_no_more_than_a_chunk(self) -> None:
        enqueue_many(quick.bind(str(i)) for i in range(5))
        run_jobs()
        aged()
        pruner = Pruner(connection, chunk=2)

        pruner.look()

        assert Job.objects.count() == 3

    def test_a_pass_goes_on_where_the_last_one_ended_and_once_an_hour_from_the_top(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        enqueue(quick.using(idempotency_key="k", idempotency_retention=4 * WEEK), "a")
        run_jobs()
        aged()
        pruner = Pruner(connection)
        pruner.look()
        IdempotencyKey.objects.update(expires_at="2020-01-01T00:00Z")

        pruner.look()
        assert Job.objects.count() == 1
        monkeypatch.setattr(pruning, "machine_seconds", lambda: machine_seconds() + 3601)
        pruner.look()

        assert Job.objects.count() == 0

    def test_chunks_become_smaller_when_they_take_long(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        enqueue_many(quick.bind(str(i)) for i in range(100))
        run_jobs()
        aged()
        monkeypatch.setattr(pruning, "LOOK_SECONDS", 0.0)
        pruner = Pruner(connection, chunk=64)

        pruner.look()

        assert pruner.chunk < 64

    def test_a_chunk_that_the_server_ended_is_not_tried_again_as_large(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def timed_out(*_: object, **__: object) -> NoReturn:
            raise OperationalError("canceling statement due to statement timeout")

        monkeypatch.setattr(retention, "prune_jobs", timed_out)
        pruner = Pruner(connection, chunk=1000)

        with pytest.raises(OperationalError):
            pruner.look()

        assert pruner.chunk == pruning.SMALLEST_CHUNK

    def test_a_changed_setting_begins_anew(self, settings: Settings) -> None:
        enqueue(quick, "a")
        run_jobs()
        aged()
        settings.DURABLE = {"RETENTION": {"SUCCESSFUL": None}}
        pruner = Pruner(connection)
        pruner.look()
        assert Job.objects.count() == 1
        settings.DURABLE = {}

        pruner.look()

        assert Job.objects.count() == 0


class EventTests:
    def test_old_ones_go_emitted_or_not(self) -> None:
        old_event("emitted", emitted=OLD)
        old_event("never emitted")

        assert events_pruned() == 2
        assert not Event.objects.exists()

    def test_what_was_emitted_lately_stays(self) -> None:
        old_event("waited for long", emitted=timedelta(hours=1))
        emit_event("young", 1)

        assert events_pruned() == 0

    def test_one_that_a_job_waits_for_stays(self) -> None:
        job = enqueue(waits_for_event, "wanted")
        run_jobs()
        Event.objects.update(created_at=StatementTimestamp() - OLD)

        assert events_pruned() == 0
        cancel_job(job)
        Checkpoint.objects.filter(job_id=job.pk).update(state="SUCCESSFUL")
        assert events_pruned() == 1

    def test_it_works_in_chunks(self) -> None:
        for n in range(3):
            old_event(str(n))

        assert [events_pruned(limit=2) for _ in range(3)] == [2, 1, 0]

    def test_workers_prune_them_as_the_settings_say(self, settings: Settings) -> None:
        old_event("a")
        settings.DURABLE = {"RETENTION": {"EVENT": None}}
        Pruner(connection).look()
        assert Event.objects.count() == 1
        settings.DURABLE = {"RETENTION": {"EVENT": WEEK}}
        Pruner(connection).look()

        assert Event.objects.count() == 0


OLD = timedelta(days=91)


def old_event(key: str, *, emitted: timedelta | None = None) -> None:
    """An event that was first heard of long ago."""
    emit_event(key, 1)
    emitted_at = StatementTimestamp() - emitted if emitted else None
    created_at = StatementTimestamp() - OLD
    Event.objects.filter(key=key).update(created_at=created_at, emitted_at=emitted_at)


def events_pruned(limit: int = 100) -> int:
    return retention.prune_events(connection, timedelta(days=90), limit=limit)


@task(path="retention.waits")
def waits_for_event(key: str) -> object:
    return wait_for_event(key=key)
