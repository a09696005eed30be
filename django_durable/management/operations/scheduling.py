"""``durable schedule VERB NAME``: look at one schedule, and act on it."""

from __future__ import annotations

import json
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, get_args

from django.core.management.base import CommandError
from django.utils import timezone

from django_durable import schedules as verbs
from django_durable.cron import Cron, Missed, Overlap
from django_durable.engine import declaring, registry
from django_durable.exceptions import DurableError
from django_durable.management.operations import schedules
from django_durable.management.operations.operation import Operation, Options, not_blank
from django_durable.management.operations.output import Output, count_of

NO_CALL = "[]", "{}"


def run(output: Output, options: Options) -> None:
    """Raises: CommandError if it is refused."""
    try:
        _VERBS[options["verb"]](output, options["name"], options)
    except DurableError as error:
        raise CommandError(str(error)) from None


def run_show(output: Output, name: str, options: Options) -> None:
    schedules.show(output, verbs.get_schedule(name).name)


def run_pause(output: Output, name: str, options: Options) -> None:
    verbs.pause_schedule(name)
    _say(output, name, "rests until it is resumed")


def run_resume(output: Output, name: str, options: Options) -> None:
    verbs.resume_schedule(name)
    _say(output, name, "goes on with its next tick")


def run_now(output: Output, name: str, options: Options) -> None:
    job = verbs.run_schedule(name)
    if output.as_json:
        output.document({"schedule": name, "job": job.pk, "state": job.state})
    else:
        output.line(f'Schedule "{name}" enqueued job {job.pk}.')


def run_backfill(output: Output, name: str, options: Options) -> None:
    chosen = {option: options[option] for option in ("dry_run", "again")}
    ticks = verbs.backfill_schedule(name, options["since"], options["until"], **chosen)
    if output.as_json:
        output.document({"schedule": name, "dry_run": options["dry_run"], "ticks": ticks})
        return
    if ticks:
        does = "would be enqueued" if options["dry_run"] else "is enqueued"
        output.table(
            ["TICK", "", "JOB"],
            [
                [t.tick_at.isoformat(), does if t.is_enqueued else "has its job", t.job_id]
                for t in ticks
            ],
        )
    count = count_of(sum(tick.is_enqueued for tick in ticks), "job")
    said = "would be enqueued; nothing was done" if options["dry_run"] else "enqueued"
    output.line(f"{count_of(len(ticks), 'tick')} in the range, {count} {said}.")


def run_add(output: Output, name: str, options: Options) -> None:
    task = registry.get_task(options["task"])
    call = _call(task.path, options)
    cron = Cron(
        options["cron"],
        tz=options["tz"],
        name=name,
        missed=options["missed"] or "one",
        overlap=options["overlap"] or "skip",
        jitter=options["jitter"],
        args=tuple(call.args),
        kwargs=call.kwargs,
    )
    verbs.add_schedule(task, cron)
    _say(output, name, "is made")


def run_change(output: Output, name: str, options: Options) -> None:
    names = ("tz", "missed", "overlap", "jitter")
    changes: dict[str, Any] = {option: options[option] for option in names}
    if options["positional"] is not None or options["named"] is not None:
        call = _call(verbs.get_schedule(name).task_path, options)
        changes |= {"args": tuple(call.args), "kwargs": call.kwargs}
    verbs.change_schedule(name, expression=options["cron"], **changes)
    _say(output, name, "is changed")


def run_remove(output: Output, name: str, options: Options) -> None:
    verbs.remove_schedule(name)
    if output.as_json:
        output.document({"schedule": name, "removed": True})
    else:
        output.line(f'Schedule "{name}" is removed; the jobs it made stay.')


def _say(output: Output, name: str, what: str) -> None:
    if output.as_json:
        schedules.show(output, name)
        return
    row = verbs.get_schedule(name)
    rests = row.paused_at is not None or row.next_tick_at is None
    upcoming = "" if rests else f", at {timezone.localtime(row.next_tick_at):%Y-%m-%d %H:%M:%S %Z}"
    output.line(f'Schedule "{name}" {what}{upcoming}.')


