"""``python -m example_project.demo`` tells the story; ``... demo serve`` keeps the shop open."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django_durable.contrib.embedded import EmbeddedServerError
from example_project.demo.database import Database, open_database
from example_project.demo.display import Display
from example_project.demo.errors import DemoError
from example_project.demo.evidence import Session, Snapshot
from example_project.demo.interruptions import Interruptions
from example_project.demo.pages import Browser
from example_project.demo.processes import Crew, find_port
from example_project.demo.proof import failures, prove
from example_project.demo.staff import Person
from example_project.demo.story import Plan, Story
from example_project.demo.watch import LOOK_INTERVAL_SECONDS, Watch

PASSWORD = "tea"
ADMIN = Person(username="admin", password=PASSWORD)
MANAGER = Person(username="manager", password=PASSWORD)
FEWEST_ORDERS = 100
FAVOURITE_PORT = 8000
"""Where ``serve`` opens the shop, if nobody else is there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0 if the proof holds."""
    parser = argparse.ArgumentParser(prog="python -m example_project.demo", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("prove", "serve"), default="prove")
    parser.add_argument("--orders", type=int, default=200, help="(prove) default: 200")
    parser.add_argument("--port", type=int, default=FAVOURITE_PORT, help="(serve) default: 8000")
    options = parser.parse_args(arguments)
    if options.orders < FEWEST_ORDERS:
        parser.error(f"With less than {FEWEST_ORDERS} orders nobody is at work to be killed.")
    interruptions = Interruptions()
    interruptions.install()
    try:
        if options.command == "serve":
            return serve(options.port, interruptions)
        plan = Plan(
            manager=MANAGER,
            clerk=ADMIN,
            orders=options.orders,
            double_clicks=options.orders // 10,
        )
        return tell_and_prove(plan, interruptions)
    except (DemoError, EmbeddedServerError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


def tell_and_prove(plan: Plan, interruptions: Interruptions) -> int:
    """Tell the story; say whether the proof holds, and how to look at what it left."""
    display = Display(plan.orders)
    with display, open_demo(display, interruptions, anew=True) as demo:
        port = open_shop(demo)
        story = Story(plan, crew=demo.crew, session=demo.session, display=display)
        findings = prove(story.tell(port))
        display.show_proof(findings)
        if failed := failures(findings):
            listed = "\n".join(f"  {finding}" for finding in failed)
            raise DemoError(f"It does not hold:\n{listed}")
    print(f"It holds, and took {display.elapsed:.0f} s. The orders and their jobs are still there:")
    print("make serve  shows them in the shop, its office and the admin.")
    return 0


def serve(port: int, interruptions: Interruptions) -> int:
    """Keep the shop and a worker up until a signal, or the end of one of them."""
    with Display() as display, open_demo(display, interruptions, anew=False) as demo:
        port = open_shop(demo, port)
        worker = demo.crew.start("worker", "durable_worker", "--slots=8")
        demo.watch.wait_for("the worker to register", lambda now: now.boot_of(worker.pid))
        print(
            f"\nThe shop:     http://127.0.0.1:{port}/"
            f"\nThe office:   http://127.0.0.1:{port}/office/  ({ADMIN.username} / {PASSWORD})"
            f"\nThe admin:    http://127.0.0.1:{port}/admin/  (the same)"
            f"\nApprovals:    http://127.0.0.1:{port}/durable/approvals/"
            f"  ({MANAGER.username} / {PASSWORD})"
            f"\nThe database: DATABASE_URL='{demo.database.url}'"
            f"\nThe logs:     {demo.crew.logs}"
            f"\n\nA worker is running, process {worker.pid}. Ctrl-C stops all.",
            flush=True,
        )
        with suppress(SystemExit):  # a signal is how this ends
            while True:
                demo.crew.check()
                time.sleep(LOOK_INTERVAL_SECONDS)
    print("All is stopped.")
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A database ready to be used, and a crew to use it."""

    database: Database
    session: Session
    crew: Crew
    watch: Watch


@contextmanager
def open_demo(display: Display, interruptions: Interruptions, *, anew: bool) -> Iterator[Demo]:
    """A migrated database, made anew or as it was left, and a crew to start processes with."""
    with open_logs() as logs, open_database(interruptions) as database:
        where = "an embedded PostgreSQL" if database.is_embedded else "the server in DATABASE_URL"
        display.say(f"Using {where}.")
        if anew:
            database.make_anew()
        elif not database.exists():
            database.create()
        with Crew(database_url=database.url, logs=logs, interruptions=interruptions) as crew:
            crew.run("migrate", "--verbosity=0")
            crew.run("open_shop", f"--password={PASSWORD}")
            with database.connect() as session:
                watch = Watch(session=session, on_look=lambda _: crew.check())
                yield Demo(database=database, session=session, crew=crew, watch=watch)


@contextmanager
def open_logs() -> Iterator[Path]:
    """A temporary folder for the processes' logs; after an error it stays."""
    logs = Path(tempfile.mkdtemp(prefix="durable-demo-"))
    is_kept = False
    try:
        yield logs
    except Exception:
        is_kept = any(logs.iterdir())
        if is_kept:
            print(f"\nThe logs are in {logs}.", file=sys.stderr)
        raise
    finally:
        if not is_kept:
            shutil.rmtree(logs)


def open_shop(demo: Demo, wish: int = 0) -> int:
    """Start the shop's site, and wait until it answers; its port."""
    port = find_port(wish)
    demo.crew.start("site", "runserver", "--noreload", f"127.0.0.1:{port}")

    def look(_: Snapshot) -> bool:
        try:
            return bool(Browser(port=port).get("/"))
        except (ConnectionError, TimeoutError):
            return False

    demo.watch.wait_for(f"the shop to answer on port {port}", look)
    return port


if __name__ == "__main__":
    sys.exit(main())
