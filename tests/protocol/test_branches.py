"""Branches in threads of their own, as in a worker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db import connections

from django_durable import (
    agather,
    asleep,
    first,
    gather,
    send_event,
    step,
    task,
    wait_for_event,
)
from django_durable.engine import branches, registry
from django_durable.engine.checkpoints import load_checkpoints
from django_durable.engine.executor import execute
from django_durable.engine.run import Run, Writer
from django_durable.models import Job, Message
from tests.families import claim_only, fresh
from tests.protocol.stage import ALIAS, PATIENCE, Stage
from tests.protocol.world import HOUR


def perform(job: Job, writer: Writer) -> None:
    """Run a claimed job as a slot does, in the calling thread; its branches have their own."""
    records = load_checkpoints(ALIAS, [job.pk]).get(job.pk, [])
    execute(
        Run(
            job=job,
            task=registry.get_task(job.task_path),
            alias=ALIAS,
            records=records,
            writer=writer,
            parallel=True,
        )
    )


def performed(called: Any, stage: Stage) -> Job:
    (job,) = claim_only(called.enqueue())
    perform(job, stage.writer())
    return fresh(job)


def test_the_branches_of_an_outrun_branch_stop_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    begun, outrun = stage.gate(), stage.gate()
    stop_others = branches._stop_others

    def stop_others_and_tell(*args: Any) -> None:
        stop_others(*args)
        outrun.set()

    monkeypatch.setattr(branches, "_stop_others", stop_others_and_tell)

    @step
    def slow(name: str) -> None:
        done.append(name)
        begun.set()
        outrun.wait(PATIENCE)

    @step
    def fast() -> None:
        begun.wait(PATIENCE)

    @task(path="tests.outruns")
    def outruns() -> int:
        def other() -> None:
            gather(lambda: [slow("one"), slow("two")])

        return first(fast, other).index

    assert performed(outruns, stage).return_value == 0
    assert outrun.is_set()
    assert done == ["one"]


def test_a_slot_whose_job_waits_holds_no_connection(stage: Stage) -> None:
    @task(path="tests.waits")
    def waits() -> None:
        wait_for_event("go")

    (job,) = claim_only(waits.enqueue())

    def run_in_a_slot() -> bool:
        perform(job, stage.writer())
        return connections[ALIAS].connection is not None

    assert stage.actor("slot").do(run_in_a_slot) is False
    assert fresh(job).state == "WAITING"


def test_a_group_of_tasks_in_a_branch_may_wait(stage: Stage) -> None:
    @task(path="tests.groups")
    async def groups() -> None:
        async def waits() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(asleep(HOUR))

        await agather(waits())

    job = performed(groups, stage)
    assert (job.state, job.wait_kind) == ("WAITING", "timer")


def received(name: str) -> Any:
    event = wait_for_event(name)
    assert event is not None
    return event.payload


def test_a_message_that_an_outrun_branch_took_is_put_back(stage: Stage) -> None:
    @task(path="tests.selects")
    def selects() -> list[Any]:
        return [
            first(lambda: received("a"), lambda: received("b")).value,
            first(lambda: received("a"), lambda: received("b")).value,
        ]

    job = selects.enqueue()
    send_event(job, "a", 1)
    send_event(job, "b", 2)
    (job,) = claim_only(job)
    perform(job, stage.writer())

    assert sorted(fresh(job).return_value) == [1, 2]


def test_what_an_outrun_branch_went_on_from_stays(stage: Stage) -> None:
    took = stage.gate()

    @step
    def note() -> None:
        took.set()

    @step
    def slow() -> None:
        took.wait(PATIENCE)

    @task(path="tests.selects")
    def selects() -> int:
        return first(slow, lambda: [received("a"), note(), received("a"), received("b")]).index

    job = selects.enqueue()
    send_event(job, "a")
    (job,) = claim_only(job)
    perform(job, stage.writer())

    assert fresh(job).return_value == 0
    assert list(Message.objects.values_list("taken_as", flat=True)) == ["first/1/event:a"]
