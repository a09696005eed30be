"""``manage.py durable_worker``: what each option may be."""

import os
import socket

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_durable.management.commands.durable_worker import Command
from django_durable.management.worker_options import worker_options


def parsed(*arguments: str) -> dict[str, object]:
    return vars(Command().create_parser("manage.py", "durable_worker").parse_args(arguments))


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandError) as refused:
        parsed(*arguments)
    return str(refused.value)


class RefusalTests:
    @pytest.mark.parametrize(
        ("option", "value", "reason"),
        [
            ("--processes", "0", "'0' is not a number from 1 to 500."),
            ("--processes", "-2", "'-2' is not a number from 1 to 500."),
            ("--processes", "many", "'many' is not a number from 1 to 500."),
            ("--processes", "501", "'501' is not a number from 1 to 500."),
            ("--processes", "²", "'²' is not a number from 1 to 500."),
            ("--slots", "1001", "'1001' is not a number from 1 to 1000."),
            ("--max-jobs", "0", "'0' is not a number from 1 to 1000000000."),
            ("--max-jobs", "1.5", "'1.5' is not a number from 1 to 1000000000."),
            ("--max-memory", "0", "'0' is not a number from 1 to 1000000."),
            ("--max-memory", "512M", "'512M' is not a number from 1 to 1000000."),
            ("--max-memory", "1", "'1' is too little: before its first job it takes "),
            ("--grace", "nan", "'nan' is not a number of seconds."),
            ("--grace", "-1", "'-1' is negative."),
            ("--lease", "1", "'1' is shorter than 2 s."),
            ("--lease", "3e6", "'3e6' is longer than 24 days."),
            ("--poll-interval", "0", "'0' must be more than zero."),
            ("--queue", "a b", "'a b': a queue name has"),
            ("--child", "1", "only the supervisor gives this option."),
            ("--child", "1:999", "only the supervisor gives this option."),
        ],
    )
    def test_each_says_its_reason(self, option: str, value: str, reason: str) -> None:
        assert reason in refusal(f"{option}={value}")

    def test_a_queue_that_the_settings_do_not_name(self) -> None:
        with (
            override_settings(DURABLE={"QUEUES": ["mails"]}),
            pytest.raises(CommandError, match="--queue") as refused,
        ):
            call_command("durable_worker", "--queue", "letters", "--processes", "2")

        assert "mails" in str(refused.value)

    def test_burst_with_reload(self) -> None:
        with pytest.raises(CommandError, match="--burst ends when nothing is ready; --reload"):
            call_command("durable_worker", "--burst", "--reload")

    @pytest.mark.parametrize("options", [{"processes": 2}, {"reload": True}])
    def test_a_supervisor_in_somebody_elses_program(self, options: dict[str, object]) -> None:
        with pytest.raises(CommandError, match="call durable_worker from a command line"):
            call_command("durable_worker", **options)


class MeaningTests:
    def test_megabytes_are_millions_of_bytes(self) -> None:
        options = worker_options(parsed("--max-memory", "4000", "--max-jobs", "7"))

        assert (options.max_memory, options.max_jobs) == (4_000_000_000, 7)

    def test_nothing_is_required(self) -> None:
        options = parsed()

        assert [options[name] for name in ("processes", "max_jobs", "max_memory", "child")] == (
            [None] * 4
        )
        assert options["reload"] is False

    def test_the_leash_of_a_child_is_not_inherited(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, socket.socket(fileno=os.dup(theirs.fileno())) as given:
            given.set_inheritable(True)
            leash = parsed("--child", f"3:{given.fileno()}")["child"]
            given.detach()

            assert leash.number == 3
            assert not leash.line.get_inheritable()
            leash.line.close()
        theirs.close()
