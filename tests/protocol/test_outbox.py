"""Events said inside atomic steps and tasks: written with the commit, as Django writes rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from django_durable import Task, emit_event, send_event, step, task, wait_for_event
from django_durable.models import Event, Job, Message
from django_durable.testing import run_jobs
from tests.families import claim_only, fresh
from tests.protocol.stage import Stage
from tests.protocol.world import perform


def in_step(body: Callable[[], None]) -> Task[..., Any]:
    atomic = step(name="atomic", atomic=True)(body)
    return task(path="tests.says")(lambda: atomic())


def in_task(body: Callable[[], None]) -> Task[..., Any]:
    return task(path="tests.says", atomic=True)(body)


def said() -> list[str]:
    return sorted(Event.objects.filter(emitted_at__isnull=False).values_list("key", flat=True))


def performed(called: Task[..., Any], stage: Stage) -> Job:
    (job,) = claim_only(called.enqueue())
    stage.actor("slot").do(perform, job, stage.writer())
    return fresh(job)


@pytest.mark.parametrize("place", [in_step, in_task])
def test_what_is_undone_by_a_savepoint_is_not_said(
    stage: Stage, place: Callable[..., Task[..., Any]]
) -> None:
    def body() -> None:
        with transaction.atomic():
            emit_event("kept")
        try:
            with transaction.atomic():
                emit_event("undone")
                raise LookupError
        except LookupError:
            emit_event("kept, too")

    assert performed(place(body), stage).state == "SUCCESSFUL"
    assert said() == ["kept", "kept, too"]


@pytest.mark.parametrize("place", [in_step, in_task])
def test_what_is_called_on_commit_says_it_at_once(
    stage: Stage, place: Callable[..., Task[..., Any]]
) -> None:
    waiting = task(path="tests.waits")(lambda: wait_for_event("go")).enqueue()

    def body() -> None:
        transaction.on_commit(lambda: emit_event("emitted"))
        transaction.on_commit(lambda: send_event(waiting, "go"))

    assert performed(place(body), stage).state == "SUCCESSFUL"
    assert said() == ["emitted"]
    assert Message.objects.get().job_id == waiting.pk


@pytest.mark.django_db
@pytest.mark.parametrize("place", [in_step, in_task])
def test_in_a_test_case_all_the_same(
    place: Callable[..., Task[..., Any]], django_capture_on_commit_callbacks: Any
) -> None:
    def body() -> None:
        emit_event("in it")
        transaction.on_commit(lambda: emit_event("after it"))

    place(body).enqueue()
    with django_capture_on_commit_callbacks() as callbacks:
        run_jobs()

    assert said() == ["after it", "in it"]
    assert callbacks == []
