"""What jobs asleep cost, and how fast they go on once their time has come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.apps import apps
from django.db import connection

from benchmarks.blocking import count_sessions
from benchmarks.lab import Lab, eventually, results_of
from benchmarks.measuring import AtLeast, AtMost, Benchmark, Measure, Row, Sample, thousands
from benchmarks.tasks import nap, tell_time
from django_durable import enqueue, enqueue_many

ASLEEP = 100_000
REAL = 500
"""So many fall asleep by themselves; the others are copies of their rows."""
SETTLE_SECONDS = 6
UNTIL_WAKING = timedelta(seconds=5)

COPY_JOBS = """
insert into durable_job (id, {columns})
select
    lpad(to_hex(number::bigint * 65536 + row_number() over (partition by number)), 32, '0')::uuid,
    {columns}
from durable_job, generate_series(1, %s) as number
where state = 'WAITING'
"""
COLUMNS = """
select string_agg(quote_ident(attname), ', ') from pg_attribute
where attrelid = 'durable_job'::regclass and attnum > 0 and not attisdropped and attname <> 'id'
"""


def put_to_sleep(lab: Lab) -> None:
    """Let some jobs fall asleep until far in the future, and copy them."""
    enqueue_many([nap.bind(datetime.now(UTC) + timedelta(days=1)) for _ in range(REAL)])
    rows = apps.get_model("durable", "Job").objects
    eventually(lambda: rows.filter(state="WAITING").count() == REAL, "jobs have fallen asleep")
    with connection.cursor() as cursor:
        cursor.execute(COLUMNS)
        columns = cursor.fetchone()[0]
        cursor.execute(COPY_JOBS.format(columns=columns), [ASLEEP // REAL - 1])
        cursor.execute("analyze durable_job")


def wake_all() -> float:
    """Let their time come, all at once and soon; how many a second were no more asleep.

    Their own time is later: each looks, and falls asleep again until then.
    """
    due = datetime.now(UTC) + UNTIL_WAKING
    with connection.cursor() as cursor:
        cursor.execute("update durable_job set due_at = %s where state = 'WAITING'", [due])
    rows = apps.get_model("durable", "Job").objects.filter(state="WAITING", due_at__lte=due)
    time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
    begun = time.monotonic()
    eventually(lambda: not rows.exists(), "all have woken", look=0.02)
    return ASLEEP / (time.monotonic() - begun)


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    jobs = apps.get_model("durable", "Job").objects

    def measure() -> Sample:
        lab.clear()
        with lab.worker() as worker:
            results_of([enqueue(tell_time)])  # the first end opens the engine's last session
            time.sleep(SETTLE_SECONDS)
            idle = count_sessions(worker.pk)
            put_to_sleep(lab)
            time.sleep(SETTLE_SECONDS)
            asleep = count_sessions(worker.pk)
            return {
                "slots": jobs.filter(state="RUNNING").count(),
                "connections": max(0, asleep - idle),
                "woken": wake_all(),
            }

    yield measure
    lab.clear()


SLEEP = Benchmark(
    name="sleep",
    prepare=prepare,
    runs=1,
    warm_up=False,
    rows=[
        Row(
            title=f"{thousands(ASLEEP)} jobs asleep, slots held",
            unit="",
            ours="slots",
            targets=[AtMost(0, "")],
        ),
        Row(
            title=f"{thousands(ASLEEP)} jobs asleep, connections beyond an idle worker's",
            unit="",
            ours="connections",
            targets=[AtMost(0, "")],
        ),
        Row(
            title=f"{thousands(ASLEEP)} jobs due at once, woken",
            unit="/s",
            ours="woken",
            targets=[AtLeast(5000, "/s")],
        ),
    ],
)
