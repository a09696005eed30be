"""``durable prune``."""

from datetime import timedelta
from unittest import mock

import pytest
from django.db import connection
from django.test import TestCase, override_settings

from django_durable import emit_event, once, task, wait_for_event
from django_durable.engine import retention
from django_durable.engine.clock import StatementTimestamp
from django_durable.management.operations import reading
from django_durable.models import Attempt, Checkpoint, Event, IdempotencyKey, Job, Worker
from tests.builders import HOUR, ended_job, expired_key, redeployed, rewritten_job, statements
from tests.management.console import (
    claimed,
    copies,
    declared_task,
    document,
    live_worker,
    moved,
    typed,
)

WEEK = timedelta(days=7)


def old_job(state: str = "SUCCESSFUL", *, days: int = 8) -> Job:
    job = rewritten_job(
        declared_task("prune.task").enqueue(), state=state, finished_at=StatementTimestamp()
    )
    return moved(job, "finished_at", by=-timedelta(days=days))


def remaining() -> set[str]:
    return {str(pk) for pk in Job.objects.values_list("pk", flat=True)}


class PruneTests(TestCase):
    def test_deletes_what_is_kept_no_longer_by_state(self) -> None:
        old_job("SUCCESSFUL"), old_job("CANCELLED"), old_job("FAILED", days=91)
        kept = [old_job("SUCCESSFUL", days=6), old_job("FAILED", days=89)]

        text = typed("prune")

        assert remaining() == {str(job.pk) for job in kept}
        assert "A FAILED job is kept 90 days: DURABLE['RETENTION']['FAILED']." in text
        assert text.count("  1 SUCCESSFUL job deleted.") == 1

    def test_takes_along_what_belongs_to_a_job(self) -> None:
        def fails() -> None:
            raise ValueError

        job = ended_job(redeployed("prune.fails", fails))
        Checkpoint.objects.bulk_create([_checkpoint(job)])
        moved(job, "finished_at", by=-timedelta(days=91))

        typed("prune")

        assert not Attempt.objects.exists()
        assert not Checkpoint.objects.exists()

    def test_never_touches_live_jobs(self) -> None:
        called = declared_task()
        jobs = [
            called.enqueue(),
            called.using(delay=HOUR).enqueue(),
            rewritten_job(called.enqueue(), state="WAITING", wait_kind="blocked"),
            claimed(called.using(queue_name="q").enqueue(), live_worker()),
        ]
        for job in jobs:
            moved(job, "enqueued_at", "due_at", by=-timedelta(days=365))

        typed("prune")

        assert remaining() == {str(job.pk) for job in jobs}

    def test_spares_a_job_whose_key_lives_and_a_child_of_a_live_parent(self) -> None:
        keyed = declared_task("prune.task").using(
            idempotency_key="k", idempotency_retention=4 * WEEK
        )
        job = rewritten_job(keyed.enqueue(), state="SUCCESSFUL", finished_at=StatementTimestamp())
        moved(job, "finished_at", by=-2 * WEEK)
        parent = declared_task("prune.parent").enqueue()
        child = rewritten_job(old_job(), parent_id=parent.pk, origin="enqueue:prune.task")

        planned = document("prune", "--dry-run")["kinds"]
        kinds = document("prune")["kinds"]

        assert planned["SUCCESSFUL"] == kinds["SUCCESSFUL"]
        assert remaining() == {str(row.pk) for row in (job, parent, child)}
        assert kinds["SUCCESSFUL"]["spared"]["count"] == 2
        assert "2 SUCCESSFUL jobs spared" in typed("prune")
        expired_key("k")
        rewritten_job(parent, state="SUCCESSFUL", finished_at=StatementTimestamp())
        typed("prune")
        assert remaining() == {str(parent.pk)}
        assert not IdempotencyKey.objects.exists()

    def test_spares_children_of_failed_parents_and_parents_of_live_children(self) -> None:
        """The one may be found again by a retry, the other is settled with its children."""
        failed, parent = old_job("FAILED"), old_job()
        rewritten_job(old_job(), parent_id=failed.pk, origin="enqueue:prune.task")
        live = declared_task("prune.task").enqueue()
        rewritten_job(live, parent_id=parent.pk, origin="enqueue:prune.task")

        planned = document("prune", "--dry-run")["kinds"]
        kinds = document("prune")["kinds"]

        assert planned["SUCCESSFUL"] == kinds["SUCCESSFUL"]
        assert kinds["SUCCESSFUL"]["spared"]["count"] == 2
        assert len(remaining()) == 4

    def test_deletes_broadcast_events_but_for_those_waited_for(self) -> None:
        @task(path="prune.waits")
        def waits() -> None:
            wait_for_event(key="wanted")

        ended_job(waits)
        emit_event("old", 1)
        long_ago = StatementTimestamp() - timedelta(days=91)
        Event.objects.update(created_at=long_ago, emitted_at=None)

        planned = document("prune", "--dry-run")["kinds"]["events"]
        pruned = document("prune")["kinds"]["events"]

        assert planned == pruned
        assert (pruned["pruned"]["count"], pruned["spared"]["count"]) == (1, 1)
        assert Event.objects.get().key == "wanted"

    @override_settings(DURABLE={"RETENTION": {"EVENT": None}})
    def test_events_kept_for_ever_stay(self) -> None:
        emit_event("old", 1)
        Event.objects.update(
            created_at=StatementTimestamp() - timedelta(days=5000), emitted_at=None
        )

        assert "A broadcast event is kept for ever" in typed("prune")
        assert Event.objects.exists()

    def test_deletes_expired_keys_of_once(self) -> None:
        once("old", _nothing)
        once("new", _nothing)
        expired_key("old")

        assert document("prune")["kinds"]["keys"]["pruned"]["count"] == 1
        assert IdempotencyKey.objects.get().key == "new"

    def test_deletes_the_rows_of_workers_that_ended_long_ago(self) -> None:
        long_ago = StatementTimestamp() - timedelta(days=8)
        live_worker(stopped_at=long_ago), live_worker(lost_at=long_ago)
        recent = live_worker(stopped_at=StatementTimestamp())

        assert document("prune")["kinds"]["workers"]["pruned"]["count"] == 2
        assert Worker.objects.get().pk == recent

    @override_settings(DURABLE={"RETENTION": {"SUCCESSFUL": None}})
    def test_what_is_kept_for_ever_stays(self) -> None:
        job = old_job(days=5000)

        assert "A SUCCESSFUL job is kept for ever" in typed("prune")
        assert remaining() == {str(job.pk)}


