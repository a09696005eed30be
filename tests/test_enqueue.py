"""Enqueueing: one INSERT in the caller's transaction, or nothing at all."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from django_durable import aenqueue, aenqueue_many, enqueue, enqueue_many, get_job, task
from django_durable.exceptions import (
    BulkItemError,
    InvalidArgumentsError,
    InvalidOptionError,
    NotSerializableError,
    PayloadTooLargeError,
    WrongDatabaseError,
)
from django_durable.models import Job
from django_durable.testing import run_jobs
from tests.builders import rolled_back, statements
from tests.sessions import second_alias, second_session, seen_jobs
from tests.testapp.models import Account

LATER = datetime(2099, 1, 1, tzinfo=UTC)


@dataclass
class Address:
    city: str
    zone: int


@task
def collect(*values: Any, **named: Any) -> list[Any]:
    return [*values, named]


@task
def deliver(address: Address, price: Decimal) -> str:
    return f"{address.city} {address.zone} {price}"


@task
def greet(account: Account) -> str:
    return account.name


@pytest.mark.django_db(transaction=True)
class TransactionTests:
    def test_a_job_is_invisible_before_the_commit_and_there_after_it(self) -> None:
        with second_session() as session:
            with transaction.atomic():
                job = enqueue(collect, 1)
                before = seen_jobs(session)
            after = seen_jobs(session)

        assert (before, after) == (0, 1)
        assert get_job(job.pk).state == "READY"

    def test_it_is_gone_after_a_rollback(self) -> None:
        with second_session() as session:
            with rolled_back():
                enqueue(collect, 1)
                enqueue_many([collect.bind(2), collect.using(idempotency_key="k").bind(3)])
            found = seen_jobs(session)

        assert found == 0
        assert run_jobs() == []

    def test_a_savepoint_takes_back_only_its_own(self) -> None:
        with transaction.atomic():
            kept = enqueue(collect, "kept")
            with rolled_back():
                enqueue(collect, "dropped")

        assert [job.pk for job in Job.objects.all()] == [kept.pk]

    def test_a_refusal_leaves_the_transaction_usable(self) -> None:
        with transaction.atomic():
            Account.objects.create(name="before")
            for refused in (
                lambda: enqueue(collect, float("nan")),
                lambda: greet.enqueue(Account()),
            ):
                with pytest.raises(NotSerializableError):
                    refused()
            Account.objects.create(name="after")

        assert Account.objects.count() == 2
        assert Job.objects.count() == 0


@pytest.mark.django_db
class RowTests:
    def test_the_returned_row_is_the_stored_one(self) -> None:
        job = enqueue(collect.using(queue_name="mail", priority=7), 1, a=2)

        stored = get_job(job.pk)

        names = {field.attname for field in Job._meta.fields}
        assert {name: getattr(job, name) for name in names} == {
            name: getattr(stored, name) for name in names
        }
        assert (job.state, job.status, job.attempts, job.is_finished) == (
            "READY",
            "READY",
            0,
            False,
        )
        assert (job.args, job.kwargs, job.is_duplicate) == ([1], {"a": 2}, False)
        assert job.task is not None

    def test_ids_sort_by_time(self) -> None:
        ids = [enqueue(collect).pk for _ in range(50)]

        assert ids == sorted(ids)
        assert {key.version for key in ids} == {7}

    def test_a_delay_counts_on_the_databases_clock(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("select statement_timestamp()")
            now = cursor.fetchone()[0]

        job = enqueue(collect.using(delay=timedelta(hours=1)))

        assert (job.state, job.run_after) == ("SCHEDULED", None)
        assert timedelta(hours=1) <= job.due_at - now < timedelta(hours=1, minutes=1)
        assert job.due_at - job.enqueued_at == timedelta(hours=1)

    def test_run_after_is_kept_and_obeyed(self) -> None:
        later = enqueue(collect.using(run_after=LATER))
        past = enqueue(collect.using(run_after=timezone.now() - timedelta(days=1)))

        assert (later.state, later.due_at, later.run_after) == ("SCHEDULED", LATER, LATER)
        assert (past.state, past.due_at) == ("READY", past.enqueued_at)
        assert [job.pk for job in run_jobs()] == [past.pk]

    def test_the_subject_is_stored_by_label_and_key(self) -> None:
        account = Account.objects.create(name="a")

        job = enqueue(collect.using(subject=account))

        assert (job.subject_type, job.subject_key) == ("testapp.account", str(account.pk))

    @pytest.mark.parametrize("subject", [Account(), "account", 5])
    def test_only_a_saved_instance_is_a_subject(self, subject: Any) -> None:
        with pytest.raises(InvalidOptionError, match="subject"):
            enqueue(collect.using(subject=subject))

    def test_a_job_is_never_saved_or_deleted_by_hand(self) -> None:
        job = enqueue(collect)

        with pytest.raises(TypeError, match=r"never by save\(\)"):
            job.save()
        with pytest.raises(TypeError, match=r"never by delete\(\)"):
            job.delete()

    def test_hinted_arguments_come_back_as_their_classes(self) -> None:
        enqueue(deliver, Address("Rome", 3), Decimal("1.50"))
        enqueue(deliver, price=Decimal(2), address=Address("Oslo", 1))

        assert [job.return_value for job in run_jobs()] == ["Rome 3 1.50", "Oslo 1 2"]

    def test_a_lazy_user_is_an_instance_too(self) -> None:
        account = Account.objects.create(name="lazy")

        greet.enqueue(SimpleLazyObject(lambda: account))

        assert [job.return_value for job in run_jobs()] == ["lazy"]


def naive() -> datetime:
    return datetime(2030, 1, 1)  # noqa: DTZ001


def nested_in_itself() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


@pytest.mark.django_db
class RefusalTests:
    @pytest.mark.parametrize(
        ("build", "path", "reason"),
        [
            (lambda: {"rows": [1, float("nan")]}, "values['rows'][1]", "not a finite number"),
            (lambda: [float("-inf")], "values[0]", "not a finite number"),
            (lambda: (Decimal("NaN"),), "values[0]", "not a finite number"),
            (lambda: {"a": "\x00"}, "values['a']", "NUL"),
            (lambda: {"\x00": 1}, "values key '\\x00'", "NUL"),
            (lambda: [naive()], "values[0]", "naive"),
            (lambda: [lambda: None], "values[0]", "not a type that can be stored"),
            (lambda: [Account(name="new")], "values[0]", "the Account is not saved"),
            (lambda: Account.objects.all(), "values", "pass list(queryset) or the keys"),
            (nested_in_itself, "arguments", "contains itself"),
        ],
    )
    def test_what_cannot_be_encoded_is_refused_by_its_place(
        self, build: Callable[[], Any], path: str, reason: str
    ) -> None:
        with pytest.raises(NotSerializableError) as caught:
            enqueue(collect, build())

        assert caught.value.path == path
        assert reason in str(caught.value)
        assert Job.objects.count() == 0

    def test_what_is_too_large_is_refused(self, settings: Any) -> None:
        settings.DURABLE = {"MAX_PAYLOAD_BYTES": 100}

        enqueue(collect, "x" * 60)
        with pytest.raises(PayloadTooLargeError, match=r"takes 125 bytes, more than .* 100"):
            enqueue(collect, "x" * 100)

        assert Job.objects.count() == 1

    def test_an_undeclared_queue_is_refused(self, settings: Any) -> None:
        settings.DURABLE = {"QUEUES": ["mail", "sms"]}

        assert enqueue(collect.using(queue_name="sms")).queue_name == "sms"
        with pytest.raises(InvalidOptionError, match="names mail, sms"):
            enqueue(collect)

    def test_a_refused_call_sends_no_statement(self) -> None:
        bad: Any = object()

        with statements() as sent:
            for call in (collect.bind(bad), deliver.bind(bad), collect.bind("\x00")):
                with pytest.raises(BulkItemError):
                    enqueue_many([call])

        assert sent == []


@pytest.mark.django_db
class BulkTests:
    def test_nothing_is_a_no_op(self) -> None:
        with statements() as sent:
            assert enqueue_many([]) == []
            assert enqueue_many(iter(())) == []

        assert sent == []

    def test_jobs_come_back_in_the_order_of_the_calls(self) -> None:
        calls = [
            collect.bind(0),
            collect.using(idempotency_key="z").bind(1),
            collect.using(delay=timedelta(hours=1)).bind(2),
            collect.using(idempotency_key="a").bind(3),
            greet.bind(Account.objects.create(name="x")),
        ]

        jobs = enqueue_many(calls)

        assert [job.args[0] for job in jobs[:4]] == [0, 1, 2, 3]
        assert [job.state for job in jobs] == ["READY", "READY", "SCHEDULED", "READY", "READY"]
        assert {job.pk for job in jobs} == {job.pk for job in Job.objects.all()}

    @pytest.mark.parametrize(
        ("bad", "cause"),
        [
            (collect.bind({"a": [float("nan")]}), NotSerializableError),
            (deliver.bind(Address("Rome", 1)), InvalidArgumentsError),  # type: ignore[call-arg]  # wrong on purpose
            (greet.using(subject=5).bind(Account(pk=1)), InvalidOptionError),
        ],
    )
    def test_one_bad_item_refuses_all_and_names_its_place(
        self, bad: Any, cause: type[Exception]
    ) -> None:
        with pytest.raises(BulkItemError, match=r"Item 2 \(tests\.test_enqueue") as caught:
            enqueue_many([collect.bind(1), collect.bind(2), bad, collect.bind(3)])

        assert caught.value.index == 2
        assert isinstance(caught.value.cause, cause)
        assert Job.objects.count() == 0

    def test_thousands_take_as_many_statements_as_a_hundred(
        self, django_assert_num_queries: Any
    ) -> None:
        for count in (100, 2500):
            with django_assert_num_queries(4) as sent:  # a savepoint, the clock, COPY, release
                jobs = enqueue_many(collect.bind(n) for n in range(count))

            assert len(jobs) == count
            assert sent.captured_queries[2]["sql"].lower().startswith("copy durable_job")
        assert Job.objects.count() == 2600


@pytest.mark.django_db(transaction=True)
class WrongDatabaseTests:
    def test_a_transaction_on_another_database_only_is_refused(self) -> None:
        with second_alias() as other, transaction.atomic(using=other):
            with pytest.raises(WrongDatabaseError) as caught:
                enqueue(collect)
            with pytest.raises(WrongDatabaseError):
                enqueue_many([collect.bind(1)])

        assert (caught.value.open_alias, caught.value.alias) == ("other", "default")
        assert Job.objects.count() == 0

    def test_one_on_both_is_fine(self) -> None:
        with second_alias() as other, transaction.atomic(using=other), transaction.atomic():
            enqueue(collect)

        assert Job.objects.count() == 1

    def test_saying_that_it_is_meant_is_fine(self) -> None:
        with second_alias() as other, transaction.atomic(using=other):
            enqueue(collect.using(outside_transaction=True))

        assert Job.objects.count() == 1


@pytest.mark.django_db
class StatementCountTests:
    def test_enqueueing_is_one_statement(self) -> None:
        with statements() as sent:
            enqueue(collect, 1)
            enqueue(collect.using(delay=timedelta(1), priority=5), 2)

        assert [sql.split("(")[0] for sql in sent] == ["insert into durable_job "] * 2

    def test_a_fresh_key_costs_one_and_a_taken_one_at_most_three(self) -> None:
        keyed = collect.using(idempotency_key="k")

        with statements() as fresh:
            keyed.enqueue(1)
        with statements() as taken:
            keyed.enqueue(1)

        assert len(fresh) == 1
        assert len(taken) <= 3


@pytest.mark.django_db
class AsyncTests:
    def test_the_async_verbs_do_the_same(self) -> None:
        async def enqueue_four() -> list[Job]:
            many = await aenqueue_many([collect.bind(3), collect.bind(4)])
            return [await aenqueue(collect, 1), await collect.aenqueue(2), *many]

        jobs = async_to_sync(enqueue_four)()

        assert Job.objects.count() == 4
        assert [job.args for job in jobs] == [[1], [2], [3], [4]]
