"""Absurd: its synchronous SDK over one connection, one worker process, jobs claimed in batches."""

from __future__ import annotations

from typing import Any

import absurdctl
import psycopg
from absurd_sdk import Absurd
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

BATCH = 100
"""Tasks claimed at once; they run one after the other, which is faster than its threads here."""


def install(options: Options) -> None:
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
    Absurd(URL).create_queue()


def connect() -> psycopg.Connection[Any]:
    return psycopg.connect(URL, autocommit=True)


def empty() -> None:
    with connect() as connection:
        names = ", ".join(f"absurd.{kind}_default" for kind in "trcew")
        connection.execute(f"truncate {names}")


def spawn(app: Absurd, task: str, number: int = 0) -> None:
    app.spawn(task, {"number": number}, queue="default")


def enqueue(options: Options) -> dict[str, Any]:
    empty()
    app = Absurd(URL)
    spawn(app, "nothing")
    return rate(options["jobs"], lambda _: spawn(app, "nothing"))


def drain(options: Options) -> dict[str, Any]:
    empty()
    with connect() as connection:
        with connection.transaction():
            app = Absurd(connection)
            for _ in range(options["jobs"]):
                spawn(app, "nothing")
        connection.execute("analyze absurd.t_default, absurd.r_default")
        left = "select exists (select from absurd.t_default where state <> 'completed')"

        def done() -> bool:
            return not connection.execute(left).fetchone()[0]

        return drained(options["jobs"], done, own_worker(batch=options.get("batch", BATCH)))


def start(options: Options) -> dict[str, Any]:
    empty()
    app = Absurd(URL)
    return delays(options["jobs"], lambda n: spawn(app, "tell_time", n), own_worker())


def steps(options: Options) -> dict[str, Any]:
    """One task, from its first step's begin to the last one's checkpoint."""
    empty()
    forget()
    app = Absurd(URL)
    with own_worker():
        spawn(app, "take_steps", options["steps"])
        eventually(lambda: len(begins()) == 2, "all steps are taken")
    (_, begun), (_, ended) = begins()
    return {"rate": options["steps"] / (ended - begun)}


def work(options: Options) -> None:
    app = Absurd(URL)

    @app.register_task(name="nothing")
    def nothing(params: Any, ctx: Any) -> None:
        note_first()

    @app.register_task(name="tell_time")
    def tell_time(params: Any, ctx: Any) -> None:
        note(params["number"])

    @app.register_task(name="take_steps")
    def take_steps(params: Any, ctx: Any) -> None:
        note()
        for number in range(params["number"]):
            ctx.step(f"note{number}", lambda number=number: number)
        note()

    app.start_worker(batch_size=options.get("batch", 1))


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
