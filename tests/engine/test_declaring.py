"""Schedules as the code declares them, and what operators and other versions of the code do."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from pytest_django import Settings

from django_durable import Cron, change_schedule, pause_schedule, remove_schedule, task
from django_durable.engine import registry
from django_durable.exceptions import InvalidOptionError, TaskDefinitionError
from django_durable.models import Schedule, Worker
from tests.builders import redeployed
from tests.scheduled import (
    HOURLY,
    boot,
    database_now,
    names,
    new_schedule,
    rewrite,
    row_of,
    worker_of,
)

pytestmark = pytest.mark.django_db
PATH = "scheduled.report"


def report(day: str = "today") -> None:
    """A task that a version of the code declares."""


def declare(*crons: Cron, path: str = PATH) -> None:
    """The task as the next version of the code has it."""
    redeployed(path, report, **({"schedule": crons} if crons else {}))


def stop(worker_id: int) -> None:
    Worker.objects.filter(pk=worker_id).update(stopped_at=F("started_at"))


def cron_of(name: str = PATH) -> str:
    return row_of(name).cron


class DeclarationTests:
    def test_a_row_is_made_at_a_worker_s_start(self) -> None:
        jitter = timedelta(seconds=30)
        declare(
            Cron("0 6 * * 1-5", tz="Europe/Berlin", overlap="queue", jitter=jitter, args=("x",))
        )

        boot(worker_of("v1"))

        row = row_of(PATH)
        assert (row.cron, row.timezone, row.task_path) == ("0 6 * * 1-5", "Europe/Berlin", PATH)
        assert (row.missed, row.overlap, row.jitter) == ("one", "queue", jitter)
        assert row.arguments == '{"args":["x"],"kwargs":{}}'
        assert row.next_tick_at is not None
        assert row.declared_by == "v1"

    def test_the_default_zone_is_the_project_s(self, settings: Settings) -> None:
        settings.TIME_ZONE = "Asia/Tokyo"
        declare(Cron(HOURLY))

        boot(worker_of("v1"))

        assert row_of(PATH).timezone == "Asia/Tokyo"

    def test_several_have_their_own_names(self) -> None:
        declare(Cron(HOURLY, name="early"), Cron("30 * * * *", name="late", kwargs={"day": "b"}))

        boot(worker_of("v1"))

        assert names() == ["early", "late"]

    @pytest.mark.parametrize(
        ("crons", "said"),
        [
            ((Cron(HOURLY), Cron("30 * * * *")), "its own name"),
            ((Cron(HOURLY, name="a"), Cron("30 * * * *", name="a")), "its own name"),
            ((Cron(HOURLY, args=(1, 2)),), "too many positional"),
            ((Cron(HOURLY, kwargs={"hour": 1}),), "unexpected keyword"),
        ],
    )
    def test_what_cannot_work_is_refused_where_it_is_declared(
        self, crons: tuple[Cron, ...], said: str
    ) -> None:
        with pytest.raises(TaskDefinitionError, match=said):
            declare(*crons)

    def test_missing_arguments_are_refused_where_it_is_declared(self) -> None:
        def needs(day: str) -> None: ...

        with pytest.raises(TaskDefinitionError, match="missing a required argument: 'day'"):
            task(path="scheduled.needs", schedule=Cron(HOURLY))(needs)
        assert registry.find_task("scheduled.needs") is None

    def test_two_tasks_have_no_name_in_common(self) -> None:
        declare(Cron(HOURLY, name="a"))

        with pytest.raises(TaskDefinitionError, match="has a schedule of that name"):
            declare(Cron(HOURLY, name="a"), path="scheduled.other")

    @pytest.mark.parametrize(
        "options",
        [
            {"expression": "nonsense"},
            {"expression": "0 0 31 2 *"},
            {"tz": "Mars/Olympus"},
            {"tz": 3},
            {"missed": "some"},
            {"overlap": "often"},
            {"missed": "all", "overlap": "cancel"},
            {"jitter": timedelta(seconds=-1)},
            {"jitter": 3},
            {"jitter": timedelta(days=2)},
            {"name": ""},
            {"name": " a"},
            {"name": "a\nb"},
            {"name": "x" * 201},
            {"args": "abc"},
            {"kwargs": [1]},
        ],
    )
    def test_a_bad_cron_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidOptionError):
            Cron(**({"expression": HOURLY} | options))

    def test_one_that_cannot_be_stored_stops_no_other(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        declare(Cron(HOURLY, name="bad", args=(object(),)), Cron(HOURLY, name="good"))

        with caplog.at_level(logging.ERROR):
            boot(worker_of("v1")).sync()

        assert names() == ["good"]
        assert caplog.text.count("Schedule bad cannot be made") == 1

    def test_one_whose_row_does_not_fit_stops_no_other(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nor does it end the worker."""
        declare(Cron(HOURLY, name="bad"), Cron(HOURLY, name="good"))
        boot(worker_of("v1"))
        rewrite("bad", timezone="Mars/Olympus_Mons")
        declare(Cron("1 * * * *", name="bad"), Cron("1 * * * *", name="good"))

        with caplog.at_level(logging.ERROR):
            boot(worker_of("v2")).sync()

        assert (cron_of("bad"), cron_of("good")) == (HOURLY, "1 * * * *")
        assert caplog.text.count("Schedule bad cannot be changed: tz 'Mars/Olympus_Mons'") == 1

    def test_what_contradicts_an_operator_s_change_is_told_and_not_taken_over(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        declare(Cron(HOURLY, missed="one", overlap="skip"))
        boot(worker_of("v1"))
        change_schedule(PATH, overlap="cancel")
        declare(Cron(HOURLY, missed="all", overlap="queue"))

        with caplog.at_level(logging.ERROR):
            boot(worker_of("v2"))

        assert (row_of(PATH).missed, row_of(PATH).overlap) == ("one", "cancel")
        assert f"Schedule {PATH} cannot be changed" in caplog.text
        change_schedule(PATH, overlap="queue")
        boot(worker_of("v3"))
        assert (row_of(PATH).missed, row_of(PATH).overlap) == ("all", "queue")


class ClockTests:
    def test_after_the_clock_was_ahead_a_schedule_goes_on_from_now(self) -> None:
        new_schedule("tea")
        new_schedule("bad")
        ahead = database_now() + timedelta(days=3)
        for name in ("tea", "bad"):
            rewrite(name, last_tick_at=ahead, next_tick_at=ahead + timedelta(hours=1))
        rewrite("bad", cron="nonsense")

        boot(worker_of("v1"))

        upcoming = row_of("tea").next_tick_at
        assert upcoming is not None
        assert database_now() < upcoming < ahead
        assert row_of("bad").next_tick_at == ahead + timedelta(hours=1)

    def test_one_whose_next_tick_is_far_is_left_alone(self) -> None:
        new_schedule("tea")
        ahead = database_now() + timedelta(days=3)
        rewrite("tea", next_tick_at=ahead)

        boot(worker_of("v1"))

        assert row_of("tea").next_tick_at == ahead


class ChangedCodeTests:
    def test_a_changed_declaration_is_taken_over(self) -> None:
        declare(Cron(HOURLY))
        boot(worker_of("v1"))
        before = row_of(PATH).next_tick_at

        declare(Cron("30 4 1 1 *", overlap="queue"))
        boot(worker_of("v2"))

        row = row_of(PATH)
        assert (row.cron, row.overlap, row.declared_by) == ("30 4 1 1 *", "queue", "v2")
        assert row.next_tick_at != before

    def test_what_an_operator_changed_stays(self) -> None:
        declare(Cron(HOURLY, overlap="skip"))
        boot(worker_of("v1"))
        change_schedule(PATH, expression="15 * * * *")
        pause_schedule(PATH)

        boot(worker_of("v1b"))
        declare(Cron("30 4 * * *", overlap="queue"))
        boot(worker_of("v2"))

        row = row_of(PATH)
        assert (row.cron, row.overlap) == ("15 * * * *", "queue")
        assert row.paused_at is not None

    def test_an_unchanged_declaration_leaves_the_next_tick(self) -> None:
        declare(Cron(HOURLY))
        boot(worker_of("v1"))
        Schedule.objects.update(next_tick_at=F("created_at"))

        boot(worker_of("v2"))

        row = row_of(PATH)
        assert row.next_tick_at == row.created_at

    def test_an_operator_s_schedule_of_that_name_stays(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        new_schedule(PATH, cron=HOURLY)
        declare(Cron("30 4 * * *"))

        boot(worker_of("v1")).sync()

        assert cron_of() == HOURLY
        assert row_of(PATH).declared is None
        assert caplog.text.count("an operator made one of that name") == 1


class RemovedCodeTests:
    def test_a_schedule_no_longer_declared_rests(self) -> None:
        declare(Cron(HOURLY))
        boot(worker_of("v1"))

        declare()
        boot(worker_of("v2"))

        assert row_of(PATH).retired_at is not None

    def test_it_comes_back_with_the_code(self) -> None:
        declare(Cron(HOURLY))
        boot(worker_of("v1"))
        declare()
        boot(worker_of("v2"))
        Schedule.objects.update(next_tick_at=F("created_at") - timedelta(days=1))

        declare(Cron(HOURLY))
        boot(worker_of("v3"))

        row = row_of(PATH)
        assert row.retired_at is None
        assert row.next_tick_at is not None
        assert row.next_tick_at > row.created_at

    def test_one_whose_task_this_process_does_not_have_is_left_alone(self) -> None:
        declare(Cron(HOURLY))
        boot(worker_of("v1"))

        registry.forget(PATH)
        boot(worker_of("v2"))

        assert row_of(PATH).retired_at is None

    def test_an_operator_s_schedule_is_left_alone(self) -> None:
        new_schedule()

        boot(worker_of("v1"))

        assert row_of().retired_at is None

    def test_a_declared_one_cannot_be_removed_but_a_retired_one_can(self) -> None:
        declare(Cron(HOURLY))
        boot(worker_of("v1"))
        with pytest.raises(InvalidOptionError, match="the code declares it"):
            remove_schedule(PATH)

        declare()
        boot(worker_of("v2"))
        remove_schedule(PATH)

        assert names() == []


class TwoVersionsTests:
    """A rolling deploy: the older version has "one", the newer one "two"."""

    OLD, NEW = "0 1 * * *", "0 2 * * *"

    def deployed(self) -> tuple[Any, Any]:
        """What the workers of both versions do from time to time, after both have started."""
        declare(Cron(self.OLD))
        old = boot(worker_of("old"))
        declare(Cron(self.NEW))
        return old, boot(worker_of("new"))

    def test_an_older_version_is_silent_while_a_newer_one_runs(self) -> None:
        old, _ = self.deployed()

        declare(Cron(self.OLD))
        old.sync()
        boot(worker_of("old"))

        assert cron_of() == self.NEW

    def test_an_older_version_retires_nothing_either(self) -> None:
        declare()
        old = boot(worker_of("old"))
        declare(Cron(self.NEW))
        boot(worker_of("new"))

        declare()
        old.sync()
        boot(worker_of("old"))

        assert row_of(PATH).retired_at is None

    def test_after_a_return_to_the_older_version_it_is_heard_again(self) -> None:
        old, new = self.deployed()
        stop(new.worker_id)

        declare(Cron(self.OLD))
        old.sync()

        assert cron_of() == self.OLD

    def test_processes_of_one_version_that_differ_do_not_turn_it_back_and_forth(self) -> None:
        declare(Cron(self.OLD))
        first = boot(worker_of("same"))
        declare(Cron(self.NEW))
        boot(worker_of("same"))

        declare(Cron(self.OLD))
        first.sync()

        assert cron_of() == self.NEW
