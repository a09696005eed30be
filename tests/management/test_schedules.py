"""``durable schedules`` and ``durable schedule``; what ``explain`` and ``show`` say of a tick."""

from datetime import timedelta

import pytest

from django_durable import Cron, pause_schedule
from django_durable.models import Job
from tests.builders import redeployed
from tests.management.console import document, refused, typed
from tests.scheduled import (
    HOURLY,
    boot,
    database_now,
    due_since,
    fire,
    jobs_of,
    names,
    new_schedule,
    rewrite,
    row_of,
    ticks_of,
    worker_of,
)
from tests.testapp.durable_stories import quick

pytestmark = pytest.mark.django_db
NOW = timedelta(seconds=1)


class TableTests:
    def test_without_schedules_it_says_how_to_have_one(self) -> None:
        assert "@task(schedule=Cron(...))" in typed("schedules")

    def test_says_when_each_is_due_and_what_became_of_the_last(self) -> None:
        new_schedule("tea", tz="Europe/Berlin")
        due_since("tea", NOW)
        fire()
        new_schedule("milk")
        pause_schedule("milk")
        new_schedule("odd")
        rewrite("odd", task_path="elsewhere.task")

        lines = typed("schedules").splitlines()

        assert lines[0].split() == [
            "SCHEDULE", "CRON", "ZONE", "NEXT", "LAST", "OUTCOME", "NOTE",
        ]  # fmt: skip
        assert lines[1].startswith("milk")
        assert lines[1].endswith("paused")
        assert "task elsewhere.task is unknown here" in lines[2]
        assert "Europe/Berlin" in lines[3]
        assert "ENQUEUED" in lines[3]

    def test_a_document(self) -> None:
        new_schedule(cron=HOURLY)

        (one,) = document("schedules")["schedules"]

        assert (one["name"], one["cron"], one["is_declared"]) == ("tea", "0 * * * *", False)
        assert one["next_tick_at"] is not None

    def test_a_problem_is_told(self) -> None:
        new_schedule()
        rewrite("tea", cron="nonsense")
        due_since("tea", NOW)
        fire()

        assert "Wrong number of fields" in typed("schedules")
        assert "Wrong number of fields" in typed("schedule", "show", "tea")


class VerbTests:
    def test_show_lists_next_times_and_ticks(self) -> None:
        new_schedule(cron="30 6 * * *", tz="Europe/Berlin", jitter=timedelta(seconds=30))
        due_since("tea", NOW)
        fire()

        text = typed("schedule", "show", "tea")

        assert "30 6 * * * (Europe/Berlin)" in text
        assert text.count("06:30:00 CE") >= 5
        assert str(jobs_of()[0].pk) in text
        assert len(document("schedule", "show", "tea")["upcoming"]) == 5

    def test_pause_and_resume(self) -> None:
        new_schedule()

        assert 'Schedule "tea" rests until it is resumed.' in typed("schedule", "pause", "tea")
        assert row_of().paused_at is not None
        assert 'Schedule "tea" goes on with its next tick, at' in typed("schedule", "resume", "tea")
        assert row_of().paused_at is None

    def test_run(self) -> None:
        new_schedule()

        said = typed("schedule", "run", "tea")

        assert f'Schedule "tea" enqueued job {jobs_of()[0].pk}.' in said
        assert document("schedule", "run", "tea")["state"] == "READY"

    def test_backfill_first_dry_then_done_then_not_again(self) -> None:
        new_schedule(cron=HOURLY)
        until = database_now().replace(minute=30) - timedelta(hours=2)
        since = until - timedelta(hours=3)
        call = "schedule", "backfill", "tea", "--since", since.isoformat(), "--until", f"{until}"

        assert "3 ticks in the range, 3 jobs would be enqueued" in typed(*call, "--dry-run")
        assert ticks_of() == []
        assert "3 ticks in the range, 3 jobs enqueued." in typed(*call)
        assert "3 ticks in the range, 0 jobs enqueued." in typed(*call)
        assert "3 ticks in the range, 3 jobs enqueued." in typed(*call, "--again")
        assert len(document(*call)["ticks"]) == 3

    def test_add_change_and_remove(self) -> None:
        typed(
            "schedule", "add", "tea", "--task", quick.path, "--cron", "0 6 * * *",
            "--tz", "Europe/Berlin", "--missed", "all", "--overlap", "queue", "--jitter", "30",
            "--args", '["a"]',
        )  # fmt: skip
        row = row_of()
        assert (row.cron, row.timezone, row.missed) == ("0 6 * * *", "Europe/Berlin", "all")
        assert (row.overlap, row.jitter) == ("queue", timedelta(seconds=30))

        typed("schedule", "change", "tea", "--cron", "0 7 * * *", "--kwargs", '{"ref": "b"}')
        assert row_of().cron == "0 7 * * *"
        assert row_of().missed == "all"

        assert "is removed" in typed("schedule", "remove", "tea")
        assert names() == []

    def test_refusals(self) -> None:
        new_schedule()
        add = "schedule", "add", "x", "--task", quick.path, "--cron"

        assert "there is no such schedule" in refused("schedule", "pause", "coffee")
        assert "there is no such schedule" in refused("schedule", "show", "coffee")
        assert "Bad minute" in refused(*add, "99 * * * *", "--args", '["a"]')
        assert "Bad day-of-month" in refused(*add, "0 0 31 2 *", "--args", '["a"]')
        assert "no such time zone" in refused(*add, "0 6 * * *", "--tz", "Mars", "--args", '["a"]')
        assert "missing a required argument" in refused(*add, "0 6 * * *")
        assert "it is no JSON" in refused(*add, "0 6 * * *", "--args", "[")
        assert "nested too deep" in refused(*add, "0 6 * * *", "--args", "[" * 99_999)
        assert "a JSON list" in refused(*add, "0 6 * * *", "--args", "{}")
        assert "No task" in refused("schedule", "add", "x", "--task", "a.b", "--cron", "0 6 * * *")
        assert "Wrong number" in refused("schedule", "change", "tea", "--cron", "nonsense")
        assert "is no time such as" in refused(
            "schedule", "backfill", "tea", "--since", "x", "--until", "y"
        )
        assert "number of seconds" in refused("schedule", "change", "tea", "--jitter", "x")
        assert names() == ["tea"]

    def test_a_declared_one_is_not_removed(self) -> None:
        redeployed("scheduled.console", lambda: None, schedule=Cron("0 * * * *"))
        boot(worker_of("v1"))

        assert "the code declares it" in refused("schedule", "remove", "scheduled.console")


class JobTests:
    def test_explain_and_show_name_the_schedule(self) -> None:
        new_schedule()
        due_since("tea", NOW)
        fire()
        job = Job.objects.get()

        assert 'Schedule "tea" made it, for ' in typed("explain", job.pk)
        assert "tea" in typed("show", job.pk)
        assert document("show", job.pk)["job"]["schedule_name"] == "tea"
