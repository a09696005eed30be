"""Waits, joins, events and maps: whatever became of a lost commit, each is done once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from django_durable import (
    MapResult,
    emit_event,
    gather,
    map_task,
    send_event,
    sleep,
    step,
    task,
    wait_for_event,
)
from django_durable.engine import registry
from django_durable.engine.clock import StatementTimestamp
from django_durable.exceptions import ChildFailedError, MapFailedError
from django_durable.models import Checkpoint, Event, Job, Message
from tests.families import claim_only, end, fresh
from tests.protocol.lossy import Fate, Flight
from tests.protocol.stage import PATIENCE, Stage, is_held_up
from tests.protocol.world import AT_ONCE, HOUR, JobState, perform

TAKE = "taken as ("
PATH = "protocol.waits"


@step
def note(text: str) -> str:
    return text


@task(path="protocol.child")
def child(n: int = 0) -> int:
    return n


def payload(**how: Any) -> Any:
    event = wait_for_event(**how)
    return None if event is None else event.payload


def failure_of(function: Callable[[], Any]) -> str:
    try:
        function()
    except (ChildFailedError, MapFailedError) as error:
        return f"{type(error).__name__}: {error.error_type}"
    return "none"


def waits_for_emitted() -> Any:
    return payload(key="go")


def waits_for_sent() -> Any:
    return payload(name="go")


def times_out() -> Any:
    return [payload(name="go", timeout=AT_ONCE), payload(name="go")]


def gathers() -> Any:
    return gather(lambda: payload(key="go"), lambda: payload(name="go"), child.start(3))


def joins() -> Any:
    return failure_of(lambda: child.start().result())


def maps() -> Any:
    found: MapResult[int] = map_task(child, range(3), min_successes=1)
    return [found.values, found.unfinished]


def fails_to_map() -> Any:
    return failure_of(lambda: map_task(child, range(3), max_concurrency=1))


def tells() -> Any:
    emit_event("go", 1)
    note("a")
    sleep(HOUR)
    return "told"


def sends() -> Any:
    send_event(Job.objects.get(task_path="protocol.child"), "go", 1)
    note("a")
    sleep(HOUR)
    return "told"


# --- what comes from outside


def emit(job: Job) -> None:
    emit_event("go", 1)


def send(job: Job) -> None:
    send_event(job, "go", 1)


def both(job: Job) -> None:
    emit(job)
    send(job)
    end(Job.objects.get(parent_id=job.pk), JobState.FAILED)


def nothing(job: Job) -> None:
    pass


def new_target(job: Job) -> None:
    child.enqueue()


def fail_child(job: Job) -> None:
    end(Job.objects.filter(parent_id=job.pk, state="READY").earliest("pk"), JobState.FAILED)


def one_succeeds(job: Job) -> None:
    end(Job.objects.filter(parent_id=job.pk).earliest("pk"))
    Job.objects.filter(parent_id=job.pk, state="SUCCESSFUL").update(encoded_return_value="7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A task; what is there before its run that loses the answer, and what comes after."""

    function: Callable[[], Any]
    runs: int = 0
    """So many runs before, in peace."""
    before: Callable[[Job], None] = nothing
    after: Callable[[Job], None] = nothing
    statement: str = "COMMIT"
    value: Any = None
    cancelled: int = 0


CASES = {
    "a suspension for an event": Case(function=waits_for_emitted, after=emit, value=1),
    "a suspension for a message": Case(function=waits_for_sent, after=send, value=1),
    "a message that is taken": Case(function=waits_for_sent, before=send, statement=TAKE, value=1),
    "a timeout": Case(function=times_out, after=send, value=[None, 1]),
    "a suspension of branches": Case(function=gathers, after=both, value=None),
    "a join": Case(function=joins, runs=1, before=fail_child, value="ChildFailedError: E"),
    "the children of a map": Case(
        function=maps, after=one_succeeds, value=[[7], [1, 2]], cancelled=2
    ),
    "the end of a map": Case(
        function=maps, runs=1, before=one_succeeds, value=[[7], [1, 2]], cancelled=2
    ),
    "the bad end of a map": Case(
        function=fails_to_map, runs=1, before=fail_child, value="MapFailedError: E", cancelled=2
    ),
    "an emit": Case(function=tells, value="told"),
    "a send": Case(function=sends, before=new_target, value="told"),
}
ENDS: dict[str, Callable[[Flight], None]] = {"succeeds": Flight.land, "fails": Flight.crash}
FATES = {"never arrived": Fate.NEVER_ARRIVED, "done": Fate.ANSWER_LOST} | dict.fromkeys(
    ENDS, Fate.IN_FLIGHT
)


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("fate", FATES)
def test_it_is_done_once(stage: Stage, what: str, fate: str) -> None:
    case = CASES[what]
    registry.forget(PATH)
    job = task(path=PATH)(case.function).enqueue()
    for _ in range(case.runs):
        run(stage, job)
    case.before(job)
    run_and_lose(stage, job, case, fate)
    case.after(job)
    for _ in range(4):
        run(stage, job)

    job = fresh(job)
    assert job.state == ("FAILED" if case.function is gathers else "SUCCESSFUL"), job.error
    assert case.function is gathers or job.return_value == case.value
    assert Event.objects.count() <= 1
    assert Message.objects.count() <= 1
    assert Job.objects.filter(parent_id=job.pk, state="CANCELLED").count() == case.cancelled


def run_and_lose(stage: Stage, job: Job, case: Case, fate: str) -> None:
    (claimed,) = claim_only(fresh(job))
    slot = stage.actor("slot")
    if case.statement == "COMMIT":
        writer, flight = stage.writer(), slot.do(stage.lose_connection, "COMMIT", FATES[fate])
    else:
        writer, flight = stage.lossy_writer(case.statement, FATES[fate])
    running = slot.start(perform, claimed, writer)
    if fate in ENDS:
        assert is_held_up(running), "the repetition did not wait for the write in flight"
        ENDS[fate](flight)
    running.result(PATIENCE)
    assert flight.is_lost


def run(stage: Stage, job: Job) -> None:
    """Run it, if it can be: at once what is to be looked at again, or later."""
    looked_at = Job.objects.filter(pk=job.pk, state="WAITING", due_at__year__lt=9999)
    looked_at.update(state="READY", wait_kind=None, due_at=StatementTimestamp())
    Checkpoint.objects.filter(job_id=job.pk, kind="sleep").update(
        next_attempt_at=StatementTimestamp()
    )
    if fresh(job).state == "READY":
        (claimed,) = claim_only(fresh(job))
        stage.actor("slot").do(perform, claimed, stage.writer())
