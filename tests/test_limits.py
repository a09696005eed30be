"""Declaring limits: what is refused, and what a call's row says of them."""

import uuid
from datetime import timedelta
from typing import Any

import pytest

from django_durable import Limit, Task, enqueue_many, restart_job, task
from django_durable.exceptions import (
    BulkItemError,
    InvalidArgumentsError,
    InvalidOptionError,
    TaskDefinitionError,
)
from django_durable.models import Job
from tests.testapp.models import Account

MINUTE = timedelta(minutes=1)


def limited(key: Any = None, name: str = "crm", **numbers: Any) -> Task[..., Any]:
    """A task under a limit of its own."""

    def tell_crm(customer: Any = None, note: str = "") -> None: ...

    limit = Limit(name, key=key, **(numbers or {"concurrency": 5}))
    return task(path=f"tests.{name}", limit=limit)(tell_crm)


class DeclaringTests:
    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("crm", {}, "a rate and its period, or both"),
            ("", {"concurrency": 1}, "1 to 100 letters"),
            ("a b", {"concurrency": 1}, "1 to 100 letters"),
            (3, {"concurrency": 1}, "1 to 100 letters"),
            ("crm", {"concurrency": 0}, "concurrency 0 .* from 1 to"),
            ("crm", {"concurrency": True}, "from 1 to"),
            ("crm", {"concurrency": 1.5}, "from 1 to"),
            ("crm", {"concurrency": 10**9}, "from 1 to"),
            ("crm", {"rate": -1, "period": MINUTE}, "rate -1 .* from 1 to"),
            ("crm", {"rate": 1}, "are given together"),
            ("crm", {"concurrency": 1, "period": MINUTE}, "are given together"),
            ("crm", {"rate": 1, "period": 60}, "a positive timedelta"),
            ("crm", {"rate": 1, "period": timedelta(0)}, "a positive timedelta"),
            ("crm", {"rate": 1, "period": timedelta(days=400)}, "of a year at most"),
            ("crm", {"concurrency": 1, "key": "customer"}, "a function of the task's arguments"),
        ],
    )
    def test_a_bad_limit_is_refused(self, name: Any, options: Any, message: str) -> None:
        with pytest.raises(InvalidOptionError, match=message):
            Limit(name, **options)

    def test_only_a_limit_is_one(self) -> None:
        with pytest.raises(InvalidOptionError, match="it must be a Limit, or None"):
            limited().using(limit=5)

    def test_one_name_has_the_same_numbers_everywhere(self) -> None:
        limited(concurrency=5)
        shared: Any = task(path="tests.same", limit=Limit("crm", concurrency=5))
        shared(lambda: None)

        with pytest.raises(TaskDefinitionError, match=r'other numbers in task "tests.crm"'):

            @task(path="tests.other", limit=Limit("crm", concurrency=6))
            def other() -> None: ...


@pytest.mark.django_db
class KeyTests:
    def test_without_a_key_all_jobs_are_counted_together(self) -> None:
        job = limited().enqueue()

        assert (job.limit_name, job.limit_key) == ("crm", "")
        job.refresh()
        assert (job.limit_name, job.limit_key) == ("crm", "")

    @pytest.mark.parametrize(
        ("answer", "text"), [(7, "7"), ("acme", "acme"), (uuid.UUID(int=5), str(uuid.UUID(int=5)))]
    )
    def test_a_key_becomes_text(self, answer: Any, text: str) -> None:
        job = limited(lambda customer: answer).enqueue(1)

        assert (job.limit_name, job.limit_key) == ("crm", text)

    def test_a_model_instance_stands_for_its_primary_key(self) -> None:
        order = Account.objects.create(name="a")

        job = limited(lambda customer: customer).enqueue(order)

        assert job.limit_key == str(order.pk)

    def test_a_key_gets_the_arguments_by_position_however_they_were_passed(self) -> None:
        mine = limited(lambda who, what: f"{who}/{what}")

        assert mine.enqueue("a", "b").limit_key == "a/b"
        assert mine.enqueue(note="b", customer="a").limit_key == "a/b"

    def test_no_key_and_no_limit_mean_none(self) -> None:
        mine = limited(lambda customer: None)

        for job in [mine.enqueue(1), limited().using(limit=None).enqueue()]:
            assert (job.limit_name, job.limit_key) == (None, None)

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            (lambda customer: customer["id"], "KeyError"),
            (lambda: 1, "TypeError"),
            (lambda customer: True, "not bool"),
            (lambda customer: 1.5, "not float"),
            (lambda customer: "", "must not be empty"),
            (lambda customer: "a\x00", "NUL"),
            (lambda customer: "x" * 501, "more than 500"),
            (lambda customer: Account(), "not saved"),
        ],
    )
    def test_a_key_that_cannot_be_told_is_refused_in_the_caller(
        self, key: Any, message: str
    ) -> None:
        with pytest.raises(InvalidArgumentsError, match=f'"tests.crm".*limit "crm".*{message}'):
            limited(key).enqueue({})

        assert not Job.objects.exists()

    def test_a_limit_that_no_task_is_declared_with_is_refused(self) -> None:
        plain = limited(name="other")

        with pytest.raises(InvalidOptionError, match="no task is declared with it"):
            plain.using(limit=Limit("unknown", concurrency=1)).enqueue()
        with pytest.raises(InvalidOptionError, match="no task is declared with it"):
            plain.using(limit=Limit("other", concurrency=1)).enqueue()
        job = plain.using(limit=Limit("other", concurrency=5, key=lambda c: c)).enqueue(3)
        assert job.limit_key == "3"

    def test_many_at_once_each_have_their_key(self) -> None:
        mine = limited(lambda customer: customer)
        plain = limited(name="plain").using(limit=None)

        made = enqueue_many([mine.bind(1), plain.bind(1), mine.bind("it's, {2}")])

        keys = [(job.limit_name, job.limit_key) for job in made]
        assert keys == [("crm", "1"), (None, None), ("crm", "it's, {2}")]
        stored = {job.pk: job.limit_key for job in Job.objects.all()}
        assert [stored[job.pk] for job in made] == ["1", None, "it's, {2}"]
        with pytest.raises(BulkItemError, match=r"1.*crm"):
            enqueue_many([mine.bind(1), mine.bind(1.5)])

    def test_a_job_under_a_key_is_under_its_limit_too(self) -> None:
        job = limited().using(idempotency_key="once").enqueue()

        job.refresh()
        assert (job.limit_name, job.limit_key) == ("crm", "")

    def test_a_restarted_job_stays_under_its_limit(self) -> None:
        job = limited(lambda customer: customer).enqueue(1)

        copy = restart_job(job)

        assert (copy.limit_name, copy.limit_key) == ("crm", "1")