@override_settings(
    DURABLE={"RETENTION": {"FAILED": None, "QUEUES": {"mails": {"SUCCESSFUL": timedelta(days=1)}}}}
)
class QueueTests(TestCase):
    def test_queues_with_lengths_of_their_own(self) -> None:
        rewritten_job(old_job(days=2), queue_name="mails")
        kept = old_job(days=2)

        planned = document("prune", "--dry-run")["kinds"]
        text = typed("prune")

        rule = "A SUCCESSFUL job of queue mails is kept 24 h"
        assert f"{rule}: DURABLE['RETENTION']['QUEUES']['mails']['SUCCESSFUL']." in text
        assert planned["mails/SUCCESSFUL"]["pruned"]["count"] == 1
        assert planned["SUCCESSFUL"]["pruned"]["count"] == 0
        assert remaining() == {str(kept.pk)}

    def test_one_queue_only(self) -> None:
        rewritten_job(old_job(days=2), queue_name="mails")
        rewritten_job(old_job("CANCELLED"), queue_name="mails")
        kept = [old_job(), rewritten_job(old_job("FAILED", days=91), queue_name="mails")]

        kinds = document("prune", "--queue", "mails")["kinds"]

        assert list(kinds) == ["mails/SUCCESSFUL", "mails/FAILED", "mails/CANCELLED"]
        assert remaining() == {str(job.pk) for job in kept}


class DryRunTests(TestCase):
    def test_says_what_would_go_and_deletes_nothing(self) -> None:
        copies(old_job(), 4)
        live_worker(stopped_at=StatementTimestamp() - timedelta(days=8))

        with statements() as sent:
            text = typed("prune", "--dry-run")
        before = document("prune", "--dry-run")

        assert "  5 SUCCESSFUL jobs would be deleted." in text
        assert not [statement for statement in sent if "delete" in statement.lower()]
        assert {k: v["pruned"] for k, v in before["kinds"].items()} == {
            k: v["pruned"] for k, v in document("prune")["kinds"].items()
        }
        assert (before["dry_run"], remaining()) == (True, set())

    def test_counts_no_further_than_a_bound(self) -> None:
        copies(old_job(), 4)

        with mock.patch.object(reading, "MOST", 3):
            assert "  3+ SUCCESSFUL jobs would be deleted." in typed("prune", "--dry-run")


class ChunkTests:
    @pytest.fixture(autouse=True)
    def _committing(self, transactional_db: None) -> None:
        copies(old_job(), 6)

    def test_goes_to_the_end_chunk_by_chunk(self) -> None:
        with statements() as sent:
            text = typed("prune", "--chunk", "3")

        deletions = [statement for statement in sent if "delete from durable_job " in statement]
        assert len(deletions) == 3 + 1 + 1  # 3, 3 and 1; none of each other state
        assert [line for line in text.splitlines() if "deleted" in line] == [
            "  3 SUCCESSFUL jobs deleted.",
            "  6 SUCCESSFUL jobs deleted.",
            "  7 SUCCESSFUL jobs deleted.",
        ]

    def test_what_was_deleted_before_an_end_stays_deleted_and_it_resumes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, calls = retention.prune_jobs, []

        def ends(*args: object, **kwargs: object) -> int:
            calls.append(1)
            if len(calls) > 1:
                raise KeyboardInterrupt
            return real(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(retention, "prune_jobs", ends)
        with pytest.raises(KeyboardInterrupt):
            typed("prune", "--chunk", "3")
        connection.close()

        assert Job.objects.count() == 4
        monkeypatch.setattr(retention, "prune_jobs", real)
        typed("prune", "--chunk", "3")
        assert Job.objects.count() == 0


def _nothing() -> None:
    pass


def _checkpoint(job: Job) -> Checkpoint:
    return Checkpoint(
        job_id=job.pk,
        identity="pack",
        seq=1,
        kind="plain",
        state="SUCCESSFUL",
        function="pack",
        value="1",
        lease_token=1,
        started_at=StatementTimestamp(),
        saved_at=StatementTimestamp(),
    )
