"""``durable send``, ``emit`` and ``wake``: bring a waiting job what it waits for."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError

from django_durable.engine.codec import UndecodableError
from django_durable.engine.instances import decode
from django_durable.events import emit_event, send_event
from django_durable.exceptions import DurableError
from django_durable.jobs import get_job, wake_job
from django_durable.management.operations.operation import Operation, Options
from django_durable.management.operations.output import Output


def run_send(output: Output, options: Options) -> None:
    """Raises: CommandError if it is refused."""
    try:
        send_event(
            options["job"],
            options["name"],
            options["payload"],
            idempotency_key=options["idempotency_key"],
        )
        job = get_job(options["job"])
    except DurableError as error:
        raise CommandError(str(error)) from None
    if output.as_json:
        output.document({"job": job.pk, "state": job.state, "sent": options["name"]})
    else:
        said = f'Sent event "{options["name"]}" to job {job.pk}, which is'
        output.line(f"{said} {output.paint(job.state)}.")


def run_emit(output: Output, options: Options) -> None:
    """Raises: CommandError if it is refused."""
    try:
        emit_event(options["key"], options["payload"])
    except DurableError as error:
        raise CommandError(str(error)) from None
    if output.as_json:
        output.document({"emitted": options["key"]})
    else:
        output.line(f'Event "{options["key"]}" is emitted; the first emit of a key stands.')


def run_wake(output: Output, options: Options) -> None:
    """Raises: CommandError if it is refused."""
    try:
        job = wake_job(options["job"])
    except DurableError as error:
        raise CommandError(str(error)) from None
    if output.as_json:
        output.document({"job": job.pk, "state": job.state})
    else:
        output.line(f"Job {job.pk} is {output.paint(job.state)}.")


def payload(text: str) -> Any:
    """A payload given as JSON, with the tags of stored values."""
    try:
        json.loads(text)
        return decode(text)
    except (ValueError, UndecodableError, DurableError) as error:
        raise ArgumentTypeError(f"it is no JSON value: {error}") from None


def _add_payload(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--payload", type=payload, default=None, metavar="JSON", help="what it says; null if absent"
    )


def add_send_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="the id of a job")
    parser.add_argument("name", metavar="NAME", help="the name that the job waits for")
    _add_payload(parser)
    parser.add_argument(
        "--idempotency-key", metavar="KEY", help="send it once, however often this is repeated"
    )


def add_emit_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the key that jobs wait for")
    _add_payload(parser)


def add_wake_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="the id of a sleeping or scheduled job")


OPERATIONS = (
    Operation(
        name="send",
        help="send an event to a job, which takes it when it waits for it",
        add_arguments=add_send_arguments,
        run=run_send,
    ),
    Operation(
        name="emit",
        help="emit a broadcast event to every job that waits for its key, now or later",
        add_arguments=add_emit_arguments,
        run=run_emit,
    ),
    Operation(
        name="wake",
        help="let a sleeping or scheduled job go on at once",
        add_arguments=add_wake_arguments,
        run=run_wake,
    ),
)
