"""How a worker finds its next job in a table full of others: finished ones, and future ones."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Thread
from typing import NamedTuple
from uuid import UUID

from benchmarks import raw
from benchmarks.lab import Lab, results_of
from benchmarks.measuring import AtMostTimes, Benchmark, Measure, Row, Sample, percentile
from benchmarks.starting import delays_of_jobs
from benchmarks.tasks import tell_time
from django_durable import enqueue

FINISHED = int(os.environ.get("BENCH_FINISHED", 10_000_000))
FUTURE = FINISHED // 10
JOBS = 300
WRITERS = 2
CHUNK = 500_000
PATIENCE_SECONDS = 100
"""Filling stops after so long; the figure then says how far it came."""
MOST_BYTES = 15 * 2**30

COLUMNS = """
select attname from pg_attribute
where attrelid = 'durable_job'::regclass and attnum > 0 and not attisdropped and attname <> 'id'
"""
INDEXES = """
select index.relname, pg_get_indexdef(index.oid), con.conname, pg_get_constraintdef(con.oid)
from pg_index
join pg_class as index on index.oid = pg_index.indexrelid
left join pg_constraint as con on con.conindid = index.oid and con.contype in ('p', 'u')
where pg_index.indrelid = 'durable_job'::regclass
"""
COPY = """
insert into durable_job (id, {columns})
select lpad(to_hex(%s::bigint + number), 32, '0')::uuid, {columns}
from durable_job as template, generate_series(1, %s) as number
where template.id = %s
"""


class Index(NamedTuple):
    """An index, and the constraint it serves if it serves one."""

    name: str
    definition: str
    constraint: str | None
    constraint_definition: str | None

    @property
    def drop(self) -> str:
        if self.constraint:
            return f"alter table durable_job drop constraint {self.constraint}"
        return f"drop index {self.name}"

    @property
    def create(self) -> str:
        if self.constraint:
            added = f"{self.constraint} {self.constraint_definition}"
            return f"alter table durable_job add constraint {added}"
        return self.definition


def templates() -> tuple[UUID, UUID]:
    """A finished job and a future one of the highest priority; a worker must be there."""
    finished = enqueue(tell_time)
    results_of([finished])
    future = enqueue(tell_time.using(priority=100, delay=timedelta(days=1)))
    return finished.pk, future.pk


def fill(lab: Lab) -> int:
    """Multiply both templates; how many finished ones there are. Takes a minute or two."""
    finished, future = templates()
    with lab.connect() as connection:
        indexes = [Index(*row) for row in connection.execute(INDEXES).fetchall()]
        columns = ", ".join(str(name) for (name,) in connection.execute(COLUMNS).fetchall())
        for index in indexes:
            connection.execute(index.drop)
        made = multiply(lab, columns, finished, FINISHED, first=1 << 40)
        multiply(lab, columns, future, made // 10, first=2 << 40)
        connection.execute("set maintenance_work_mem = '1GB'")
        for index in indexes:
            connection.execute(index.create)
        connection.execute("vacuum analyze durable_job")
    return made


def multiply(lab: Lab, columns: str, template: UUID, count: int, *, first: int) -> int:
    """Copy a row so often, in chunks, from several connections; how often it was in the end."""
    chunks = [(first + at, min(CHUNK, count - at)) for at in range(0, count, CHUNK)]
    until = time.monotonic() + PATIENCE_SECONDS
    made: list[int] = []

    def write() -> None:
        with lab.connect() as connection:
            statement = COPY.format(columns=columns)
            while time.monotonic() < until and not is_too_large(connection):
                with suppress(IndexError):
                    number, size = chunks.pop()
                    connection.execute(statement, (number, size, template))
                    made.append(size)
                    continue
                return

    writers = [Thread(target=write) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return sum(made)


def is_too_large(connection: raw.Connection) -> bool:
    row = connection.execute("select pg_total_relation_size('durable_job')").fetchone()
    assert row is not None  # an aggregate-free select of one value
    return int(str(row[0])) > MOST_BYTES


@contextmanager
def prepare(lab: Lab) -> Iterator[Measure]:
    with lab.worker():
        delays_of_jobs(JOBS // 3)  # to warm up
        empty = delays_of_jobs(JOBS)
        begun = time.monotonic()
        made = fill(lab)
        print(f"  {made:,} finished jobs in {time.monotonic() - begun:.0f} s", flush=True)
        lab.remarks["full"] = f"{made / 1e6:g} M finished, {made / 1e7:g} M future"
        delays_of_jobs(JOBS // 3)

        def measure() -> Sample:
            full = delays_of_jobs(JOBS)
            return {"ours": percentile(full, 99), "empty": percentile(empty, 99)}

        yield measure
    lab.clear()


FULL = Benchmark(
    name="full",
    prepare=prepare,
    runs=3,
    warm_up=False,
    rows=[
        Row(
            title="enqueue to start in a full table, p99",
            unit="ms",
            rivals=["empty"],
            beside="empty table",
            targets=[AtMostTimes(1.5, "empty", "in an empty one")],
        )
    ],
)
