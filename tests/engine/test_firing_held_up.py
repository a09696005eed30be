"""Schedules whose tick cannot be decided on because of what another transaction holds."""

from datetime import timedelta

import pytest
from django.db import transaction

from django_durable import Unique, enqueue, task
from tests.scheduled import due_since, fire, jobs_of, new_schedule, row_of, ticks_of
from tests.sessions import threads

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 60.0


def test_an_open_transaction_with_the_same_unique_job_stops_no_other_schedule() -> None:
    @task(path="held.unique", unique=Unique("unfinished"))
    def unique() -> None: ...

    new_schedule("held", task=unique, args=())
    new_schedule("free")
    tick = due_since("held", timedelta(seconds=5))
    due_since("free", timedelta(seconds=1))

    with threads(1) as start, transaction.atomic():
        enqueue(unique)
        assert start(fire).result(PATIENCE) == 1

    assert (ticks_of("held"), ticks_of("free")) == ([], ["ENQUEUED"])
    assert "lock timeout" in row_of("held").problem
    assert row_of("held").next_tick_at == tick
    fire()
    assert (ticks_of("held"), row_of("held").problem) == (["SKIPPED"], "")


def test_an_open_transaction_with_the_job_to_be_cancelled_stops_no_other_schedule() -> None:
    new_schedule("held", overlap="cancel")
    new_schedule("free")
    due_since("held", timedelta(seconds=9))
    fire()
    (job,) = jobs_of("held")
    due_since("held", timedelta(seconds=5))
    due_since("free", timedelta(seconds=1))

    with threads(1) as start, transaction.atomic():
        type(job).objects.select_for_update().get(pk=job.pk)
        assert start(fire).result(PATIENCE) == 1

    assert ticks_of("free") == ["ENQUEUED"]
    assert fire() == 1
    job.refresh()
    assert job.state == "CANCELLED"
