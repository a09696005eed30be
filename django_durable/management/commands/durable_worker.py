"""``manage.py durable_worker``: run jobs until told to stop."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_durable.conf import SHORTEST_LEASE, get_settings
from django_durable.engine.boot import NotReadyError
from django_durable.engine.membership import WorkerOptions
from django_durable.engine.serving import Serving, check_pattern
from django_durable.engine.worker import Worker
from django_durable.exceptions import InvalidOptionError

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def queue_pattern(text: str) -> str:
    if problem := check_pattern(text):
        raise ArgumentTypeError(f"{text!r}: {problem}")
    return text


def served(told: Sequence[str]) -> tuple[str, ...]:
    """The names and patterns. Raises: CommandError if together they make no sense."""
    try:
        Serving.of(told, known=get_settings().QUEUES)
    except InvalidOptionError as error:
        raise CommandError(f"--{error}", returncode=2) from error
    return tuple(told)


def seconds(text: str) -> timedelta:
    try:
        value = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds.") from None
    if value < timedelta(0):
        raise ArgumentTypeError(f"{text!r} is negative.")
    return value


def positive_seconds(text: str) -> timedelta:
    if not (value := seconds(text)):
        raise ArgumentTypeError(f"{text!r} must be more than zero.")
    return value


def lease(text: str) -> timedelta:
    value = seconds(text)
    if value < SHORTEST_LEASE:
        raise ArgumentTypeError(f"{text!r} is shorter than {SHORTEST_LEASE.total_seconds():g} s.")
    return value


def slots(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to 1000.")
    return int(text)


class Command(BaseCommand):
    help = "Runs jobs until SIGTERM or SIGINT; a second signal stops at once. Nothing is required."

    def add_arguments(self, parser: ArgumentParser) -> None:
        defaults = get_settings()
        add = parser.add_argument
        add(
            "--queue",
            action="append",
            type=queue_pattern,
            metavar="NAME",
            dest="queues",
            help="serve this queue, or those that a pattern with * fits; --queue=-NAME leaves out; "
            "may be given several times (default: all)",
        )
        add(
            "--slots",
            type=slots,
            default=16,
            metavar="N",
            help="how many jobs to run at once (default: 16)",
        )
        add("--burst", action="store_true", help="exit when nothing is ready any more")
        add(
            "--grace",
            type=seconds,
            default=timedelta(seconds=30),
            metavar="SECONDS",
            help="how long running jobs may finish after the first signal (default: 30)",
        )
        add(
            "--lease",
            type=lease,
            default=defaults.LEASE,
            metavar="SECONDS",
            help="how long this worker counts as alive after a heartbeat (default: LEASE)",
        )
        add(
            "--poll-interval",
            type=positive_seconds,
            default=defaults.POLL_INTERVAL,
            metavar="SECONDS",
            help="how often to look for work (default: POLL_INTERVAL)",
        )
        add("--no-listen", action="store_false", dest="listens",
            help="do without LISTEN/NOTIFY: poll only")  # fmt: skip

    def handle(self, **options: Any) -> None:
        configure_logging(int(options["verbosity"]))
        worker = Worker(
            WorkerOptions(
                queues=served(options["queues"] or ()),
                slots=options["slots"],
                burst=options["burst"],
                grace=options["grace"],
                lease=options["lease"],
                poll_interval=options["poll_interval"],
                listens=options["listens"],
            )
        )
        try:
            code = worker.run()
        except NotReadyError as error:
            raise CommandError(str(error)) from error
        leave(code)


def configure_logging(verbosity: int) -> None:
    """Log to standard error, if the project has not said where its logs go."""
    logger = logging.getLogger("django_durable")
    if logger.hasHandlers() or verbosity == 0:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)


def leave(code: int) -> None:
    """Exit without waiting for slots whose bodies go on: their jobs were handed back."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
