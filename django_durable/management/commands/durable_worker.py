"""``manage.py durable_worker``: run jobs until told to stop."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import current_process
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from django_durable.engine.boot import NotReadyError
from django_durable.engine.leash import Leash
from django_durable.engine.reloading import CodeFiles, watch_code
from django_durable.engine.supervisor import Supervisor
from django_durable.engine.worker import Worker
from django_durable.management.worker_options import add_options, served, worker_options

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
LOG_FORMAT_OF_MANY = "%(asctime)s %(levelname)s %(processName)s: %(message)s"


class Command(BaseCommand):
    help = "Runs jobs until SIGTERM or SIGINT; a second signal stops at once. Nothing is required."

    _typed: tuple[str, ...] | None = None
    """The command's arguments, if it was called from a command line."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_options(parser)

    def run_from_argv(self, argv: list[str]) -> None:
        self._typed = tuple(argv[1:])
        super().run_from_argv(argv)

    def handle(self, **options: Any) -> None:
        leash: Leash | None = options["child"]
        if options["burst"] and options["reload"]:
            raise CommandError("--burst ends when nothing is ready; --reload would begin anew.")
        served(options["queues"] or ())
        try:
            if leash or not (options["processes"] or options["reload"]):
                code = work(options, leash)
            else:
                code = supervise(options, self._command())
        except NotReadyError as error:
            raise CommandError(str(error)) from error
        leave(code)

    def _command(self) -> list[str]:
        """What started this process, to start others. Raises: CommandError."""
        started_with = sys.orig_argv[1:]
        if self._typed is None or tuple(started_with[-len(self._typed) :]) != self._typed:
            raise CommandError(
                "--processes and --reload start their own command line anew for each worker "
                "process: call durable_worker from a command line, such as manage.py's."
            )
        return [sys.executable, *started_with]


def work(options: Mapping[str, Any], leash: Leash | None) -> int:
    """Be a worker: alone, or one of those of a supervisor."""
    if leash:
        current_process().name = f"worker-{leash.number}"
    configure_logging(int(options["verbosity"]), is_one_of_many=leash is not None)
    worker = Worker(worker_options(options))
    if leash:
        leash.follow(worker.bell.stop_as_if)
        worker.tell_ready = leash.say_ready
    if options["reload"]:
        watch_code(lambda: worker.bell.stop_as_if(1))
    return worker.run()


def supervise(options: Mapping[str, Any], command: list[str]) -> int:
    current_process().name = "supervisor"
    configure_logging(int(options["verbosity"]), is_one_of_many=True)
    connections.close_all()
    return Supervisor(
        command,
        processes=options["processes"] or 1,
        grace=options["grace"],
        burst=options["burst"],
        code=CodeFiles() if options["reload"] else None,
    ).run()


def configure_logging(verbosity: int, *, is_one_of_many: bool) -> None:
    """Log to standard error, if the project has not said where its logs go."""
    logger = logging.getLogger("django_durable")
    if logger.hasHandlers() or verbosity == 0:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(LOG_FORMAT_OF_MANY if is_one_of_many else LOG_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)


def leave(code: int) -> None:
    """Exit without waiting for slots whose bodies go on: their jobs were handed back."""
    logging.shutdown()
    with suppress(OSError):  # the terminal is gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
