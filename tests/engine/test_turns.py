"""A child that is held back among its siblings: nothing but its turn makes it ready."""

import pytest
from django.db import connection
from django.utils import timezone

from django_durable import send_event
from django_durable.engine import waits
from django_durable.engine.states import WaitKind
from django_durable.models import Job
from tests.builders import rewritten_job
from tests.families import claim_only, end, fresh, mapped_children, parent_job, states_of
from tests.protocol.world import new_checkpoint, retry

pytestmark = pytest.mark.django_db


def retried_child_that_waited(child: Job) -> Job:
    """It was suspended for an event in a branch, failed in another one, and is retried."""
    (child,) = claim_only(rewritten_job(child, state="READY", wait_kind=None))
    begun = new_checkpoint(child, "gather/0/event:go", kind="event", state="STARTED", value=None)
    wait = waits.Wait(checkpoint=begun, kind=WaitKind.EVENT, reason="waits", message_name="go")
    waits.suspend_job(connection, [wait])
    failed = {"state": "FAILED", "wait_kind": None, "finished_at": timezone.now()}
    retry(rewritten_job(child, **failed))
    return fresh(child)


def test_an_event_does_not() -> None:
    running, child = mapped_children(parent_job(), 2, max_concurrency=1)
    child = retried_child_that_waited(child)
    assert child.wait_kind == "limit"

    send_event(child, "go")
    assert fresh(child).wait_kind == "limit"
    end(running)

    assert states_of(child) == ["READY"]
