"""``durable limit``: what limits there are, how much of them is in use, and changing them."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from django_durable.engine import overview
from django_durable.engine.overview import LimitOverview
from django_durable.engine.queues import NoSuchLimitError, bound_limit, bound_queue
from django_durable.exceptions import InvalidOptionError
from django_durable.management.operations.operation import (
    Operation,
    Options,
    positive,
    queue_name,
)
from django_durable.management.operations.output import Output, span
from django_durable.management.operations.reading import database_now, jobs_alias

HEADERS = ["LIMIT", "CONCURRENCY", "RATE", "DECLARED", "RUNNING", "KEYS", "MOST OF ONE KEY"]
NONE = "none"


def run_limit(output: Output, options: Options) -> None:
    """List the limits, or change one of them or those of a queue."""
    given = {name: options[name] for name in ("concurrency", "rate", "period")}
    changes = {k: None if v == NONE else v for k, v in given.items() if v is not None}
    name, queue, declared = options["name"], options["queue"], options["declared"]
    _check_choice(name, queue, changes, declared=declared)
    try:
        if queue and changes:
            bound_queue(jobs_alias(), queue, changes)
        elif changes or declared:
            bound_limit(jobs_alias(), name, None if declared else changes)
    except InvalidOptionError as error:
        raise CommandError(f"--{error}") from error
    except NoSuchLimitError:
        raise CommandError(_unknown(name)) from None
    _show_limits(output, name, queue)


def _check_choice(
    name: str | None, queue: str | None, changes: dict[str, Any], *, declared: bool
) -> None:
    """Raises: CommandError unless it is said what is to be changed, and how."""
    if name and queue:
        raise CommandError("Name a limit or --queue: not both.")
    if changes and declared:
        raise CommandError("--declared takes back what --concurrency, --rate and --period say.")
    if declared and queue:
        raise CommandError("No code declares limits of queues: say none, as --concurrency none.")
    if (changes or declared) and not (name or queue):
        raise CommandError("Which limit? Name it, or give --queue NAME.")


def _unknown(name: str) -> str:
    known = ", ".join(limit.name for limit in overview.read_limits(jobs_alias()))
    return (
        f'There is no limit "{name}". Known: {known or "none"}. A limit is there when a worker has '
        "started whose tasks declare it."
    )


def _show_limits(output: Output, name: str | None, queue: str | None) -> None:
    now = database_now()
    limits = [] if queue else overview.read_limits(jobs_alias())
    queues = [] if name else overview.read_queues(jobs_alias(), now)
    if name:
        limits = [limit for limit in limits if limit.name == name]
        if not limits:
            raise CommandError(_unknown(name))
    bounded = [q for q in queues if (q.name == queue if queue else bounds_in_words(q))]
    if output.as_json:
        output.document({"now": now, "limits": limits, "queues": bounded})
        return
    if limits:
        output.table(HEADERS, [_limit_row(limit) for limit in limits])
    for q in bounded:
        output.line(f"Queue {q.name}: {bounds_in_words(q) or 'no limits'}; {q.running} running.")
    if not limits and not bounded:
        output.line("No limits." if not queue else f"Queue {queue}: no limits; 0 running.")


def _limit_row(limit: LimitOverview) -> list[object]:
    rate = f"{limit.rate} per {span(limit.period)}" if limit.rate and limit.period else None
    declared = bounds_in_words(limit, "declared_")
    return [
        limit.name,
        limit.concurrency,
        rate,
        "the same" if overview.is_as_declared(limit) else declared or NONE,
        limit.usage.running,
        limit.usage.keys,
        limit.usage.most,
    ]


def bounds_in_words(row: Any, prefix: str = "") -> str:
    """``5 at once, 100 per 60 s``; empty: none."""
    concurrency, rate, period = (
        getattr(row, f"{prefix}{name}") for name in ("concurrency", "rate", "period")
    )
    parts = [f"{concurrency} at once"] if concurrency is not None else []
    if rate is not None and period is not None:
        parts.append(f"{rate} per {span(period)}")
    return ", ".join(parts)


# --- options


def seconds(text: str) -> timedelta:
    try:
        value = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds.") from None
    if value <= timedelta(0) or value > timedelta(days=36_500):
        raise ArgumentTypeError(f"{text!r} is not a positive number of seconds.")
    return value


def positive_or_none(text: str) -> int | str:
    return NONE if text == NONE else positive(text)


def add_limit_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="the limit; without one, all are listed")
    add("--queue", type=queue_name, metavar="NAME", help="the limits of this queue")
    add("--concurrency", type=positive_or_none, metavar="N", help="how many at once, or none")
    add("--rate", type=positive_or_none, metavar="N", help="how many start in a period, or none")
    add("--period", type=seconds, metavar="SECONDS", help="the length of the period")
    add("--declared", action="store_true", help="back to what the code declares")


OPERATION = Operation(
    name="limit",
    help="list limits, or change one while workers run",
    add_arguments=add_limit_arguments,
    run=run_limit,
)
