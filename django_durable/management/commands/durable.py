"""``manage.py durable``: look at jobs and workers, and act on them."""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from django_durable.engine.boot import NotReadyError, check_migrations
from django_durable.management.operations import (
    approvals,
    changing,
    details,
    diagnosis,
    explaining,
    forking,
    limiting,
    listing,
    pruning,
    queueing,
    replaying,
    schedules,
    scheduling,
    status,
    telling,
)
from django_durable.management.operations.operation import Operation
from django_durable.management.operations.output import Output
from django_durable.management.operations.reading import jobs_alias

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        status.OPERATION,
        listing.OPERATION,
        details.OPERATION,
        explaining.OPERATION,
        *changing.OPERATIONS,
        *telling.OPERATIONS,
        *forking.OPERATIONS,
        *approvals.OPERATIONS,
        *queueing.OPERATIONS,
        limiting.OPERATION,
        schedules.OPERATION,
        scheduling.OPERATION,
        pruning.OPERATION,
        replaying.OPERATION,
        diagnosis.OPERATION,
    )
}


class Command(BaseCommand):
    help = "Looks at jobs and workers, and acts on them."
    requires_system_checks = ()  # jobs are looked at even while a check fails; doctor runs them

    def add_arguments(self, parser: ArgumentParser) -> None:
        operations = parser.add_subparsers(dest="operation", required=True, metavar="OPERATION")
        for operation in OPERATIONS.values():
            about = f"{operation.help[0].upper()}{operation.help[1:]}."
            subparser = operations.add_parser(
                operation.name, help=operation.help, description=about
            )
            operation.add_arguments(subparser)
            subparser.add_argument(
                "--json", action="store_true", help="answer with one JSON document"
            )
            add_common_arguments(subparser)

    def handle(self, **options: Any) -> None:
        operation = OPERATIONS[options["operation"]]
        output = Output(self.stdout, self.stderr, self.style, as_json=options["json"])
        try:
            if operation.needs_migrations:
                check_migrations(jobs_alias())
            operation.run(output, options)
        except (NotReadyError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OperationalError as error:
            raise CommandError(f"Database {jobs_alias()!r}: {error}") from error


def add_common_arguments(parser: ArgumentParser) -> None:
    """Django's own options after the operation's name too; given before it they hold as well."""
    add = parser.add_argument
    for flag in ("--traceback", "--no-color", "--force-color"):
        add(flag, action="store_true", default=SUPPRESS, help=SUPPRESS)
    for option in ("--settings", "--pythonpath"):
        add(option, default=SUPPRESS, help=SUPPRESS)
    add("-v", "--verbosity", type=int, choices=range(4), default=SUPPRESS, help=SUPPRESS)
