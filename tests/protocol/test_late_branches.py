"""A step of a branch that overstays its timeout: its thread is given up, its siblings go on."""

from __future__ import annotations

from datetime import timedelta
from threading import Event
from typing import Any

from django_durable import first, gather, send_event, step, task, wait_for_event
from django_durable.engine import registry
from django_durable.engine.checkpoints import load_checkpoints
from django_durable.engine.run import Run
from django_durable.engine.slots import Slots
from django_durable.models import Job
from tests.builders import outcomes_of, policy
from tests.families import claim_only, fresh
from tests.protocol.stage import ALIAS, PATIENCE, Stage
from tests.scenarios.harness import eventually

SOON = timedelta(seconds=0.2)


def run_in_slots(stage: Stage, job: Job, *, given_up: Event | None = None) -> Slots:
    """Run a ready job as a worker does, until it runs no more."""
    (claimed,) = claim_only(job)
    slots = Slots(1, freed=lambda: None)
    slots.start()
    slots.put_all(
        [
            Run(
                job=claimed,
                task=registry.get_task(claimed.task_path),
                alias=ALIAS,
                records=load_checkpoints(ALIAS, [claimed.pk]).get(claimed.pk, []),
                writer=stage.writer(),
                parallel=True,
            )
        ]
    )

    def is_done() -> bool:
        slots.give_up_late()
        if given_up is not None and slots.given_up:
            given_up.set()
        return not slots.known_runs

    eventually(is_done, "the slot is free", PATIENCE)
    return slots


def test_its_siblings_end_first(stage: Stage) -> None:
    never, begun, given_up = stage.gate(), stage.gate(), stage.gate()

    @step(timeout=SOON)
    def slow() -> None:
        begun.wait(PATIENCE)
        never.wait(PATIENCE)

    @step(at_most_once=True)
    def letter() -> str:
        begun.set()
        given_up.wait(PATIENCE)
        return "sent"

    @task(path="tests.gathers")
    def gathers() -> list[str]:
        found = gather(slow, letter, return_exceptions=True)
        return [one if isinstance(one, str) else type(one).__name__ for one in found]

    job = gathers.enqueue()
    slots = run_in_slots(stage, job, given_up=given_up)
    assert (fresh(job).state, slots.given_up, slots.free) == ("READY", 1, 1)

    run_in_slots(stage, job)
    assert fresh(job).return_value == ["StepTimeoutError", "sent"]


def test_its_next_try_is_waited_for_with_what_the_others_wait_for(stage: Stage) -> None:
    never = stage.gate()

    @step(timeout=SOON, retry=policy(2))
    def slow() -> None:
        never.wait(PATIENCE)

    @task(path="tests.gathers")
    def gathers() -> Any:
        return gather(slow, lambda: wait_for_event("go"))

    job = gathers.enqueue()
    run_in_slots(stage, job)
    waiting = fresh(job)
    assert (waiting.state, waiting.wait_kind) == ("WAITING", "several")
    send_event(job, "go")
    run_in_slots(stage, job)

    assert fresh(job).due_at == waiting.due_at
    assert outcomes_of(job) == ["STEP_RETRYING"]


def test_a_body_that_ends_after_all_changes_nothing(stage: Stage) -> None:
    late, given_up = stage.gate(), stage.gate()

    @step(timeout=SOON)
    def slow() -> str:
        late.wait(PATIENCE)
        return "late"

    @step
    def sibling() -> str:
        given_up.wait(PATIENCE)
        late.set()
        return "in time"

    @task(path="tests.gathers")
    def gathers() -> Any:
        found = gather(slow, sibling, return_exceptions=True)
        return [one if isinstance(one, str) else type(one).__name__ for one in found]

    job = gathers.enqueue()
    run_in_slots(stage, job, given_up=given_up)
    run_in_slots(stage, job)

    assert fresh(job).return_value == ["StepTimeoutError", "in time"]


def test_branches_that_had_to_wait_for_a_thread_get_one(stage: Stage, monkeypatch: Any) -> None:
    monkeypatch.setattr("django_durable.engine.branches.MOST_THREADS", 1)
    never = stage.gate()

    @step(timeout=SOON)
    def slow() -> None:
        never.wait(PATIENCE)

    @step
    def quick() -> str:
        return "quick"

    @task(path="tests.firsts")
    def firsts() -> Any:
        return first(slow, quick).value

    job = firsts.enqueue()
    run_in_slots(stage, job)

    assert fresh(job).return_value == "quick"