def _call(task_path: str, options: Options) -> Any:
    args, kwargs = options["positional"] or NO_CALL[0], options["named"] or NO_CALL[1]
    return declaring.read_call(task_path, f'{{"args":{args},"kwargs":{kwargs}}}')


# --- kinds of arguments


def moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time such as 2026-01-31T06:00.") from None
    return found if found.tzinfo else timezone.make_aware(found)


def seconds(text: str) -> timedelta:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is no number of seconds.") from None


def json_of(kind: type) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            is_fit = isinstance(json.loads(text), kind)
        except RecursionError:
            raise ArgumentTypeError("it is nested too deep.") from None
        except ValueError as error:
            raise ArgumentTypeError(f"it is no JSON: {error}") from None
        if not is_fit:
            raise ArgumentTypeError(f"it must be a JSON {'list' if kind is list else 'object'}.")
        return text

    return check


def add_arguments(parser: ArgumentParser) -> None:
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {}
    for verb, about in _ABOUT.items():
        one = made[verb] = subparsers.add_parser(verb, help=about, description=f"{about}.")
        one.add_argument("name", type=not_blank, metavar="NAME", help="the name of a schedule")
        one.add_argument("--json", action="store_true", default=SUPPRESS, help=SUPPRESS)
    _add_range(made["backfill"])
    made["add"].add_argument("--task", required=True, metavar="PATH", help="the task it enqueues")
    _add_values(made["add"], is_new=True)
    _add_values(made["change"], is_new=False)


def _add_range(parser: ArgumentParser) -> None:
    add = parser.add_argument
    about = "in ISO 8601; without an offset in the project's time zone"
    add("--since", type=moment, required=True, metavar="TIME", help=f"the first tick, {about}")
    add("--until", type=moment, required=True, metavar="TIME", help="the last tick, not after now")
    add("--dry-run", action="store_true", help="only say what would be enqueued")
    add("--again", action="store_true", help="also for ticks that have a job already")


def _add_values(parser: ArgumentParser, *, is_new: bool) -> None:
    add = parser.add_argument
    add("--cron", required=is_new, metavar="EXPRESSION", help='such as "0 6 * * 1-5"')
    add("--tz", metavar="ZONE", help="such as Europe/Berlin; default: the project's")
    add("--missed", choices=get_args(Missed), help="which missed ticks are made up")
    add("--overlap", choices=get_args(Overlap), help="while an earlier job is unfinished")
    add("--jitter", type=seconds, metavar="SECONDS", help="jobs are due up to so much later")
    add(
        "--args",
        dest="positional",
        type=json_of(list),
        metavar="JSON",
        help="a list: what the task is called with",
    )
    add(
        "--kwargs",
        dest="named",
        type=json_of(dict),
        metavar="JSON",
        help="an object: the same by name",
    )


_VERBS = {
    "show": run_show,
    "pause": run_pause,
    "resume": run_resume,
    "run": run_now,
    "backfill": run_backfill,
    "add": run_add,
    "change": run_change,
    "remove": run_remove,
}
_ABOUT = {
    "show": "Say all about a schedule, with its next times and its latest ticks",
    "pause": "Let a schedule rest until it is resumed",
    "resume": "Let a paused schedule go on with its next tick from now",
    "run": "Enqueue a job of a schedule now, paused or not",
    "backfill": "Enqueue a job for each tick of a range that has none",
    "add": "Make a schedule of a task",
    "change": "Change a schedule; what is not given stays",
    "remove": "Delete a schedule that no code declares",
}

OPERATION = Operation(
    name="schedule",
    help="pause, resume, run, backfill, add, change or remove one schedule",
    add_arguments=add_arguments,
    run=run,
)
