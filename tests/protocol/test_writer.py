"""Group commit: a shared statement, each one's own answer, and nobody left waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import psycopg
import pytest

from django_durable.engine import checkpoints
from django_durable.engine import writer as module
from django_durable.engine.checkpoints import Saved
from django_durable.engine.sql import Connection
from django_durable.engine.states import JobState
from django_durable.engine.writer import Caller, GroupWriter
from django_durable.models import Job
from tests.protocol.lossy import Fate
from tests.protocol.stage import PATIENCE, Stage, failure_of
from tests.protocol.stories_commits import SAVE
from tests.protocol.world import (
    checkpoints_of,
    claimed_jobs,
    new_checkpoint,
    new_worker,
    outcome,
    state_of,
)
from tests.scenarios.harness import eventually


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches of checkpoints that were sent."""
    sizes: list[int] = []
    save = checkpoints.save_checkpoints

    def counting(connection: Any, rows: Any) -> list[Saved]:
        sizes.append(len(rows))
        return save(connection, rows)

    monkeypatch.setattr(module, "save_checkpoints", counting)
    return sizes


def together(
    stage: Stage, writer: GroupWriter, writes: list[Callable[[], Any]]
) -> list[Future[Any]]:
    """Have several threads write at once: while somebody else leads, they become one batch."""
    inside, go_on = stage.gate(), stage.gate()

    def lead(_: Any) -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    leading = stage.actor("leader").start(writer.call, lead)
    assert inside.wait(PATIENCE)
    futures = []
    for n, write in enumerate(writes, start=1):
        futures.append(stage.actor(f"slot {n}").start(write))
        eventually(partial(has_pending, writer, n), "the write is pending")
    go_on.set()
    leading.result(PATIENCE)
    return futures


def has_pending(writer: GroupWriter, count: int) -> bool:
    return len(writer._pending) == count


def saving(writer: GroupWriter, job: Job, **columns: Any) -> Callable[[], Saved]:
    return lambda: writer.save(new_checkpoint(job, **columns))


def test_those_who_come_together_share_a_statement(stage: Stage, batches: list[int]) -> None:
    writer, jobs = stage.writer(), claimed_jobs(new_worker(), 3)
    futures = together(stage, writer, [saving(writer, job) for job in jobs])

    assert [future.result(PATIENCE).saved for future in futures] == [True, True, True]
    assert batches == [3]


def test_each_gets_its_own_answer(stage: Stage) -> None:
    writer, jobs = stage.writer(), claimed_jobs(new_worker(), 3)
    jobs[1].lease_token += 1
    futures = together(stage, writer, [saving(writer, job) for job in jobs])

    assert [future.result(PATIENCE).held for future in futures] == [True, False, True]


def test_checkpoints_and_outcomes_of_one_batch_are_written_both(stage: Stage) -> None:
    writer, jobs = stage.writer(), claimed_jobs(new_worker(), 2)
    futures = together(
        stage, writer, [saving(writer, jobs[0]), lambda: writer.finish(outcome(jobs[1]))]
    )

    assert all(future.result(PATIENCE) for future in futures)
    assert (checkpoints_of(jobs[0]), state_of(jobs[1])) == ({"a": "SUCCESSFUL"}, "SUCCESSFUL")


@pytest.mark.parametrize("value", ["no json", '"\x00"'], ids=["no JSON", "a NUL"])
def test_a_bad_row_is_written_alone_and_its_neighbours_land(
    stage: Stage, batches: list[int], value: str
) -> None:
    writer, jobs = stage.writer(), claimed_jobs(new_worker(), 3)
    writes = [saving(writer, job) for job in jobs]
    writes[1] = saving(writer, jobs[1], value=value)
    futures = together(stage, writer, writes)

    assert [failure_of(future) is None for future in futures] == [True, False, True]
    assert isinstance(failure_of(futures[1]), psycopg.DataError)
    assert [len(checkpoints_of(job)) for job in jobs] == [1, 0, 1]
    assert batches == [3, 1, 1, 1]


def test_a_bad_end_does_not_cost_its_neighbours_their_answers(stage: Stage) -> None:
    writer, jobs = stage.writer(), claimed_jobs(new_worker(), 3)
    good, bad, failed = (
        outcome(jobs[0]),
        outcome(jobs[1], JobState.FAILED, error="no JSON"),
        outcome(jobs[2], JobState.FAILED, error="{}"),
    )
    futures = together(stage, writer, [partial(writer.finish, one) for one in (good, bad, failed)])

    assert isinstance(failure_of(futures[1]), psycopg.DataError)
    assert [state_of(job) for job in jobs] == ["SUCCESSFUL", "RUNNING", "FAILED"]
    assert futures[0].result(PATIENCE) is not None, "nobody is told that the job has ended"
    assert futures[2].result(PATIENCE) is not None


@pytest.mark.parametrize("fate", list(Fate), ids=lambda fate: fate.value)
def test_a_batch_whose_connection_is_lost_is_repeated(stage: Stage, fate: Fate) -> None:
    writer, flight = stage.lossy_writer(SAVE, fate)
    jobs = claimed_jobs(new_worker(), 3)
    futures = together(stage, writer, [saving(writer, job) for job in jobs])
    if fate is Fate.IN_FLIGHT:
        eventually(lambda: flight.is_up, "the write is in flight")
        flight.land()

    answers = [future.result(PATIENCE) for future in futures]
    assert [answer.held for answer in answers] == [True, True, True]
    assert [len(checkpoints_of(job)) for job in jobs] == [1, 1, 1]


