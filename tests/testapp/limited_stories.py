"""Tasks under limits, which record when they were inside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import connection

from django_durable import Limit, RetryPolicy, current_job, task
from tests.scenarios.harness import pass_gate

RATE, PERIOD = 20, timedelta(seconds=1)
FAILS = 2
"""How often those fail that fail."""


@contextmanager
def inside(place: str, key: str, number: int) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into testapp_stay (place, key, number, began_at)"
            " values (%s, %s, %s, clock_timestamp()) returning id",
            [place, key, number],
        )
        (stay_id,) = cursor.fetchone()
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "update testapp_stay set ended_at = clock_timestamp() where id = %s", [stay_id]
            )


@task(
    path="stories.by_key",
    limit=Limit("stories.by_key", concurrency=2, key=lambda key, number, seconds: key),
)
def by_key(key: str, number: int, seconds: float) -> None:
    with inside("by_key", key, number):
        time.sleep(seconds)


@task(path="stories.until_open", limit=Limit("stories.until_open", concurrency=2))
def until_open(number: int) -> None:
    """Stays until the gate is open."""
    with inside("until_open", "", number):
        pass_gate("open")


@task(path="stories.in_queue", queue_name="narrow")
def in_queue(number: int, seconds: float) -> None:
    with inside("in_queue", "", number):
        time.sleep(seconds)


@task(path="stories.one_place", limit=Limit("stories.one_place", concurrency=1))
def one_place(ref: str) -> None:
    pass_gate(ref)


@task(
    path="stories.in_order",
    limit=Limit("stories.in_order", concurrency=1, key=lambda key, number, fails=False: key),
    retry=RetryPolicy(max_attempts=FAILS + 1, initial_delay=timedelta(seconds=0.2), jitter=False),
)
def in_order(key: str, number: int, fails: bool = False) -> None:
    with inside("in_order", key, number):
        if fails and current_job().attempt <= FAILS:
            raise ValueError("not yet")


@task(path="stories.rated", limit=Limit("stories.rated", rate=RATE, period=PERIOD))
def rated(number: int) -> None:
    with inside("rated", "", number):
        pass
