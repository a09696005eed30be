"""Many calls at once are copied in, and are as if each had been inserted."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone, translation
from hypothesis import given
from hypothesis import strategies as st

from django_durable import Limit, enqueue, enqueue_many, task
from django_durable.engine import codec, copying
from django_durable.engine.enqueueing import uuid7, uuids7
from django_durable.engine.instances import model_key
from django_durable.exceptions import BulkItemError
from django_durable.models import Job
from django_durable.testing import run_jobs
from tests.builders import HOUR, replaced
from tests.engine.test_claims import claimant, claimed
from tests.sessions import PATIENCE, second_session
from tests.testapp.models import Account

ODD = ["", "a\\b", "\\N", "\\.", "tab\there", "line\nline\r", 'quote"s', "ü€😀", "\x7f\x1f"]


@task(path="copying.work", limit=Limit("copying", concurrency=3, key=lambda n, **more: n))
def work(n: Any, **more: Any) -> Any:
    return n


@task(path="copying.plain")
def plain(n: Any, **more: Any) -> Any:
    return n


def columns(job: Job) -> dict[str, Any]:
    return {field.attname: getattr(job, field.attname) for field in Job._meta.concrete_fields}


def calls() -> list[Any]:
    """All that a row can say, in an order in which kinds take turns."""
    account = Account.objects.create(name="a")
    tasks = [
        plain,
        plain.using(priority=-5, queue_name="slow", deadline=HOUR),
        plain.using(delay=HOUR),
        plain.using(run_after=timezone.now() + HOUR, deadline=timezone.now() + 2 * HOUR),
        plain.using(run_after=timezone.now() - HOUR, subject=account),
    ]
    odd = [called.bind(text) for text in ODD for called in tasks]
    named = [called.bind(n=n, other=[n, None, 1.5]) for n in range(3) for called in tasks]
    limited = [work.bind(n % 3) for n in range(9)]
    return [*odd, *named, *limited]


@pytest.mark.django_db
class RowTests:
    def test_the_jobs_are_told_as_they_are_stored(self) -> None:
        with translation.override("de"):
            jobs = enqueue_many(calls())

        stored = Job.objects.in_bulk()
        assert len(jobs) == len(stored) > copying.LEAST
        for job in jobs:
            assert columns(job) == columns(stored[job.pk])
            assert (job._state.adding, job._state.db) == (False, "default")

    def test_they_are_as_if_inserted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = calls()
        copied = enqueue_many(asked)
        monkeypatch.setattr(copying, "LEAST", 10_000)
        inserted = enqueue_many(asked)

        stored = Job.objects.in_bulk()
        own = {"id", "enqueued_at", "due_at", "deadline_at"}
        for one, other in zip(copied, inserted, strict=True):
            ours, theirs = columns(stored[one.pk]), columns(stored[other.pk])
            assert {k: v for k, v in ours.items() if k not in own} == {
                k: v for k, v in theirs.items() if k not in own
            }
            for name in own - {"id"}:
                times = ours[name], theirs[name]
                assert times == (None, None) or abs(times[0] - times[1]) < timedelta(minutes=1)

    def test_arguments_come_back_as_they_were(self) -> None:
        values = [*ODD, *range(copying.LEAST)]

        enqueue_many(plain.bind(value) for value in values)

        assert [job.return_value for job in run_jobs()] == values

    def test_what_is_due_together_is_claimed_in_the_order_of_the_calls(self) -> None:
        other = plain.using(priority=0)

        enqueue_many([plain, other][n % 2].bind(n) for n in range(60))

        assert claimed(limit=60) == list(range(60))

    def test_jobs_share_nothing(self) -> None:
        first, second, *_ = enqueue_many(plain.bind(n) for n in range(copying.LEAST))

        first.allowed_steps.append("step")
        first._state.db = "other"

        assert (second.allowed_steps, second._state.db) == ([], "default")


@pytest.mark.django_db
class RefusalTests:
    def test_one_that_is_refused_refuses_all_before_anything_is_sent(
        self, django_assert_num_queries: Any
    ) -> None:
        bad = [plain.bind(n) for n in range(100)] + [plain.bind(object())]

        with django_assert_num_queries(0), pytest.raises(BulkItemError, match="Item 100"):
            enqueue_many(bad)

    def test_wrong_arguments_are_refused_as_ever(self) -> None:
        good = [plain.bind(n) for n in range(100)]
        for wrong in [plain.bind(), plain.bind(1, 2)]:  # type: ignore[call-arg]  # wrong on purpose
            with pytest.raises(BulkItemError, match="cannot be called"):
                enqueue_many([*good, wrong])

    def test_what_the_database_refuses_is_its_error_and_leaves_the_transaction_usable(self) -> None:
        broken = replaced(plain, priority=200)

        with pytest.raises(IntegrityError, match="job_priority_in_range"):
            enqueue_many(broken.bind(n) for n in range(100))

        assert enqueue(plain, 1).state == "READY"
        assert Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_workers_are_woken_once_for_each_queue_at_commit() -> None:
    claimant()
    slow, later = plain.using(queue_name="slow"), plain.using(queue_name="later", delay=HOUR)
    with second_session() as session:
        session.execute("listen durable")
        with transaction.atomic():
            enqueue_many(one.bind(n) for n in range(100) for one in (plain, slow, later))
            assert list(session.notifies(timeout=0.1)) == []

        told = sorted(note.payload for note in session.notifies(timeout=PATIENCE, stop_after=2))

    assert told == ["default", "slow"]


def test_ids_ascend_and_are_of_version_7() -> None:
    before = uuid7()
    ids = uuids7(5000)

    assert ids == sorted(set(ids))
    assert before < ids[0] < uuid7()
    assert {(one.version, one.variant) for one in ids} == {(7, UUID(int=before.int).variant)}
    assert 1 <= (ids[-1].int >> 80) - (ids[0].int >> 80) <= 2  # milliseconds: 4096 ids fit into one


@given(st.lists(st.one_of(st.integers(), st.text(), st.none(), st.booleans(), st.floats())))
def test_the_short_way_writes_what_the_long_one_does(values: list[Any]) -> None:
    plain_text = codec.plain_text(values)

    if plain_text is not None:
        text = codec.encode_text(values, path="values", model_key=model_key)
        assert f"[{plain_text}]" == text


def test_whole_numbers_and_texts_go_the_short_way() -> None:
    assert codec.plain_text([1, -2, "a\n", "\\"]) == '1,-2,"a\\n","\\\\"'
    for value in [True, None, 1.5, "ü", "a\x00", 1 << 70]:
        assert codec.plain_text([value]) is None
