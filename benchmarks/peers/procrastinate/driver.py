"""Procrastinate: asynchronous tasks in one worker process, many at once, LISTEN and NOTIFY on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from driving import URL, Options, delays, drained, main, note, note_first, own_worker
from procrastinate import App, PsycopgConnector

CONCURRENCY = 20
"""Tasks at once in the one worker; more is not faster."""

app = App(connector=PsycopgConnector(conninfo=URL, min_size=2, max_size=8))


@app.task(name="nothing")
async def nothing() -> None:
    note_first()


@app.task(name="tell_time")
async def tell_time(number: int) -> None:
    note(number)


def opened(work: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with app.open_async():
            return await work()

    return asyncio.run(run())


def install(options: Options) -> None:
    opened(app.schema_manager.apply_schema_async)


def connect() -> psycopg.Connection[Any]:
    return psycopg.connect(URL, autocommit=True)


def empty() -> None:
    with connect() as connection:
        connection.execute("truncate procrastinate_jobs, procrastinate_events cascade")


def enqueue(options: Options) -> dict[str, Any]:
    empty()

    async def measure() -> dict[str, Any]:
        await nothing.defer_async()
        begun = time.monotonic()
        for _ in range(options["jobs"]):
            await nothing.defer_async()
        return {"rate": options["jobs"] / (time.monotonic() - begun)}

    return opened(measure)


async def enqueue_at_once(jobs: int) -> dict[str, Any]:
    begun = time.monotonic()
    await nothing.batch_defer_async(*[{} for _ in range(jobs)])
    return {"rate": jobs / (time.monotonic() - begun)}


def bulk(options: Options) -> dict[str, Any]:
    empty()
    return opened(lambda: enqueue_at_once(options["jobs"]))


def drain(options: Options) -> dict[str, Any]:
    empty()
    opened(lambda: enqueue_at_once(options["jobs"]))
    with connect() as connection:
        connection.execute("analyze procrastinate_jobs")
        left = "select exists (select from procrastinate_jobs where status in ('todo', 'doing'))"

        def done() -> bool:
            return not connection.execute(left).fetchone()[0]

        return drained(options["jobs"], done, own_worker())


def start(options: Options) -> dict[str, Any]:
    empty()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(app.open_async())

    def defer(number: int) -> None:
        loop.run_until_complete(tell_time.defer_async(number=number))

    try:
        return delays(options["jobs"], defer, own_worker())
    finally:
        loop.run_until_complete(app.close_async())


def work(options: Options) -> None:
    concurrency = options.get("concurrency", CONCURRENCY)
    opened(lambda: app.run_worker_async(concurrency=concurrency, install_signal_handlers=False))


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
