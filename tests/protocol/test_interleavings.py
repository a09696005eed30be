"""Interleavings that are easily got wrong: each once broke a promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from typing import Any, NoReturn

import psycopg
import pytest
from django.db import OperationalError, connections

from django_durable.engine import enqueueing, instances, liveness
from django_durable.engine import listener as listener_module
from django_durable.engine.checkpoints import NewCheckpoint, Saved
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.listener import Hooks, Lease, Listener
from django_durable.engine.sessions import connect
from django_durable.engine.sql import execute
from django_durable.engine.states import JobState
from django_durable.engine.writer import GroupWriter
from django_durable.models import Job
from tests.protocol.lossy import Fate
from tests.protocol.runs import declare_enqueueing, declare_plain
from tests.protocol.stage import ALIAS, PATIENCE, Stage, failure_of, truth
from tests.protocol.stories_claims import lock_row
from tests.protocol.stories_commits import SAVE
from tests.protocol.stories_losses import do_all_chores, new_maintenance
from tests.protocol.test_writer import has_pending
from tests.protocol.world import (
    AT_ONCE,
    claim,
    claimed_job,
    finish,
    new_checkpoint,
    new_worker,
    perform,
    retry,
    save,
    state_of,
    sweep,
    taken_over,
)
from tests.scenarios.harness import eventually


class WriterTests:
    def test_a_call_behind_a_reconnect_in_one_batch_is_answered(self, stage: Stage) -> None:
        """The reconnect closes the session; the next call of the batch fails; both are repeated."""
        sessions: list[Any] = []

        def connect_a_few_times() -> Any:
            sessions.append(connect(ALIAS))
            if len(sessions) > 4:
                raise ValueError("connected again and again")
            return sessions[-1]

        writer = GroupWriter(connect_a_few_times)
        inside, go_on = stage.gate(), stage.gate()
        leading = stage.actor("leader").start(writer.call, stopping_at(inside, go_on))
        assert inside.wait(PATIENCE)
        joining = stage.actor("main thread").start(writer.reconnect)
        eventually(lambda: joining.done() or has_pending(writer, 1), "the reconnect is asked for")
        before = len(writer._pending)
        calling = stage.actor("slot").start(writer.call, backend_pid)
        eventually(lambda: has_pending(writer, before + 1), "the call is pending")
        go_on.set()
        failures = [failure_of(future) for future in (leading, joining, calling)]
        for session in sessions:
            session.close()

        assert failures == [None, None, None]

    @pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
    def test_a_write_that_waited_too_long_is_repeated(
        self, stage: Stage, limit: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The role or the database sets a limit; an open transaction holds the job's row."""
        job = claimed_job(new_worker())
        slot, view = stage.actors("slot", "a view")
        view.begin()
        view.do(lock_row, job, "for no key update")
        writer = stage.writer()
        writer.call(lambda session: execute(session, f"set {limit} = '100ms'", {}))
        saving = slot.start(writer.save, new_checkpoint(job))
        eventually(lambda: saving.done() or "waits for a lock" in caplog.text, "the limit is over")
        view.rollback()

        assert failure_of(saving) is None
        assert saving.result().saved

    def test_a_job_that_did_its_work_is_not_failed_by_a_limit(
        self, stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A view holds the job's row for a moment just when the outcome is written."""
        body_ended, row_is_locked, was_refused = stage.gate(), stage.gate(), stage.gate()
        encode_error = instances.encode_error

        def encode_refusal(error: BaseException, **more: Any) -> str:
            was_refused.set()
            return encode_error(error, **more)

        def end() -> None:
            body_ended.set()
            assert row_is_locked.wait(PATIENCE)

        monkeypatch.setattr(instances, "encode_error", encode_refusal)
        declare_enqueueing(after=end)
        job = claimed_job(new_worker(), "protocol.enqueueing")
        view, writer = stage.actor("a view"), stage.writer()
        writer.call(lambda session: execute(session, "set lock_timeout = '1s'", {}))
        running = stage.actor("slot").start(perform, job, writer)
        assert body_ended.wait(PATIENCE)
        view.begin()
        view.do(lock_row, job, "for no key update")
        row_is_locked.set()
        eventually(
            lambda: was_refused.is_set() or "waits for a lock" in caplog.text, "the limit is over"
        )
        view.rollback()
        running.result(PATIENCE)

        assert state_of(job) == "SUCCESSFUL"


class EnqueueTests:
    def test_a_deadlock_of_an_enqueue_between_steps_is_repeated(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        victims: list[BaseException] = [
            psycopg.errors.DeadlockDetected("the server chose this one")
        ]
        insert_jobs = enqueueing.insert_jobs

        def insert_after_a_deadlock(*args: Any, **options: Any) -> Any:
            if victims:
                raise OperationalError from victims.pop()
            return insert_jobs(*args, **options)

        monkeypatch.setattr(enqueueing, "insert_jobs", insert_after_a_deadlock)
        declare_enqueueing()
        job = claimed_job(new_worker(), "protocol.enqueueing")
        stage.actor("slot").do(perform, job, stage.writer())

        assert state_of(job) == "SUCCESSFUL"


class LostWorkerTests:
    def test_sessions_of_the_lost_are_ended_though_the_declarer_died(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It died between its verdict and ending the sessions; the chores are everybody's."""
        worker_id = new_worker(lease=AT_ONCE)
        with frozen_session(worker_id):
            with monkeypatch.context() as dying:
                dying.setattr(liveness, "end_sessions", die_instead)
                failure = failure_of(stage.actor("declarer").start(look_for_lost))
            assert isinstance(failure, Died)

            do_all_chores(new_maintenance())

            eventually(lambda: not has_session(worker_id), "the lost hold their rows no more")

    def test_no_job_is_given_back_before_the_sessions_of_its_worker_ended(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another worker sweeps right after the verdict."""
        job = claimed_job(new_worker(lease=AT_ONCE))
        other, swept = stage.actor("another worker"), []
        end_sessions = liveness.end_sessions

        def sweep_and_end_sessions(*args: Any) -> int:
            swept.extend(other.do(sweep))
            return end_sessions(*args)

        monkeypatch.setattr(liveness, "end_sessions", sweep_and_end_sessions)
        new_maintenance().look_for_lost()

        assert swept == []
        assert state_of(job) == "READY"


def stopping_at(inside: Event, go_on: Event) -> Callable[[Any], None]:
    def operation(_: Any) -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    return operation


def backend_pid(session: Any) -> int:
    (pid,) = session.execute("select pg_backend_pid()").fetchone()
    return int(pid)


class Died(BaseException):
    """The process is gone."""


def die_instead(*_: Any) -> NoReturn:
    raise Died


def look_for_lost() -> None:
    try:
        new_maintenance().look_for_lost()
    finally:
        connections.close_all()


@contextmanager
def frozen_session(worker_id: int) -> Iterator[None]:
    """A session of a worker that is stopped inside a transaction, and that no timeout ends."""
    raw = connect(ALIAS)
    raw.execute("set idle_in_transaction_session_timeout = 0")
    raw.execute("select set_config('application_name', %s, false)", [f"durable:{worker_id}"])
    raw.execute("begin")
    try:
        yield
    finally:
        raw.close()


def has_session(worker_id: int) -> bool:
    return truth(
        "select exists (select from pg_stat_activity where application_name = %s)",
        f"durable:{worker_id}",
    )


class PruneTests:
    @pytest.mark.parametrize("end", [JobState.FAILED, JobState.CANCELLED])
    def test_the_children_of_a_parent_that_can_be_retried_are_kept(
        self, stage: Stage, end: JobState
    ) -> None:
        """Its replay must find them again, or it enqueues them a second time."""
        outcomes: list[str] = []

        def fail_at_first() -> None:
            outcomes.append("run")
            if len(outcomes) == 1:
                raise ValueError

        declare_enqueueing(after=fail_at_first)
        parent = claimed_job(new_worker(), "protocol.enqueueing")
        slot, writer = stage.actor("slot"), stage.writer()
        slot.do(perform, parent, writer)
        (child,) = claim(new_worker())
        slot.do(perform, child, writer)
        long_ago = StatementTimestamp() - timedelta(days=8)
        Job.objects.filter(pk=child.pk).update(finished_at=long_ago)
        Job.objects.filter(pk=parent.pk).update(state=end)

        do_all_chores(new_maintenance())
        retry(parent)
        (again,) = claim(new_worker())
        slot.do(perform, again, writer)

        assert state_of(parent) == "SUCCESSFUL"
        children = Job.objects.filter(parent_id=parent.pk)
        assert [one.pk for one in children] == [child.pk]


class AdoptionTests:
    def test_a_checkpoint_that_is_under_way_elsewhere_is_not_adopted(self, stage: Stage) -> None:
        """Between the conflict and the look, a successor has begun the step anew."""

        def fail() -> NoReturn:
            raise ValueError

        class TakenOverInBetween(GroupWriter):
            def save(self, checkpoint: NewCheckpoint) -> Saved:
                saved = super().save(checkpoint)
                finish(taken_over(job), JobState.FAILED)
                retry(job)
                (successor,) = claim(new_worker())
                assert save(successor, "fetch", state="STARTED", value=None).saved
                return saved

        seen = declare_plain(fail)
        job = claimed_job(new_worker(), "protocol.plain")
        saving, _ = stage.lossy_writer(SAVE, Fate.ANSWER_LOST, kind=TakenOverInBetween)
        stage.actor("slot").do(perform, job, saving)

        assert seen == [], f"user code saw {seen} of a step that has not ended"


class ListenerTests:
    def test_a_session_that_dies_right_after_it_opened_does_not_end_the_heartbeats(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when a server shuts down: it still lets in, and then ends the session."""
        opened: list[Any] = []

        def connect_to_a_dying_server(alias: str) -> Any:
            opened.append(connect(alias))
            if len(opened) <= 2:
                with pytest.raises(psycopg.OperationalError):
                    opened[-1].execute("select pg_terminate_backend(pg_backend_pid())")
            return opened[-1]

        monkeypatch.setattr(listener_module, "connect", connect_to_a_dying_server)
        listener = new_listener(stage)
        running = stage.actor("listener").start(listener._run)
        eventually(lambda: len(opened) > 2 or running.done(), "the listener went on, or ended")
        listener.stop()
        failure = failure_of(running)
        for session in opened:
            session.close()

        assert failure is None


def new_listener(stage: Stage) -> Listener:
    return Listener(
        worker_id=new_worker(),
        lease=Lease(timedelta(seconds=1)),
        alias=ALIAS,
        writer=stage.writer(),
        hooks=Hooks(woken=lambda _: None, cancelled=lambda _: None, lost=lambda: None),
    )
