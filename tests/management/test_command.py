"""``manage.py durable`` itself: its options, its errors, its colours."""

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import TestCase, override_settings

from django_durable import answer_approval
from django_durable.management import operations
from django_durable.management.commands.durable import OPERATIONS
from django_durable.models import Approval
from tests.builders import HOUR, ended_job
from tests.management.console import copies, declared_task, document, refused, typed
from tests.scheduled import new_schedule
from tests.testapp.approvals import asks

ARGUMENTS = {
    "status": [],
    "list": [],
    "show": ["JOB"],
    "explain": ["JOB"],
    "retry": ["--all", "--yes"],
    "cancel": ["--all", "--yes"],
    "send": ["JOB", "approved"],
    "emit": ["rates"],
    "wake": ["SCHEDULED"],
    "fork": ["DONE", "--from", "charged"],
    "restart": ["DONE"],
    "approvals": [],
    "approve": ["QUESTION", "--user", "sue"],
    "reject": ["QUESTION", "--user", "sue"],
    "queues": [],
    "pause": ["q"],
    "resume": ["q"],
    "limit": [],
    "schedules": [],
    "schedule": ["run", "tea"],
    "prune": [],
    "replay": [],
    "doctor": [],
}


class OperationTests(TestCase):
    def test_there_are_these(self) -> None:
        assert list(OPERATIONS) == list(ARGUMENTS)

    def test_each_answers_with_one_document(self) -> None:
        sue = User.objects.create_superuser("sue")
        new_schedule("tea")
        done = ended_job(asks, group=None, permission="durable.answer_approval")
        answer_approval(Approval.objects.get(), sue, approved=True)
        for name, arguments in ARGUMENTS.items():
            ended_job(asks, group=None, permission="durable.answer_approval")
            asked = Approval.objects.latest("pk")
            job = declared_task().using(queue_name="q").enqueue()
            later = declared_task().using(delay=HOUR).enqueue()
            rows = {"QUESTION": asked, "DONE": done, "JOB": job, "SCHEDULED": later}
            typed_ones = [str(rows[text].pk) if text in rows else text for text in arguments]
            if name == "doctor":
                typed("cancel", "--all", "--yes")

            assert isinstance(document(name, *typed_ones), dict), name

    def test_one_has_to_be_named(self) -> None:
        with pytest.raises(CommandError, match="OPERATION"):
            typed()


class ColourTests(TestCase):
    def colourful(self, *arguments: str) -> bool:
        out = StringIO()
        call_command("durable", *arguments, stdout=out, stderr=StringIO())
        return "\x1b[" in out.getvalue()

    def test_only_where_it_is_wanted(self) -> None:
        declared_task().enqueue()

        assert self.colourful("status", "--force-color")
        assert self.colourful("--force-color", "status")
        assert not self.colourful("status", "--no-color")
        assert not self.colourful("--no-color", "status")
        assert not self.colourful("status")

    def test_colours_do_not_move_columns(self) -> None:
        job = declared_task().enqueue()
        out = StringIO()
        call_command("durable", "list", "--force-color", stdout=out)

        assert f"{job.pk}  console.task  READY  default" in out.getvalue()


class ErrorTests(TestCase):
    def test_a_database_that_does_not_answer(self) -> None:
        failing = mock.Mock(side_effect=OperationalError("connection refused"))

        with mock.patch.object(connection, "cursor", failing):
            assert refused("status") == "Database 'default': connection refused"

    @override_settings(DURABLE={"LEESE": 5})
    def test_settings_that_are_wrong(self) -> None:
        assert "Did you mean LEASE?" in refused("status")


class ProcessTests:
    def run(self, environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "django", "durable", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def test_exit_codes_and_streams(self, process_environment: dict[str, str]) -> None:
        job = declared_task().enqueue()

        code, out, err = self.run(process_environment, "list")
        assert (code, err) == (0, "")
        assert str(job.pk) in out
        code, out, err = self.run(process_environment, "show", "order-7", "--json")
        assert (code, out) == (1, "")
        assert err.startswith("CommandError: There is no job 'order-7'")
        code, out, err = self.run(process_environment, "doctor")
        assert code == 1
        assert "FAIL  unserved-queue" in out
        code, _, err = self.run(process_environment, "retry", "--state", "DONE")
        assert (code, "invalid choice: 'DONE'" in err) == (2, True)

    def test_a_reader_that_has_seen_enough_is_no_error(
        self, process_environment: dict[str, str]
    ) -> None:
        copies(declared_task().enqueue(), 2000)
        reader, writer = os.pipe()
        os.close(reader)

        done = subprocess.run(
            [sys.executable, "-m", "django", "durable", "list", "--limit", "3000"],
            env=process_environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)

        assert (done.returncode, done.stderr) == (0, b"")

    def test_the_doctor_tells_of_a_server_that_is_away(
        self, process_environment: dict[str, str]
    ) -> None:
        away = process_environment | {"DATABASE_URL": "postgres://127.0.0.1:1/gone"}

        code, out, _ = self.run(away, "doctor")

        assert code == 1
        assert "FAIL  database  Database 'default' does not answer" in out
        assert "migrations" not in out


class DocumentationTests:
    def test_each_code_of_a_finding_is_explained(self) -> None:
        sources = Path(operations.__file__).parent.glob("*.py")
        code = "\n".join(source.read_text() for source in sources)
        page = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text()

        found = set(re.findall(r'code="([\w-]+)"', code)) - {"default_transaction_isolation"}

        assert len(found) > 40
        assert sorted(name for name in found if f"`{name}`" not in page) == []