def test_a_deadlock_is_repeated(stage: Stage) -> None:
    victims = [psycopg.errors.DeadlockDetected("the server chose this one")]

    def operation(_: Any) -> str:
        if victims:
            raise victims.pop()
        return "done"

    assert stage.actor("slot").do(stage.writer().call, operation) == "done"


def test_one_failing_call_of_a_batch_leaves_the_others_alone(stage: Stage) -> None:
    writer = stage.writer()

    def fail(_: Any) -> None:
        raise ValueError("not the database's fault")

    calls: list[Callable[[Any], Any]] = [lambda _: 1, fail, lambda _: 3]
    futures = together(stage, writer, [partial(writer.call, call) for call in calls])

    assert [futures[0].result(PATIENCE), futures[2].result(PATIENCE)] == [1, 3]
    assert isinstance(failure_of(futures[1]), ValueError)


def test_what_is_held_up_keeps_others_waiting_for_one_of_them_only(stage: Stage) -> None:
    """A dozen children end, whose parent's row is held by somebody: the other slots go on."""
    tries = threading.Semaphore(0)
    is_free = stage.gate()

    def held_up(_: Any) -> None:
        if not is_free.is_set():
            assert tries.acquire(timeout=PATIENCE)
            raise psycopg.errors.LockNotAvailable("somebody holds it")

    writer = stage.writer()
    futures = together(stage, writer, [lambda: writer.call(held_up)] * 6)
    tries.release()  # that of all together
    eventually(lambda: has_pending(writer, 0), "they are tried one by one")
    other = stage.actor("another slot").start(writer.call, lambda _: "done")
    eventually(partial(has_pending, writer, 1), "its write is pending")
    tries.release(2)

    assert other.result(PATIENCE) == "done"
    is_free.set()
    tries.release(1)
    assert [failure_of(future) for future in futures] == [None] * 6


def test_a_leader_that_fails_hands_over(stage: Stage) -> None:
    writer = stage.writer()

    def fail(_: Any) -> None:
        raise ValueError("not the database's fault")

    assert isinstance(failure_of(stage.actor("first").start(writer.call, fail)), ValueError)
    assert stage.actor("second").do(writer.call, lambda _: 2) == 2


def test_more_than_a_batch_is_written_in_several(
    stage: Stage, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_BATCH", 2)
    writer, jobs = stage.writer(), claimed_jobs(new_worker(), 5)
    futures = together(stage, writer, [saving(writer, job) for job in jobs])

    assert all(future.result(PATIENCE).saved for future in futures)
    assert batches == [2, 2, 1]


def answer(number: int, session: Connection) -> int:
    return number


class Hammer:
    """Many threads, many short writes: a lost wake-up leaves somebody waiting for ever."""

    THREADS, ROUNDS = 16, 250

    def __init__(self, writer: GroupWriter) -> None:
        self.writer = writer
        self.answers: list[int] = []
        self._is_over = False
        self._start = threading.Barrier(self.THREADS)
        self._threads = [
            threading.Thread(target=self._write, args=[n], daemon=True) for n in range(self.THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, number: int) -> None:
        self._start.wait(PATIENCE)
        for n in range(number * self.ROUNDS, (number + 1) * self.ROUNDS):
            if self._is_over:
                break
            self.answers.append(self.writer.call(partial(answer, n)))

    @property
    def is_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def is_stuck(self) -> bool:
        """Whether somebody waits, and nobody writes."""
        return len(self.writer._pending) == sum(thread.is_alive() for thread in self._threads) > 0

    def let_go(self) -> bool:
        """Wake whoever still waits; whether all have left."""
        self._is_over = True
        waiting, self.writer._pending = self.writer._pending, []
        for entry in waiting:
            entry.caller.left = 0
            entry.caller.wake()
        return self.is_done


def test_nobody_is_left_waiting_by_leaders_that_hand_over(stage: Stage) -> None:
    hammer = Hammer(stage.writer())
    eventually(lambda: hammer.is_done, "every write is answered", PATIENCE)

    assert sorted(hammer.answers) == list(range(hammer.THREADS * hammer.ROUNDS))
    assert (hammer.writer._pending, hammer.writer._has_leader) == ([], False)


def test_somebody_is_left_waiting_by_leaders_that_do_not_hand_over(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lead_without_handing_over(self: GroupWriter, own: Caller) -> None:
        with self._mutex:
            batch, self._pending = self._pending, []
        self._write(batch)
        for entry in batch:
            entry.caller.left = 0
            if entry.caller is not own:
                entry.caller.wake()

    monkeypatch.setattr(GroupWriter, "_lead", lead_without_handing_over)
    hammer = Hammer(stage.writer())

    eventually(lambda: hammer.is_stuck, "somebody is stuck", PATIENCE)
    eventually(hammer.let_go, "all have left", PATIENCE)
