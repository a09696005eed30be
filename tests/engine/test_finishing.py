"""The ends of jobs that a thread of their own writes: none waits for another."""

from __future__ import annotations

import pytest

from django_durable.engine import sessions
from django_durable.engine.executor import outcome_of
from django_durable.engine.finishing import Finisher
from django_durable.engine.run import Run
from django_durable.engine.states import JobState
from django_durable.engine.writer import GroupWriter
from django_durable.models import Job
from tests.engine.test_claimed_ahead import work
from tests.engine.test_executor import claimed_run
from tests.scenarios.harness import eventually
from tests.sessions import second_session

pytestmark = pytest.mark.django_db(transaction=True)


def state_of(run: Run) -> str:
    return Job.objects.get(pk=run.job.pk).state


def test_an_end_whose_row_somebody_holds_does_not_hold_up_the_others() -> None:
    writer = GroupWriter(lambda: sessions.connect("default"))
    written: list[Run] = []
    finisher = Finisher(writer, is_busy=lambda: False, written=written.extend)
    held, together, later = (claimed_run(work.enqueue(n)) for n in range(3))
    for run in (held, together):
        assert finisher.take(run, outcome_of(run, JobState.SUCCESSFUL, return_value="null"))

    with second_session() as other:
        other.execute("begin")
        other.execute("select 1 from durable_job where id = %s for update", [held.job.pk])
        finisher.start()
        eventually(lambda: state_of(together) == "SUCCESSFUL", "its batch is written")
        finisher.take(later, outcome_of(later, JobState.SUCCESSFUL, return_value="null"))
        eventually(lambda: state_of(later) == "SUCCESSFUL", "the next one is written")
        eventually(lambda: written == [together, later], "these two are told")
        assert state_of(held) == "RUNNING"
        other.execute("rollback")

    eventually(lambda: state_of(held) == "SUCCESSFUL", "it is tried again")
    eventually(lambda: written == [together, later, held], "it is told as well")
    writer.call(lambda connection: connection.close())
