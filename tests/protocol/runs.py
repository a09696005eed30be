"""Tasks of the stories. Each tells what its parts saw, in the order in which they ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_durable import RetryPolicy, continue_as, current_job, enqueue, step, task
from django_durable.engine import registry
from tests.protocol.world import HOUR, state_of
from tests.testapp.models import Charge

PATIENT = RetryPolicy(max_attempts=3, initial_delay=HOUR, factor=1, jitter=False)


def state_in_database() -> str:
    job = current_job()
    assert job is not None
    return state_of(job)


def declare_plain(body: Callable[[], str]) -> list[str]:
    """``protocol.plain``: one step. What its task made of it."""
    seen: list[str] = []

    @step
    def fetch() -> str:
        return body()

    @task(path="protocol.plain")
    def plain() -> str:
        try:
            value = fetch()
        except Exception as error:
            seen.append(type(error).__name__)
            raise
        seen.append(value)
        return value

    return seen


def declare_atomic(body: Callable[[], Any] = lambda: None) -> None:
    """``protocol.atomic``: one atomic step, which charges and enqueues ``protocol.plain``."""
    declare_plain(lambda: "value")

    @step(atomic=True)
    def charge() -> int:
        body()
        enqueue_plain()
        return Charge.objects.create(order_ref="a").pk

    @task(path="protocol.atomic")
    def charging() -> int:
        return charge()


def declare_atomic_task() -> None:
    """``protocol.atomic_task``: makes a charge; body and outcome are one transaction."""

    @task(path="protocol.atomic_task", atomic=True)
    def charging() -> None:
        Charge.objects.create(order_ref="a")


def declare_retrying(body: Callable[[], Any]) -> None:
    """``protocol.retrying``: one step that fails each time, and may be tried thrice."""

    @step(retry=PATIENT)
    def failing() -> None:
        body()
        raise ConnectionResetError("try again")

    @task(path="protocol.retrying")
    def retrying() -> None:
        failing()


def put_back(ref: str) -> None:
    undone_things.append(ref)


@step(atomic=True)
def take_back(ref: str) -> None:
    Charge.objects.filter(order_ref=ref).delete()


undone_things: list[str] = []
"""What ``put_back`` was called for; its story empties it."""


def declare_undoing(
    before_the_end: Callable[[], object] = lambda: None, *, fails: bool = True, atomic: bool = False
) -> list[str]:
    """``protocol.undoing``: one step that can be undone. What was undone, if not ``atomic``."""
    undone_things.clear()

    @step(atomic=atomic, compensate=take_back if atomic else put_back)
    def take(ref: str) -> None:
        if atomic:
            Charge.objects.create(order_ref=ref)

    @task(path="protocol.undoing")
    def undoing() -> None:
        take("a")
        before_the_end()
        if fails:
            raise LookupError

    return undone_things


def declare_continuing() -> None:
    """``protocol.continuing``: one step, then it starts over."""

    @step
    def fetch() -> None:
        pass

    @task(path="protocol.continuing")
    def continuing(number: int = 0) -> None:
        fetch()
        continue_as(number + 1)


def declare_enqueueing(after: Callable[[], Any] = lambda: None) -> None:
    """``protocol.enqueueing``: enqueues ``protocol.plain`` between its steps."""
    declare_plain(lambda: "value")

    @task(path="protocol.enqueueing")
    def enqueueing() -> str:
        child = enqueue_plain()
        after()
        return child


def enqueue_plain() -> str:
    return str(enqueue(registry.get_task("protocol.plain")).pk)


def declare_at_most_once(body: Callable[[], Any]) -> None:
    """``protocol.once``: one at-most-once step."""

    @step(at_most_once=True)
    def post() -> None:
        body()

    @task(path="protocol.once")
    def posting() -> None:
        post()


def declare_two_steps(between: Callable[[], Any], second: Callable[[], Any]) -> None:
    """``protocol.two_steps``: something happens between its steps."""

    @step
    def one() -> int:
        return 1

    @step
    def two() -> None:
        second()

    @task(path="protocol.two_steps")
    def two_steps() -> None:
        one()
        between()
        two()
