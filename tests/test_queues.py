"""Pausing queues and setting their limits: what stands in the rows, and who is refused."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from django_durable import (
    apause_queue,
    aresume_queue,
    pause_queue,
    resume_queue,
)
from django_durable.engine import queues
from django_durable.exceptions import InvalidOptionError
from django_durable.models import Limit, Queue
from tests.builders import HOUR, rolled_back
from tests.sessions import second_session

pytestmark = pytest.mark.django_db


def later(by: timedelta = HOUR) -> datetime:
    return timezone.now() + by


def ended_by_itself(name: str) -> None:
    """Let the time of a pause be over."""
    ago = timezone.now() - HOUR
    Queue.objects.filter(pk=name).update(paused_at=ago, resume_at=ago + timedelta(minutes=1))


def is_paused(name: str) -> bool:
    return queues.find_pause("default", name, timezone.now()) is not None


def new_limit(name: str = "crm", **columns: Any) -> Limit:
    return Limit.objects.bulk_create([Limit(name=name, **columns)])[0]


class PauseTests:
    def test_a_pause_says_since_when_until_when_and_why(self) -> None:
        until = later()
        before = timezone.now()

        row = pause_queue("mails", until=until, reason="the server moves")

        assert (row.name, row.resume_at, row.reason) == ("mails", until, "the server moves")
        assert row.paused_at is not None
        assert before - HOUR < row.paused_at < before + HOUR
        assert is_paused("mails")
        assert not is_paused("orders")

    def test_pausing_again_keeps_its_beginning_and_changes_the_rest(self) -> None:
        first = pause_queue("mails", until=later(), reason="one")

        second = pause_queue("mails", reason="two")

        assert second.paused_at == first.paused_at
        assert (second.resume_at, second.reason) == (None, "two")

    def test_a_pause_ends_by_itself_and_another_begins_anew(self) -> None:
        first = pause_queue("mails", until=later())
        ended_by_itself("mails")
        assert not is_paused("mails")

        second = pause_queue("mails")

        assert first.paused_at is not None
        assert second.paused_at is not None
        assert second.paused_at > first.paused_at
        assert is_paused("mails")

    def test_pausing_leaves_the_limits(self) -> None:
        queues.bound_queue("default", "mails", {"concurrency": 3})
        pause_queue("mails")
        resume_queue("mails")

        assert Queue.objects.get().concurrency == 3

    def test_it_is_part_of_the_transaction(self) -> None:
        with rolled_back():
            pause_queue("mails")

        assert not is_paused("mails")

    def test_the_async_twins(self) -> None:
        async def story() -> tuple[str, bool]:
            row = await apause_queue("mails", until=later(), reason="moves")
            return row.reason, await aresume_queue("mails")

        assert async_to_sync(story)() == ("moves", True)


class ResumeTests:
    def test_says_whether_it_was_paused(self) -> None:
        pause_queue("mails", until=later(), reason="x")

        assert resume_queue("mails")
        assert not is_paused("mails")
        row = Queue.objects.get()
        assert (row.paused_at, row.resume_at, row.reason) == (None, None, "")
        assert not resume_queue("mails")
        assert not resume_queue("never heard of")

    def test_a_pause_that_ended_by_itself_is_no_pause(self) -> None:
        pause_queue("mails", until=later())
        ended_by_itself("mails")

        assert not resume_queue("mails")


class RefusalTests:
    @pytest.mark.parametrize(
        ("name", "options", "reason"),
        [
            ("", {}, "a queue name has 1 to 100 letters"),
            ("a b", {}, "a queue name has 1 to 100 letters"),
            ("mail*", {}, "a queue name has 1 to 100 letters"),
            (7, {}, "a queue name has 1 to 100 letters"),
            ("a", {"until": datetime(2999, 1, 1)}, "it is naive"),  # noqa: DTZ001
            ("a", {"until": "tomorrow"}, "it must be an aware datetime"),
            ("a", {"until": later(-HOUR)}, "that time has passed"),
            ("a", {"reason": None}, "it must be a text of 500 characters"),
            ("a", {"reason": "x" * 501}, "it must be a text of 500 characters"),
            ("a", {"reason": "a\x00b"}, "NUL"),
        ],
    )
    def test_bad_input_is_refused_and_nothing_written(
        self, name: Any, options: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(InvalidOptionError, match=reason):
            pause_queue(name, **options)

        assert not Queue.objects.exists()

    def test_a_queue_that_the_settings_do_not_name(self, settings: Any) -> None:
        settings.DURABLE = {"QUEUES": ["orders"]}

        with pytest.raises(InvalidOptionError, match=r"'ordres'.*names orders"):
            pause_queue("ordres")
        with pytest.raises(InvalidOptionError, match="names orders"):
            queues.bound_queue("default", "ordres", {"concurrency": 1})
        assert pause_queue("orders").paused_at

    @pytest.mark.parametrize("name", [None, 7, "a\x00b"])
    def test_a_name_that_is_no_text_cannot_be_resumed(self, name: Any) -> None:
        with pytest.raises(InvalidOptionError):
            resume_queue(name)


class BoundTests:
    def test_each_bound_is_changed_for_itself(self) -> None:
        minute = timedelta(minutes=1)
        queues.bound_queue("default", "q", {"rate": 100, "period": minute})
        row = queues.bound_queue("default", "q", {"concurrency": 5})
        assert (row.concurrency, row.rate, row.period) == (5, 100, minute)

        row = queues.bound_queue("default", "q", {"rate": 7})
        assert (row.concurrency, row.rate, row.period) == (5, 7, minute)

        row = queues.bound_queue("default", "q", {"rate": None})
        assert (row.concurrency, row.rate, row.period) == (5, None, None)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"concurrency": 0}, "concurrency 0 is refused"),
            ({"concurrency": -1}, "an integer from 1 to 1000000"),
            ({"concurrency": True}, "concurrency True"),
            ({"concurrency": 2**31}, "concurrency"),
            ({"rate": 5}, "period None is refused: a rate and its period"),
            ({"rate": "many", "period": HOUR}, "rate 'many'"),
            ({"period": HOUR}, "are given together"),
            ({"rate": 5, "period": timedelta(0)}, "period"),
            ({"rate": 5, "period": 60}, "a positive timedelta"),
        ],
    )
    def test_bad_bounds_are_refused_and_nothing_written(
        self, changes: dict[str, Any], reason: str
    ) -> None:
        new_limit()
        with pytest.raises(InvalidOptionError, match=reason):
            queues.bound_queue("default", "q", changes)
        with pytest.raises(InvalidOptionError, match=reason):
            queues.bound_limit("default", "crm", changes)

        assert not Queue.objects.exists()
        assert queues.bound_limit("default", "crm", {}).rate is None

    def test_a_limit_goes_back_to_what_is_declared(self) -> None:
        new_limit(concurrency=3, declared_concurrency=3)
        changes = {"concurrency": None, "rate": 9, "period": HOUR}
        row = queues.bound_limit("default", "crm", changes)
        assert (row.concurrency, row.rate, row.period) == (None, 9, HOUR)

        row = queues.bound_limit("default", "crm", None)

        assert (row.concurrency, row.rate, row.period) == (3, None, None)

    def test_a_limit_that_nobody_declared_is_not_made(self) -> None:
        with pytest.raises(queues.NoSuchLimitError):
            queues.bound_limit("default", "crm", {"concurrency": 1})

        assert not Limit.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_workers_are_woken_at_the_commit() -> None:
    new_limit()
    with second_session() as session:
        session.execute("listen durable")
        changes = (
            lambda: pause_queue("mails"),
            lambda: resume_queue("mails"),
            lambda: queues.bound_queue("default", "orders", {"concurrency": 1}),
            lambda: queues.bound_limit("default", "crm", {"concurrency": 1}),
        )
        for change in changes:
            change()
        payloads = [n.payload for n in session.notifies(timeout=60, stop_after=4)]

    assert payloads == ["mails", "mails", "orders", ""]
