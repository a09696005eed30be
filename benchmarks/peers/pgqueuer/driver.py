"""PgQueuer: asyncpg, uvloop, one connection, one worker process, batches as it offers them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import uvloop
from driving import URL, Options, delays, drained, main, note, note_first, own_worker
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

BATCH = 1000
"""Jobs taken, and outcomes written, at once, when there are many; more is not faster."""

Work = Callable[[Queries, asyncpg.Connection], Awaitable[Any]]


def with_queries(work: Work) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(URL)
        try:
            return await work(Queries(AsyncpgDriver(connection)), connection)
        finally:
            await connection.close()

    return uvloop.run(run())


def install(options: Options) -> None:
    with_queries(lambda queries, _: queries.install())


async def empty(queries: Queries) -> None:
    await queries.clear_queue()
    await queries.clear_queue_log()


async def enqueue_at_once(queries: Queries, jobs: int) -> None:
    await queries.enqueue(["nothing"] * jobs, [b""] * jobs, [0] * jobs)


def enqueue(options: Options) -> dict[str, Any]:
    async def measure(queries: Queries, _: asyncpg.Connection) -> dict[str, Any]:
        await empty(queries)
        begun = time.monotonic()
        for _number in range(options["jobs"]):
            await queries.enqueue("nothing", b"")
        return {"rate": options["jobs"] / (time.monotonic() - begun)}

    return with_queries(measure)


def bulk(options: Options) -> dict[str, Any]:
    async def measure(queries: Queries, _: asyncpg.Connection) -> dict[str, Any]:
        await empty(queries)
        begun = time.monotonic()
        await enqueue_at_once(queries, options["jobs"])
        return {"rate": options["jobs"] / (time.monotonic() - begun)}

    return with_queries(measure)


def drain(options: Options) -> dict[str, Any]:
    async def fill(queries: Queries, connection: asyncpg.Connection) -> None:
        await empty(queries)
        await enqueue_at_once(queries, options["jobs"])
        await connection.execute("analyze pgqueuer")

    with_queries(fill)
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(URL))

    def done() -> bool:
        found = connection.fetchval("select not exists (select from pgqueuer)")
        return bool(loop.run_until_complete(found))

    return drained(options["jobs"], done, own_worker(batch=BATCH))


def start(options: Options) -> dict[str, Any]:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(URL))
    queries = Queries(AsyncpgDriver(connection))
    loop.run_until_complete(empty(queries))

    def enqueue_one(number: int) -> None:
        loop.run_until_complete(queries.enqueue("tell_time", str(number).encode()))

    return delays(options["jobs"], enqueue_one, own_worker())


def work(options: Options) -> None:
    """A worker until it is told to end."""
    logging.disable(logging.WARNING)

    async def run() -> None:
        app = PgQueuer(AsyncpgDriver(await asyncpg.connect(URL)))

        @app.entrypoint("nothing")
        async def nothing(job: Job) -> None:
            note_first()

        @app.entrypoint("tell_time")
        async def tell_time(job: Job) -> None:
            note(int(job.payload or b"0"))

        await app.run(batch_size=options.get("batch", 10))

    uvloop.run(run())


if __name__ == "__main__":
    main(
        {
            "install": install,
            "enqueue": enqueue,
            "bulk": bulk,
            "drain": drain,
            "start": start,
            "work": work,
        }
    )
