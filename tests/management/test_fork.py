"""``durable fork`` and ``durable restart``."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError
from django.test import TestCase

from django_durable import get_job
from django_durable.models import Job
from tests.builders import ended_job, resumed_job
from tests.management.console import document, refused, typed
from tests.testapp.models import Charge
from tests.testapp.tasks import fulfil


class ForkTests(TestCase):
    def test_makes_a_job_that_goes_on_from_the_step(self) -> None:
        source = ended_job(fulfil, "a")

        text = typed("fork", source.pk, "--from", "reserve")

        fork = Job.objects.exclude(pk=source.pk).get()
        assert text == f"Job {fork.pk} is READY: forked from job {source.pk} before reserve.\n"
        resumed_job(fork)
        assert sorted(Charge.objects.values_list("order_ref", flat=True)) == [
            "a", "a:reserved", "a:reserved",
        ]  # fmt: skip

    def test_answers_with_a_document(self) -> None:
        source = ended_job(fulfil, "a")

        found = document("fork", source.pk, "--from", "reserve")["job"]

        assert get_job(found["id"]).forked_from_id == source.pk
        assert found["forked_from_id"] == str(source.pk)
        assert found["state"] == "READY"

    def test_a_wrong_step_names_the_right_ones(self) -> None:
        source = ended_job(fulfil, "a")

        assert "Those it has: charge, reserve." in refused("fork", source.pk, "--from", "charge#2")

    def test_a_job_that_is_gone_is_said_to_be(self) -> None:
        assert "There is no job" in refused("fork", uuid4(), "--from", "charge")
        assert "There is no job" in refused("restart", uuid4())

    def test_the_step_has_to_be_named(self) -> None:
        for options in ([], ["--from", " "]):
            with pytest.raises(CommandError):
                typed("fork", uuid4(), *options)


class RestartTests(TestCase):
    def test_begins_the_same_call_again(self) -> None:
        source = ended_job(fulfil, "a")

        text = typed("restart", source.pk)

        made = Job.objects.exclude(pk=source.pk).get()
        assert text == f"Job {made.pk} is READY: job {source.pk} over again.\n"
        assert made.arguments == source.arguments

    def test_takes_arguments_as_they_are_stored(self) -> None:
        source = ended_job(fulfil, "a")

        found = document("restart", source.pk, "--arguments", call("b", amount=3))["job"]

        made = get_job(found["id"])
        assert (made.args, made.kwargs) == (["b"], {"amount": 3})

    def test_wrong_arguments_are_named_and_nothing_is_written(self) -> None:
        source = ended_job(fulfil, "a")
        wrong = {
            "{": "does not decode",
            "[]": "does not decode",
            '{"args": []}': "does not decode",
            '{"args": {}, "kwargs": {}}': 'it is not {"args"',
            call(): "missing a required argument",
            call("a", colour="red"): "unexpected keyword argument",
            '{"args": [{"$model": ["testapp.charge", 0]}], "kwargs": {}}': "does not exist",
            '{"args": [{"$what": 1}], "kwargs": {}}': "unknown tag",
        }

        for text, problem in wrong.items():
            assert problem in refused("restart", source.pk, "--arguments", text)

        assert Job.objects.count() == 1


def call(*args: Any, **kwargs: Any) -> str:
    return json.dumps({"args": args, "kwargs": kwargs})
