"""DBOS: one process that runs workflows from a queue; its client enqueues them."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
from dbos import DBOS, DBOSClient, DBOSConfig
from driving import (
    URL,
    Options,
    begins,
    delays,
    drained,
    eventually,
    forget,
    main,
    note,
    note_first,
    own_worker,
    rate,
)

QUEUE = "bench"
VERSION = "1"
SYSTEM_URL = URL.replace("postgres://", "postgresql://", 1)


@DBOS.step()
def take(number: int) -> int:
    return number


@DBOS.workflow(name="nothing")
def nothing(number: int = 0) -> None:
    note_first()


@DBOS.workflow(name="tell_time")
def tell_time(number: int) -> None:
    note(number)


@DBOS.workflow(name="take_steps")
def take_steps(count: int) -> None:
    note()
    for number in range(count):
        take(number)
    note()


def launch() -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": SYSTEM_URL,
        "application_version": VERSION,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(QUEUE)


def install(options: Options) -> None:
    launch()
    DBOS.destroy()


def connect() -> psycopg.Connection[Any]:
    return psycopg.connect(URL, autocommit=True)


def empty() -> None:
    with connect() as connection:
        connection.execute("truncate dbos.workflow_status cascade")


def enqueuer(workflow: str) -> Any:
    """A function that enqueues one workflow, in a commit of its own."""
    client = DBOSClient(system_database_url=SYSTEM_URL)
    options = {"workflow_name": workflow, "queue_name": QUEUE, "app_version": VERSION}
    return lambda number: client.enqueue(options, number)


def enqueue(options: Options) -> dict[str, Any]:
    empty()
    once = enqueuer("nothing")
    once(-1)
    return rate(options["jobs"], once)


def drain(options: Options) -> dict[str, Any]:
    empty()
    once = enqueuer("nothing")
    for number in range(options["jobs"]):
        once(number)
    left = (
        "select exists (select from dbos.workflow_status where status in ('ENQUEUED', 'PENDING'))"
    )
    with connect() as connection:

        def done() -> bool:
            return not connection.execute(left).fetchone()[0]

        return drained(options["jobs"], done, own_worker())


def start(options: Options) -> dict[str, Any]:
    empty()
    return delays(options["jobs"], enqueuer("tell_time"), own_worker())


def steps(options: Options) -> dict[str, Any]:
    """One workflow, from its first step's begin to the last one's record."""
    empty()
    forget()
    once = enqueuer("take_steps")
    with own_worker():
        once(options["steps"])
        eventually(lambda: len(begins()) == 2, "all steps are taken")
    (_, begun), (_, ended) = begins()
    return {"rate": options["steps"] / (ended - begun)}


def work(options: Options) -> None:
    launch()
    threading.Event().wait()


if __name__ == "__main__":
    main(
        {
            "install": install,
            "enqueue": enqueue,
            "drain": drain,
            "start": start,
            "steps": steps,
            "work": work,
        }
    )
