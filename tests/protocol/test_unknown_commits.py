"""Whatever became of a write whose answer was lost, the job ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest

from django_durable.models import Job
from tests.protocol.lossy import Fate, Flight
from tests.protocol.runs import (
    declare_atomic,
    declare_atomic_task,
    declare_continuing,
    declare_enqueueing,
    declare_plain,
    declare_retrying,
    declare_undoing,
    undone_things,
)
from tests.protocol.stage import PATIENCE, Stage, is_held_up
from tests.protocol.stories_commits import CONTINUE, DECIDE, ENQUEUE, FINISH, SAVE, SUSPEND, UNDO
from tests.protocol.world import checkpoints_of, claimed_job, new_worker, perform, state_of
from tests.testapp.models import Charge


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A task, the statement to lose, and what there must be in the end."""

    path: str
    declare: Callable[[], Any]
    statement: str
    by_writer: bool = False
    state: str = "SUCCESSFUL"
    effects: int = 0
    children: int = 0
    lives: int = 0
    undone: int = 0


CASES = {
    "a checkpoint": Case(
        path="protocol.plain",
        declare=lambda: declare_plain(lambda: "value"),
        statement=SAVE,
        by_writer=True,
    ),
    "an outcome": Case(
        path="protocol.plain",
        declare=lambda: declare_plain(lambda: "value"),
        statement=FINISH,
        by_writer=True,
    ),
    "a retry": Case(
        path="protocol.retrying",
        declare=lambda: declare_retrying(lambda: None),
        statement=SUSPEND,
        by_writer=True,
        state="SCHEDULED",
    ),
    "a next life": Case(
        path="protocol.continuing",
        declare=declare_continuing,
        statement=CONTINUE,
        by_writer=True,
        state="READY",
        lives=1,
    ),
    "a decided end": Case(
        path="protocol.undoing",
        declare=declare_undoing,
        statement=DECIDE,
        by_writer=True,
        state="FAILED",
        undone=1,
    ),
    "a compensation": Case(
        path="protocol.undoing",
        declare=declare_undoing,
        statement=UNDO,
        by_writer=True,
        state="FAILED",
        undone=1,
    ),
    "an atomic step, and its compensation": Case(
        path="protocol.undoing",
        declare=lambda: declare_undoing(atomic=True),
        statement="COMMIT",
        state="FAILED",
    ),
    "an enqueue": Case(
        path="protocol.enqueueing", declare=declare_enqueueing, statement=ENQUEUE, children=1
    ),
    "an atomic step": Case(
        path="protocol.atomic", declare=declare_atomic, statement="COMMIT", effects=1, children=1
    ),
    "an atomic task": Case(
        path="protocol.atomic_task", declare=declare_atomic_task, statement="COMMIT", effects=1
    ),
}
FATES = [Fate.NEVER_ARRIVED, Fate.ANSWER_LOST]
ENDS: dict[str, Callable[[Flight], None]] = {"succeeds": Flight.land, "fails": Flight.crash}


def start(stage: Stage, case: Case, fate: Fate) -> tuple[Job, Future[None], Flight]:
    """Begin a run that loses the answer to the case's statement."""
    undone_things.clear()
    case.declare()
    job = claimed_job(new_worker(), case.path)
    slot = stage.actor("slot")
    if case.by_writer:
        writer, flight = stage.lossy_writer(case.statement, fate)
    else:
        writer, flight = stage.writer(), slot.do(stage.lose_connection, case.statement, fate)
    return job, slot.start(perform, job, writer), flight


def assert_done_once(job: Job, case: Case) -> None:
    children = Job.objects.filter(parent_id=job.pk).count()
    done = (state_of(job), Charge.objects.count(), children)
    assert done == (case.state, case.effects, case.children), checkpoints_of(job)
    row = Job.objects.get(pk=job.pk)
    assert (row.attempt, row.continued_count) == (1, case.lives)
    assert undone_things == ["a"] * case.undone


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.value)
def test_a_write_whose_answer_is_lost_is_done_once(stage: Stage, what: str, fate: Fate) -> None:
    job, running, _ = start(stage, CASES[what], fate)
    running.result(PATIENCE)

    assert_done_once(job, CASES[what])


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("end", ENDS)
def test_a_write_in_flight_is_repeated_behind_it_and_done_once(
    stage: Stage, what: str, end: str
) -> None:
    job, running, flight = start(stage, CASES[what], Fate.IN_FLIGHT)
    assert is_held_up(running), "the repetition did not wait for the write in flight"
    ENDS[end](flight)
    running.result(PATIENCE)

    assert_done_once(job, CASES[what])
