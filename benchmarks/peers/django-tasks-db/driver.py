"""django-tasks-db: its database worker, one process, which runs one task after the other."""

from __future__ import annotations

import os
import sys
from typing import Any

import django
from driving import Options, delays, drained, main, process, rate

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django_tasks_db.models import DBTaskResult  # noqa: E402
from jobs import nothing, tell_time  # noqa: E402


def worker() -> Any:
    """It looks for the next task at once; each second while there is none."""
    quiet = ("--verbosity=0", "--no-startup-delay")
    return process(sys.executable, "-m", "django", "db_worker", *quiet)


def install(options: Options) -> None:
    call_command("migrate", verbosity=0)


def empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"truncate {DBTaskResult._meta.db_table}")


def enqueue(options: Options) -> dict[str, Any]:
    empty()
    nothing.enqueue()
    return rate(options["jobs"], lambda _: nothing.enqueue())


def drain(options: Options) -> dict[str, Any]:
    empty()
    with transaction.atomic():
        for _ in range(options["jobs"]):
            nothing.enqueue()
    left = DBTaskResult.objects.filter(status__in=["READY", "RUNNING"])
    return drained(options["jobs"], lambda: not left.exists(), worker())


def start(options: Options) -> dict[str, Any]:
    empty()
    return delays(options["jobs"], tell_time.enqueue, worker())


if __name__ == "__main__":
    main({"install": install, "enqueue": enqueue, "drain": drain, "start": start})
