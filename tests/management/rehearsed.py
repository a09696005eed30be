"""Jobs that came past a step, tasks after a deploy, and what ``durable replay`` says of them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

from django.core.management import CommandError, call_command
from django.db import connection

from django_durable import (
    Task,
    enqueue,
    sleep,
    step,
    task,
)
from django_durable.models import Job
from django_durable.testing import crash_after, run_jobs
from tests.builders import (
    HOUR,
    crashed_job,
    redeployed,
)

CALLS: list[str] = []
PATH = "replay.task"
MAY = "testapp.change_charge"


@step
def work(name: str) -> str:
    CALLS.append(name)
    return f"{name} done"


@step
def check() -> None:
    CALLS.append("check")


@task(path="replay.child")
def child(name: str = "") -> str:
    return name


def two_steps(name: str = "x") -> None:
    work(f"{name}1")
    work(f"{name}2")


def deployed(function: Callable[..., Any], **options: Any) -> Task[..., Any]:
    return redeployed(PATH, function, **options)


def begun_job(function: Callable[..., Any] = two_steps, *args: Any, after: str = "work") -> Job:
    """A job that came past a step, whose code is then no more called."""
    job = crashed_job(deployed(function), *args, after=after)
    CALLS.clear()
    return job


def obstacles(*options: str) -> list[dict[str, str]]:
    """What the command finds in the way."""
    out, code = StringIO(), 0
    try:
        call_command("durable", "replay", "--json", *options, stdout=out, stderr=StringIO())
    except CommandError as error:
        code = error.returncode
    found: list[dict[str, str]] = json.loads(out.getvalue())["obstacles"]
    assert code == (1 if found else 0)
    return found


def found(*options: str) -> str:
    (one,) = obstacles(*options)
    return f"{one['expected']} // {one['found']}"


@contextmanager
def nothing_written() -> Iterator[None]:
    before = rows_of_all_tables()
    yield
    assert rows_of_all_tables() == before


def rows_of_all_tables() -> dict[str, list[Any]]:
    dump = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table.startswith(("durable_", "testapp_")):
                cursor.execute(f"select t::text from {table} as t order by 1")
                dump[table] = cursor.fetchall()
    return dump


def waiting_jobs(count: int) -> list[Job]:
    """Jobs past a step that sleep."""

    def run() -> None:
        work("x1")
        sleep(HOUR)

    jobs = [enqueue(deployed(run)) for _ in range(count)]
    run_jobs()
    return jobs


def resumed_until(job: Job, place: str) -> None:
    with crash_after(place):
        run_jobs()
