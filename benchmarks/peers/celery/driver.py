"""Celery: Redis, results ignored, one worker with its default pool of processes, long prefetch."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from driving import (
    URL,
    Options,
    begins,
    delays,
    eventually,
    forget,
    main,
    note,
    process,
    rate,
)

PREFETCH = 128
"""Messages taken ahead for each process of the pool, as its pages advise for short tasks."""

app = Celery("driver", broker=URL)
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=PREFETCH,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="nothing")
def nothing(number: int = 0) -> None:
    """Redis keeps no state of finished tasks, so each one writes that it ran."""
    note(number)


def worker(*options: str) -> Any:
    """A worker process; what workers tell one another is switched off, as for speed advised."""
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR")
    command = (sys.executable, "-m", "celery", "--app=driver", "worker")
    return process(*command, *quiet, *options)


def install(options: Options) -> None:
    empty()


def empty() -> None:
    with app.connection_for_write() as connection:
        connection.default_channel.client.flushall()


def enqueue(options: Options) -> dict[str, Any]:
    empty()
    nothing.delay()
    return rate(options["jobs"], lambda _: nothing.delay())


def drain(options: Options) -> dict[str, Any]:
    """From the first body to the last one: what is written later is written nowhere."""
    empty()
    forget()
    for _ in range(options["jobs"]):
        nothing.delay()
    with worker(*options.get("worker", ())):
        eventually(lambda: len(begins()) >= options["jobs"], f"{options['jobs']} tasks ran")
    times = sorted(at for _, at in begins())
    return {"rate": len(times) / (times[-1] - times[0])}


def start(options: Options) -> dict[str, Any]:
    empty()
    return delays(options["jobs"], nothing.delay, worker("--prefetch-multiplier=1"))


if __name__ == "__main__":
    main({"install": install, "enqueue": enqueue, "drain": drain, "start": start})
