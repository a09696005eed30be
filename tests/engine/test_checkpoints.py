"""Saving checkpoints: fenced by the lease, which is held to the commit; a final row stays."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from django_durable import step, task
from django_durable.engine.checkpoints import NewCheckpoint, Saved, save_checkpoints
from django_durable.models import Job
from tests.builders import checkpoints_of, crashed_job, ended_job, rewritten_job
from tests.sessions import second_session, threads, wait_until_blocked
from tests.testapp.models import Account

LOST = Saved(held=False, saved=False, cancelled=False)


@step
def early() -> int:
    return 1


@task
def only_early() -> int:
    return early()


def running_job() -> Job:
    """A job that runs, with a checkpoint."""
    return crashed_job(only_early, after="early")


def checkpoint(job: Job, identity: str = "late", **columns: Any) -> NewCheckpoint:
    defaults = {"lease_token": job.lease_token, "state": "SUCCESSFUL", "value": "1"}
    return NewCheckpoint(
        job_id=job.pk,
        identity=identity,
        seq=2,
        kind="plain",
        function="f",
        fingerprint="",
        attempt=1,
        elapsed=timedelta(0),
        **{**defaults, **columns},
    )


@pytest.mark.django_db
class FenceTests:
    def test_the_holder_of_the_lease_saves(self) -> None:
        job = running_job()

        (saved,) = save_checkpoints(connection, [checkpoint(job)])

        assert saved == Saved(held=True, saved=True, cancelled=False)
        assert list(checkpoints_of(job)) == ["early", "late"]

    @pytest.mark.parametrize("token", [0, 2])
    def test_another_token_saves_nothing(self, token: int) -> None:
        job = running_job()

        assert save_checkpoints(connection, [checkpoint(job, lease_token=token)]) == [LOST]
        assert list(checkpoints_of(job)) == ["early"]

    def test_the_right_token_saves_nothing_once_the_job_does_not_run(self) -> None:
        job = rewritten_job(running_job(), state="READY", worker_id=None)

        assert save_checkpoints(connection, [checkpoint(job)]) == [LOST]
        assert list(checkpoints_of(job)) == ["early"]

    def test_a_final_row_stays_and_a_started_one_is_ended(self) -> None:
        job = running_job()
        save_checkpoints(connection, [checkpoint(job, state="STARTED", value=None)])

        rows = [checkpoint(job, "early", value="7"), checkpoint(job, value="8")]
        answers = save_checkpoints(connection, rows)

        assert [answer.saved for answer in answers] == [False, True]
        assert [row.value for row in checkpoints_of(job).values()] == ["1", "8"]

    def test_a_request_to_cancel_comes_back_with_the_answer(self) -> None:
        job = running_job()
        rewritten_job(job, cancel_requested_at=job.enqueued_at)

        assert save_checkpoints(connection, [checkpoint(job)])[0].cancelled

    def test_one_lost_lease_in_a_batch_loses_only_its_own(self) -> None:
        first = running_job()
        second = rewritten_job(only_early.enqueue(), state="RUNNING", worker_id=1, lease_token=1)

        batch = [checkpoint(first), checkpoint(first, "x", lease_token=9), checkpoint(second)]
        answers = save_checkpoints(connection, batch)

        assert [answer.saved for answer in answers] == [True, False, True]


@pytest.mark.django_db
class CompensationTests:
    def test_what_undoes_a_step_marks_it_alone_and_among_others(self) -> None:
        job = running_job()
        save_checkpoints(connection, [checkpoint(job, compensation='{"path": "p"}')])
        undoing = [
            checkpoint(job, "compensation@1/late", undoes="late"),
            checkpoint(job, "compensation@1/early", undoes="early"),
            checkpoint(job, "more", compensation='{"path": "q"}'),
        ]

        answers = [
            *save_checkpoints(connection, undoing[:1]),
            *save_checkpoints(connection, undoing),
        ]

        assert [(answer.held, answer.saved) for answer in answers] == [
            (True, True), (True, False), (True, True), (True, True)
        ]  # fmt: skip
        rows = checkpoints_of(job)
        assert {name: row.state for name, row in rows.items()} == {
            "early": "COMPENSATED",
            "late": "COMPENSATED",
            "compensation@1/late": "SUCCESSFUL",
            "compensation@1/early": "SUCCESSFUL",
            "more": "SUCCESSFUL",
        }
        assert rows["late"].compensation == '{"path": "p"}'
        assert rows["more"].compensation == '{"path": "q"}'

    def test_it_marks_nothing_if_the_lease_is_lost_or_the_step_is_not_done(self) -> None:
        job = running_job()
        save_checkpoints(connection, [checkpoint(job, state="FAILED", value=None, error="{}")])

        rows = [
            checkpoint(job, "u", undoes="early", lease_token=9),
            checkpoint(job, "v", undoes="late"),
        ]
        answers = [save_checkpoints(connection, [row])[0] for row in rows]

        assert answers == [LOST, Saved(held=True, saved=True, cancelled=False)]
        assert [row.state for row in checkpoints_of(job).values()] == [
            "SUCCESSFUL", "FAILED", "SUCCESSFUL"
        ]  # fmt: skip

    def test_a_step_that_was_undone_is_saved_anew(self) -> None:
        job = running_job()
        save_checkpoints(connection, [checkpoint(job, "u", undoes="early")])
        other = {"kind": "atomic", "fingerprint": "2", "function": "g", "compensation": "{}"}
        batch = [checkpoint(job), replace(checkpoint(job, "early"), seq=7, **other)]

        assert all(answer.saved for answer in save_checkpoints(connection, batch))

        row = checkpoints_of(job)["early"]
        assert (row.seq, {name: getattr(row, name) for name in other}) == (7, other)
        assert row.state == "SUCCESSFUL"


@pytest.mark.django_db(transaction=True)
class HeldLeaseTests:
    def test_nobody_takes_the_job_over_before_the_commit(self) -> None:
        job = running_job()
        take_over = "update durable_job set lease_token = 9 where lease_token = %s"

        with second_session() as session, threads(1) as start:
            with transaction.atomic():
                save_checkpoints(connection, [checkpoint(job)])
                taken = start(lambda: session.execute(take_over, [job.lease_token]).rowcount)
                wait_until_blocked()
                seen = [row.identity for row in checkpoints_of(job).values()]
            assert taken.result(20) == 1

        assert seen == ["early", "late"]

    def test_a_connection_is_given_back_before_the_body_of_a_plain_step(self) -> None:
        held: list[bool] = []
        look = step(name="look")(lambda: held.append(connection.connection is not None))

        def body() -> None:
            Account.objects.count()
            held.append(connection.connection is not None)
            look()

        ended_job(task(path="looking")(body))

        assert held == [True, False]
