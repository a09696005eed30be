"""Verbs that wait: for a time, for an event, for a condition. A waiting job holds nothing.

>>> sleep(timedelta(hours=1))
>>> event = wait_for_event("approved", timeout=timedelta(days=3))
>>> if event is None: ...                   # timed out; otherwise event.payload

The slot and its connection are given up; the row remembers. All times are the database's, fixed by
the first suspension: neither a restart nor a wake-up starts a wait over. How a wait ended is saved
like a step's value, so a loop of waits replays exactly. The verbs stand in a task, outside its
steps and transactions. ``finally`` blocks run at each suspension.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from django_durable.conf import get_settings
from django_durable.engine import instances, waiting
from django_durable.engine.options import (
    check_backoff,
    check_duration,
    check_event_key,
    check_moment,
)
from django_durable.engine.polling import Poll, poll
from django_durable.engine.replay import MAILBOX, Recorded, check_name, keyed
from django_durable.engine.states import WaitKind
from django_durable.engine.waiting import Point, WaitRule
from django_durable.engine.waits import read_event, take_message
from django_durable.exceptions import InvalidOptionError

T = TypeVar("T")

TIMED_OUT = '{"timed_out":true}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent:
    """An event that came: a null payload is not a timeout."""

    name: str
    payload: Any
    sent_at: datetime


def sleep(duration: timedelta) -> None:
    """Let the job go on after this time, which may be days.

    Raises: InvalidOptionError if negative; WaitError where nothing can wait.
    """
    _refuse("duration", duration, check_duration(duration))
    reason = f"sleeps for {duration}"
    _wait_for_time(WaitRule(call="sleep()", reason=reason, timeout=duration, **_SLEEP))


def sleep_until(moment: datetime) -> None:
    """Let the job go on at this time (aware); at once if it is past.

    Raises: InvalidOptionError if naive; WaitError where nothing can wait.
    """
    _refuse("moment", moment, check_moment(moment))
    reason = f"sleeps until {moment.isoformat(sep=' ', timespec='seconds')}"
    _wait_for_time(WaitRule(call="sleep_until()", reason=reason, until=moment, **_SLEEP))


_SLEEP: dict[str, Any] = {"name": "sleep", "checkpoint_kind": "sleep", "kind": WaitKind.TIMER}


def _wait_for_time(rule: WaitRule) -> None:
    waiting.wait(rule)


def wait_for_event(
    name: str | None = None, *, key: str | None = None, timeout: timedelta | None = None
) -> ReceivedEvent | None:
    """The next event of this name sent to this job, or the broadcast event of this key.

    ``wait_for_event("approved")`` takes from the job's mailbox what ``send_event(job, "approved")``
    put there: in the order sent, each once, also what came before the wait.
    ``wait_for_event(key="rates/2026-11-20")`` gets what ``emit_event`` said, as does every other
    job that asks. None: the timeout passed first, and that is what a replay finds, too.

    Raises: InvalidOptionError, WaitError.
    """
    if (name is None) == (key is None):
        reason = "give either the name of an event sent to this job, or the key of a broadcast one."
        raise InvalidOptionError(option="name", value=name, reason=reason)
    if timeout is not None:
        _refuse("timeout", timeout, check_duration(timeout))
    if key is not None:
        return _received(key, waiting.wait(_broadcast_rule(key, timeout)))
    assert name is not None  # one of the two is given
    return _received(name, waiting.wait(_mailbox_rule(name, timeout)))


def _mailbox_rule(name: str, timeout: timedelta | None) -> WaitRule:
    check_name(name, what="event")
    return WaitRule(
        call="wait_for_event()",
        name=f"{MAILBOX}{name}",
        checkpoint_kind="event",
        kind=WaitKind.EVENT,
        reason=f'waits for event "{name}"',
        timeout=timeout,
        timed_out=TIMED_OUT,
        message_name=name,
        look=lambda point: _take(point, name),
    )


def _take(point: Point, name: str) -> Recorded | None:
    run, checkpoint = point.run, point.checkpoint()
    taken = run.writer.call(lambda connection: take_message(connection, checkpoint, name))
    if not taken.held:
        run.stop(waiting.LEASE_LOST)
    if taken.value is None:
        return None
    record = point.checkpoint(value=taken.value).as_recorded()
    run.settle(record, cancelled=taken.cancelled)
    return record


def _broadcast_rule(key: str, timeout: timedelta | None) -> WaitRule:
    _refuse("key", key, check_event_key(key))
    return WaitRule(
        call="wait_for_event()",
        name=keyed("broadcast", key),
        checkpoint_kind="event",
        kind=WaitKind.EVENT,
        reason=f'waits for event "{key}"',
        timeout=timeout,
        timed_out=TIMED_OUT,
        event_key=key,
        look=lambda point: look_for_event(point, key),
    )


def look_for_event(point: Point, key: str) -> Recorded | None:
    """Save a broadcast event as the end of a wait, if it was emitted."""
    value = point.run.writer.call(lambda connection: read_event(connection, key))
    return point.save(value=value) if value is not None else None


def _received(name: str, record: Recorded) -> ReceivedEvent | None:
    assert record.value is not None  # the end of a wait has a value
    stored = json.loads(record.value)
    if stored.get("timed_out"):
        return None
    return ReceivedEvent(
        name=name,
        payload=instances.decode(json.dumps(stored["payload"])),
        sent_at=datetime.fromisoformat(stored["sent_at"]),
    )


def wait_until(
    check: Callable[[], T],
    *,
    every: timedelta,
    backoff: float = 1.0,
    timeout: timedelta | None = None,
    name: str | None = None,
) -> T | None:
    """Ask again and again until ``check()`` is true, and return what it said; None: timed out.

    Between two looks, ``every`` apart and each time ``backoff`` times longer, nothing is held. Only
    the last answer is saved. ``name`` (default: the function's) is the identity. What ``check``
    raises is raised here, unsaved.

    Raises: InvalidOptionError, WaitError; NotSerializableError for an answer that cannot be stored.
    """
    _refuse("every", every, check_duration(every, least=timedelta(milliseconds=1)))
    if timeout is not None:
        _refuse("timeout", timeout, check_duration(timeout))
    _refuse("backoff", backoff, check_backoff(backoff))
    shown = check_name(name if name is not None else _name_of(check), what="condition")
    rule = WaitRule(
        call="wait_until()",
        name=f"condition:{shown}" if shown != "condition" else shown,
        checkpoint_kind="condition",
        kind=WaitKind.CONDITION,
        reason=f"waits until {shown}",
        timeout=timeout,
        timed_out=TIMED_OUT,
    )
    record = poll(Poll(rule=rule, check=check, every=every, backoff=backoff, encode=_encode_answer))
    assert record.value is not None  # the end of a wait has a value
    stored = json.loads(record.value)
    return None if stored.get("timed_out") else instances.decode(json.dumps(stored["answer"]))


def _name_of(check: Any) -> str:
    name: str = getattr(check, "__name__", "<unnamed>")
    return "condition" if name.startswith("<") else name


def _encode_answer(answer: Any) -> str:
    limit = get_settings().MAX_PAYLOAD_BYTES
    return f'{{"answer":{instances.encode(answer, path="the answer", limit=limit)}}}'


def _refuse(option: str, value: Any, problem: str | None) -> None:
    if problem:
        raise InvalidOptionError(option=option, value=value, reason=problem)


async def asleep(duration: timedelta) -> None:
    await sync_to_async(sleep, thread_sensitive=True)(duration)


async def asleep_until(moment: datetime) -> None:
    await sync_to_async(sleep_until, thread_sensitive=True)(moment)


async def await_for_event(
    name: str | None = None, *, key: str | None = None, timeout: timedelta | None = None
) -> ReceivedEvent | None:
    return await sync_to_async(wait_for_event, thread_sensitive=True)(
        name, key=key, timeout=timeout
    )


async def await_until(
    check: Callable[[], T],
    *,
    every: timedelta,
    backoff: float = 1.0,
    timeout: timedelta | None = None,
    name: str | None = None,
) -> T | None:
    """The same; ``check`` is synchronous and runs in the job's own thread."""
    return await sync_to_async(wait_until, thread_sensitive=True)(
        check, every=every, backoff=backoff, timeout=timeout, name=name
    )
