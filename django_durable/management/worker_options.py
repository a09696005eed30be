"""The options of ``manage.py durable_worker``: what each may be, and how a wrong one is refused."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from django_durable.conf import LONGEST_TIMEOUT, SHORTEST_LEASE, get_settings
from django_durable.engine.leash import Leash
from django_durable.engine.membership import WorkerOptions
from django_durable.engine.serving import Serving, check_pattern
from django_durable.engine.wear import MEGABYTE, too_much_memory
from django_durable.exceptions import InvalidOptionError


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
    if value > LONGEST_TIMEOUT:
        raise ArgumentTypeError(f"{text!r} is longer than {LONGEST_TIMEOUT.days} days.")
    return value


def number_to(most: int) -> Callable[[str], int]:
    """Takes numbers from 1 to ``most``."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= most:
            raise ArgumentTypeError(f"{text!r} is not a number from 1 to {most}.")
        return int(text)

    return number


def megabytes(text: str) -> int:
    """In bytes."""
    size = number_to(1_000_000)(text) * MEGABYTE
    if problem := too_much_memory(size):
        raise ArgumentTypeError(f"{text!r} is too little: before its first job {problem}")
    return size


def child(text: str) -> Leash:
    try:
        return Leash.parse(text)
    except (ValueError, OSError):
        raise ArgumentTypeError(f"{text!r}: only the supervisor gives this option.") from None


def add_options(parser: ArgumentParser) -> None:
    _add_work(parser)
    _add_timing(parser)
    _add_processes(parser)


def _add_work(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--queue",
        action="append",
        type=queue_pattern,
        metavar="NAME",
        dest="queues",
        help="serve this queue, or those that a pattern with * fits; --queue=-NAME leaves out; "
        "may be given several times (default: all)",
    )
    parser.add_argument(
        "--slots",
        type=number_to(1000),
        default=16,
        metavar="N",
        help="how many jobs to run at once (default: 16)",
    )
    parser.add_argument(
        "--burst",
        action="store_true",
        help="exit when nothing is ready any more",
    )


def _add_timing(parser: ArgumentParser) -> None:
    defaults = get_settings()
    parser.add_argument(
        "--grace",
        type=seconds,
        default=timedelta(seconds=30),
        metavar="SECONDS",
        help="how long running jobs may finish after the first signal (default: 30)",
    )
    parser.add_argument(
        "--lease",
        type=lease,
        default=defaults.LEASE,
        metavar="SECONDS",
        help="how long this worker counts as alive after a heartbeat (default: LEASE)",
    )
    parser.add_argument(
        "--poll-interval",
        type=positive_seconds,
        default=defaults.POLL_INTERVAL,
        metavar="SECONDS",
        help="how often to look for work (default: POLL_INTERVAL)",
    )
    parser.add_argument(
        "--no-listen",
        action="store_false",
        dest="listens",
        help="do without LISTEN/NOTIFY: poll only",
    )


def _add_processes(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        type=number_to(500),
        metavar="N",
        help="supervise so many worker processes, each with --slots (default: be one worker)",
    )
    parser.add_argument(
        "--max-jobs",
        type=number_to(10**9),
        metavar="N",
        help="leave after so many jobs, to be started anew; --processes does so",
    )
    parser.add_argument(
        "--max-memory",
        type=megabytes,
        metavar="MB",
        help="leave when the process takes more memory, to be started anew; --processes does so",
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="for development: start anew when code has changed",
    )
    parser.add_argument("--child", type=child, metavar="NUMBER:FD", help=SUPPRESS)


def worker_options(options: Mapping[str, Any]) -> WorkerOptions:
    return WorkerOptions(
        queues=served(options["queues"] or ()),
        slots=options["slots"],
        burst=options["burst"],
        grace=options["grace"],
        lease=options["lease"],
        poll_interval=options["poll_interval"],
        listens=options["listens"],
        max_jobs=options["max_jobs"],
        max_memory=options["max_memory"],
    )
