"""Waiting for a condition nobody announces: look, suspend, look again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NoReturn

from django_durable.engine import waiting
from django_durable.engine.replay import STARTED, Recorded
from django_durable.engine.run import ActiveStep, enter_step, leave_step
from django_durable.engine.threads import release_connections
from django_durable.engine.waiting import Point, WaitRule

LONGEST_PAUSE = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """A wait for ``check()`` to be true, asked in growing intervals."""

    rule: WaitRule
    check: Callable[[], Any]
    every: timedelta
    backoff: float
    encode: Callable[[Any], str]


def poll(asked: Poll) -> Recorded:
    """The recorded end of the wait. Raises: Suspension until it has one; what ``check`` raises."""
    run = waiting.require_wait(asked.rule.call)
    scope = run.scope
    scope.enter(asked.rule.call)
    try:
        found = waiting.find(run, asked.rule)
        return found if isinstance(found, Recorded) else _look(asked, found)
    finally:
        scope.leave()


def _look(asked: Poll, point: Point) -> Recorded:
    _wait_for_turn(point)
    answer = _check(asked, point)
    now, deadline = point.run.now(), _deadline(asked, point)
    if not answer and (deadline is None or now < deadline):
        _suspend(asked, point, left=deadline - now if deadline else None)
    return point.save(value=asked.encode(answer) if answer else asked.rule.timed_out)


def _wait_for_turn(point: Point) -> None:
    """Wait on if the next look is not due yet: the job was woken for something else."""
    earlier = point.earlier
    if earlier is not None and earlier.next_attempt_at is not None and not point.is_over:
        point.run.suspend(replace(point.wait, until=earlier.next_attempt_at, timeout=None))


def _suspend(asked: Poll, point: Point, left: timedelta | None) -> NoReturn:
    looks = point.earlier.attempt + 1 if point.earlier else 1
    pause = min(asked.every * min(asked.backoff ** (looks - 1), 1e9), LONGEST_PAUSE)
    if left is not None:
        pause = min(pause, left)
    checkpoint = replace(point.checkpoint(STARTED), attempt=looks)
    point.run.suspend(replace(point.wait, checkpoint=checkpoint, timeout=pause))


def _check(asked: Poll, point: Point) -> Any:
    """Ask, as a plain step's body would be run: nothing durable may stand inside."""
    release_connections()
    active = ActiveStep(
        name=asked.rule.name,
        identity=point.identity,
        attempt=1,
        namespace=point.run.job.id,
    )
    token = enter_step(active)
    try:
        return asked.check()
    finally:
        leave_step(token)


def _deadline(asked: Poll, point: Point) -> datetime | None:
    if asked.rule.timeout is None:
        return None
    begun = point.earlier.started_at if point.earlier else None
    return (begun or point.run.now()) + asked.rule.timeout
