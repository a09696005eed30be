"""Verbs in a user's transaction above READ COMMITTED: refused with 40001, or no wake-up is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import OperationalError, connection

from django_durable import emit_event, send_event
from django_durable.engine import waits
from django_durable.engine.faults import is_repeatable
from django_durable.engine.states import WaitKind
from django_durable.engine.waiting import lock_transaction
from django_durable.models import Job
from tests.families import MAP, claim_only, mapped_children, parent_job, states_of, waiting
from tests.protocol.stage import ALIAS, Actor, Stage
from tests.protocol.world import cancel, finish, new_checkpoint

LEVELS = ["read committed", "repeatable read", "serializable"]


def user_who_has_looked(stage: Stage, level: str) -> Actor:
    """Somebody whose transaction of this level began before all that follows."""
    user = stage.actor("user")

    def look() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"set transaction isolation level {level}")
            cursor.execute("select count(*) from durable_job")

    user.begin()
    user.do(look)
    return user


def done_or_refused(user: Actor, verb: Callable[[], object]) -> str:
    try:
        user.do(verb)
        user.commit()
    except OperationalError as error:
        user.rollback()
        return "refused" if is_repeatable(error) else str(error)
    return "done"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("verb", [cancel, finish])
def test_the_last_of_two_children(stage: Stage, level: str, verb: Callable[[Job], object]) -> None:
    """The other one ends meanwhile, which only locks the parent. An atomic task ends like this."""
    parent = parent_job()
    one, two = mapped_children(parent, 2, max_failures=9)
    (one,) = claim_only(one)
    if verb is finish:
        (two,) = claim_only(two)
    waiting(parent, MAP)
    user = user_who_has_looked(stage, level)
    finish(one)

    assert done_or_refused(user, lambda: verb(two)) == "done"
    assert states_of(parent) == ["READY"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("kind", ["emitted", "sent"])
def test_an_event_that_is_waited_for_meanwhile(
    stage: Stage, level: str, kind: str, *, is_known: bool
) -> None:
    job = parent_job()
    begun = new_checkpoint(job, "event:go", kind="event", state="STARTED", value=None)
    named = {"event_key": "go"} if kind == "emitted" else {"message_name": "go"}
    wait = waits.Wait(checkpoint=begun, kind=WaitKind.EVENT, reason="waits", **named)
    if is_known:
        with lock_transaction(ALIAS) as locking:
            waits.lock_waits(locking, [wait])
    user = user_who_has_looked(stage, level)
    with lock_transaction(ALIAS) as locking:
        waits.lock_waits(locking, [wait])
        waits.suspend_job(locking, [wait])
    verb = (lambda: emit_event("go")) if kind == "emitted" else (lambda: send_event(job, "go"))

    is_above = level != "read committed"
    assert done_or_refused(user, verb) == ("refused" if is_above else "done")
    assert states_of(job) == ["WAITING" if is_above else "READY"]
