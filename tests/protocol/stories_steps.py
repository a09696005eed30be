"""Steps and what they enqueue: all in one commit, fenced last, and a start recorded first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db import connection, transaction

from django_durable.engine import atomic, intake, stepping
from django_durable.engine.atomic import LeaseLost, save_in_transaction
from django_durable.engine.enqueueing import NewJob, Parent
from django_durable.engine.replay import SUCCESSFUL, Recorded
from django_durable.engine.stepping import Call, encode_value
from django_durable.models import Job
from tests.protocol.rules import Rule, patched
from tests.protocol.runs import (
    declare_at_most_once,
    declare_atomic,
    declare_enqueueing,
)
from tests.protocol.stage import PATIENCE, Stage
from tests.protocol.world import (
    cancel,
    claimed_job,
    die,
    lose,
    new_worker,
    perform,
    state_of,
    sweep,
    taken_over,
)
from tests.testapp.models import Charge


def children_of(job: Job) -> int:
    return Job.objects.filter(parent_id=job.pk).count()


# --- at most once


def a_start_is_recorded_before_the_body(stage: Stage) -> None:
    """The process dies inside the body; nobody knows what it had done by then."""
    bodies: list[str] = []

    def die_in_the_first_body() -> None:
        bodies.append("body")
        if len(bodies) == 1:
            die()

    declare_at_most_once(die_in_the_first_body)
    job = claimed_job(new_worker(), "protocol.once")
    slot, writer = stage.actor("slot"), stage.writer()
    slot.do(perform, job, writer)
    slot.do(perform, taken_over(job), writer)

    assert len(bodies) == 1, f"an at-most-once body ran {len(bodies)} times"
    assert state_of(job) == "FAILED"


# --- one commit


def an_atomic_step_leaves_all_or_nothing(stage: Stage) -> None:
    """The process dies after the body, before the checkpoint is committed; another goes on."""
    declare_atomic()
    job = claimed_job(new_worker(), "protocol.atomic")
    slot, writer = stage.actor("slot"), stage.writer()
    with patched(atomic, "save_checkpoints", die_before_saving)():
        slot.do(perform, job, writer)
    left = (Charge.objects.count(), children_of(job))
    assert left == (0, 0), f"without its checkpoint a step left {left} charges and children"

    slot.do(perform, taken_over(job), writer)
    assert (Charge.objects.count(), children_of(job)) == (1, 1)
    assert state_of(job) == "SUCCESSFUL"


def die_before_saving(*_: Any) -> None:
    raise LeaseLost


def a_replay_finds_the_child_it_enqueued(stage: Stage) -> None:
    """The process dies right after an enqueue between steps, which is a commit of its own."""
    deaths = [die]
    declare_enqueueing(after=lambda: deaths.pop()() if deaths else None)
    job = claimed_job(new_worker(), "protocol.enqueueing")
    slot, writer = stage.actor("slot"), stage.writer()
    slot.do(perform, job, writer)
    slot.do(perform, taken_over(job), writer)

    assert state_of(job) == "SUCCESSFUL"
    assert children_of(job) == 1, f"{children_of(job)} children of one enqueue"


# --- the fence of an atomic step is its last statement


def a_long_atomic_body_holds_up_neither_cancelling_nor_the_sweep(stage: Stage) -> None:
    job, finished = long_atomic_body(stage)
    operator = stage.actor("operator")
    cancelling = operator.start(cancel, job)
    waits = operator.is_stopped_in(cancelling)
    assert job.worker_id is not None
    lose(job.worker_id)
    swept = sweep()
    finished()

    assert not waits, "cancelling waits for the body of an atomic step"
    assert swept == [job.pk]
    assert Charge.objects.count() == 0, "an atomic step committed after its job was taken over"


def long_atomic_body(stage: Stage) -> tuple[Job, Callable[[], None]]:
    """A job in the middle of an atomic body, and what lets it end."""
    inside, go_on = stage.gate(), stage.gate()

    def body() -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    declare_atomic(body)
    job = claimed_job(new_worker(), "protocol.atomic")
    running = stage.actor("slot").start(perform, job, stage.writer())
    assert inside.wait(PATIENCE)

    def finished() -> None:
        go_on.set()
        running.result(PATIENCE)

    return job, finished


# --- switched off


def prepare_without_a_start(call: Call) -> None:
    call.run.check_may_start()


def commit_the_body_before_its_checkpoint(
    call: Call, body: Callable[[], Any]
) -> tuple[Recorded, bool]:
    with transaction.atomic():
        value = body()
    checkpoint = call.checkpoint(SUCCESSFUL, value=encode_value(call, value))
    with transaction.atomic():
        cancelled = save_in_transaction(connection, checkpoint)
    return checkpoint.as_recorded(), cancelled


def fence_first(call: Call, body: Callable[[], Any]) -> tuple[Recorded, bool]:
    with transaction.atomic():
        with connection.cursor() as cursor:
            query = "select 1 from durable_job where id = %s for share"
            cursor.execute(query, [call.run.job.pk])
        return _try(call, body)


def without_origin(*args: Any) -> tuple[Parent, NewJob]:
    parent, new = _with_origin(*args)
    return parent, replace(new, origin=None)


_try = atomic._try
_with_origin = intake.with_origin

RULES = [
    Rule(
        name="start first",
        story=a_start_is_recorded_before_the_body,
        off={"unrecorded": patched(stepping, "prepare", prepare_without_a_start)},
        symptom="an at-most-once body ran 2 times",
    ),
    Rule(
        name="one commit",
        story=an_atomic_step_leaves_all_or_nothing,
        off={"two commits": patched(atomic, "_try", commit_the_body_before_its_checkpoint)},
        symptom="without its checkpoint a step left",
    ),
    Rule(
        name="child key",
        story=a_replay_finds_the_child_it_enqueued,
        off={"without": patched(intake, "with_origin", without_origin)},
        symptom="2 children of one enqueue",
    ),
    Rule(
        name="fence last",
        story=a_long_atomic_body_holds_up_neither_cancelling_nor_the_sweep,
        off={"first": patched(atomic, "_try", fence_first)},
        symptom="cancelling waits for the body",
    ),
]
