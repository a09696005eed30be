"""``durable approvals``, ``approve`` and ``reject``."""

from __future__ import annotations

from django.contrib.auth.models import Group, User
from django.test import TestCase

from django_durable.models import Approval
from tests.builders import HOUR, ended_job, resumed_job
from tests.management.console import document, refused, typed
from tests.testapp.approvals import asks, asks_with_form


class CommandTestCase(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.anna = User.objects.create_user("anna")
        cls.anna.groups.add(Group.objects.create(name="accounting"))
        User.objects.create_user("carl")


class ListTests(CommandTestCase):
    def test_shows_what_is_open(self) -> None:
        assert typed("approvals") == "No such approvals.\n"
        job = ended_job(asks, deadline=HOUR)
        ended_job(asks, title="Second?", group=None, permission="testapp.change_account")
        row = Approval.objects.get(job_id=job.pk)

        text = typed("approvals")

        header = text.splitlines()[0]
        assert header.split() == ["ID", "QUESTION", "STATE", "WHO", "AGE", "DEADLINE", "JOB"]
        assert f"{row.pk}  Refund order 42?  OPEN   group accounting" in text
        assert "Second?           OPEN   testapp.change_account" in text
        assert str(job.pk) in text

    def test_is_narrowed_to_a_user_and_bounded(self) -> None:
        for number in range(3):
            ended_job(asks, title=f"{number}?")
        assert typed("approvals", "--user", "carl") == "No such approvals.\n"
        listed = document("approvals", "--user", "anna", "--limit", 2)
        assert [row["title"] for row in listed["approvals"]] == ["0?", "1?"]
        assert listed["is_complete"] is False
        assert "There are more: --limit 20" in typed("approvals", "--limit", 2)

    def test_shows_closed_ones_when_asked(self) -> None:
        resumed_job(ended_job(asks, deadline=HOUR), ahead=HOUR)
        assert typed("approvals") == "No such approvals.\n"
        assert "TIMED_OUT" in typed("approvals", "--closed")
        assert "not both" in refused("approvals", "--closed", "--user", "anna")


class AnswerTests(CommandTestCase):
    def test_approving_fills_in_the_form(self) -> None:
        job = ended_job(asks_with_form, "42")
        row = Approval.objects.get()

        said = typed("approve", row.pk, "--user", "anna", "--data", '{"amount": 7}')

        assert said == '"Refund order 42?" is approved in the name of anna.\n'
        assert resumed_job(job).return_value == {"amount": 7, "note": ""}

    def test_rejecting_keeps_the_reason(self) -> None:
        job = ended_job(asks_with_form, "42")
        row = Approval.objects.get()
        answer = document("reject", row.pk, "--user", "anna", "--reason", "No.")
        assert (answer["state"], answer["answered_by_name"]) == ("REJECTED", "anna")
        assert resumed_job(job).return_value == {"reason": "No."}

    def test_it_has_the_rights_of_the_user_and_no_more(self) -> None:
        ended_job(asks_with_form, "42")
        key = Approval.objects.get().pk
        assert "User carl may not answer" in refused("approve", key, "--user", "carl")
        assert 'There is no user "dora".' in refused("approve", key, "--user", "dora")
        assert "does not satisfy its form: amount:" in refused("approve", key, "--user", "anna")
        assert "There is no approval 0" in refused("reject", 0, "--user", "anna")
        typed("reject", key, "--user", "anna")
        assert "is not open any more" in refused("reject", key, "--user", "anna")

    def test_bad_arguments(self) -> None:
        assert "--user" in refused("approve", 1)
        assert "is no approval's id" in refused("approve", "x", "--user", "anna")
        for data in ("{", "[1]"):
            refused("approve", 1, "--user", "anna", "--data", data)
