"""What becomes of ticks that are due: once each, by the schedule's word, whoever decides."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_durable import (
    Cron,
    Unique,
    add_schedule,
    backfill_schedule,
    cancel_job,
    change_schedule,
    current_job,
    pause_schedule,
    remove_schedule,
    restart_job,
    resume_schedule,
    run_schedule,
    task,
)
from django_durable.engine import schedules
from django_durable.engine.enqueueing import uuid7
from django_durable.engine.firing import MOST_MADE_UP, Firing
from django_durable.engine.pruning import Pruner
from django_durable.exceptions import InvalidOptionError, TaskDefinitionError, UnknownTaskError
from django_durable.models import Job, Schedule, Tick, TickOutcome
from django_durable.testing import run_jobs
from tests.protocol.stories_losses import new_maintenance
from tests.scheduled import (
    HOURLY,
    database_now,
    due_since,
    fire,
    hourly_but_now,
    jobs_of,
    minute_but_now,
    names,
    new_schedule,
    rewrite,
    row_of,
    ticks_of,
)
from tests.testapp.durable_stories import quick

pytestmark = pytest.mark.django_db

NOW = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class DueTests:
    def test_a_due_tick_is_one_job_and_the_next_is_awaited(self) -> None:
        minute = minute_but_now()
        new_schedule(cron=f"{minute} * * * *")
        tick = due_since("tea", NOW)

        assert fire() == 1
        assert fire() == 0

        (job,) = jobs_of()
        row = row_of()
        assert (job.task_path, job.args, job.tick_at, job.state) == (
            quick.path,
            ["a"],
            tick,
            "READY",
        )
        assert row.last_tick_at == tick
        assert row.next_tick_at is not None
        assert row.next_tick_at > database_now()
        assert row.next_tick_at.minute == minute
        assert ticks_of() == ["ENQUEUED"]
        assert Tick.objects.get().job_id == job.pk

    def test_nothing_is_due_before_its_time(self) -> None:
        new_schedule()

        assert fire() == 0
        assert ticks_of() == []

    def test_a_paused_schedule_rests_and_goes_on_from_now(self) -> None:
        new_schedule()
        pause_schedule("tea")
        due_since("tea", HOUR)
        assert fire() == 0

        row = resume_schedule("tea")

        assert row.paused_at is None
        assert row.next_tick_at is not None
        assert row.next_tick_at > database_now()
        assert fire() == 0

    def test_to_resume_one_that_does_not_rest_loses_no_tick(self) -> None:
        new_schedule()
        due_since("tea", NOW)

        resume_schedule("tea")

        assert fire() == 1

    def test_a_task_unknown_here_is_left_to_others(self) -> None:
        new_schedule("tea")
        new_schedule("milk")
        rewrite("tea", task_path="elsewhere.task")
        tick = due_since("tea", HOUR)
        due_since("milk", NOW)

        assert fire() == 1
        assert row_of("tea").next_tick_at == tick
        assert row_of("tea").problem == ""

    def test_jitter_makes_the_job_due_later(self) -> None:
        new_schedule(jitter=timedelta(hours=12))
        due_since("tea", NOW)

        fire()

        (job,) = jobs_of()
        assert job.state == "SCHEDULED"
        assert timedelta(0) < job.due_at - job.enqueued_at <= timedelta(hours=12)

    def test_a_tick_decided_before_is_not_decided_again(self) -> None:
        new_schedule(overlap="queue")
        tick = due_since("tea", NOW)
        fire()

        rewrite("tea", next_tick_at=tick)

        assert fire() == 0
        assert ticks_of() == ["ENQUEUED"]
        assert len(jobs_of()) == 1
        assert row_of().problem == ""

    def test_a_second_job_of_a_tick_cannot_be_noted(self) -> None:
        new_schedule()
        tick = due_since("tea", NOW)
        fire()
        (job,) = jobs_of()
        decision = schedules.Decision(
            tick_at=tick, outcome=TickOutcome.ENQUEUED, job_id=uuid7(after=job.pk)
        )

        with pytest.raises(RuntimeError, match="was decided on before"):
            schedules.save_ticks(connection, "tea", [decision])

        assert Tick.objects.get().job_id == job.pk

    def test_the_task_is_told_its_tick(self) -> None:
        seen: list[datetime | None] = []

        @task(path="scheduled.told")
        def told() -> None:
            job = current_job()
            seen.append(job.tick_at if job else None)

        new_schedule("told", task=told, args=())
        tick = due_since("told", NOW)
        fire()
        run_jobs()
        (job,) = jobs_of("told")
        assert restart_job(job).tick_at == tick
        run_jobs()

        assert seen == [tick, tick]

    def test_a_schedule_that_ends_rests(self) -> None:
        new_schedule(cron="0 0 1 1 *")
        rewrite("tea", cron="0 0 * 2 MON#5")
        due_since("tea", NOW)

        assert fire() == 1
        assert row_of().next_tick_at is None

    def test_a_worker_s_chores_fire(self) -> None:
        new_schedule()
        due_since("tea", NOW)

        maintenance = new_maintenance()
        maintenance.run_due()

        assert ticks_of() == ["ENQUEUED"]
        assert maintenance.fire_schedules() is None  # not at once again

    def test_a_worker_claims_between_many_that_are_due(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_durable.engine.firing.MOST_AT_ONCE", 2)
        for name in ("a", "b", "c"):
            new_schedule(name)
            due_since(name, NOW)
        firing = Firing("default")

        assert (firing.fire_due(), firing.has_more) == (2, True)
        assert (firing.fire_due(), firing.has_more) == (1, False)

    def test_to_find_nothing_due_is_one_statement(self) -> None:
        new_schedule()

        with CaptureQueriesContext(connection) as captured:
            fire()

        statements = [q["sql"] for q in captured if "SAVEPOINT" not in q["sql"]]
        assert len(statements) == 1


class MissedTests:
    def missed(self, policy: str, *, fresh: bool = False) -> list[str]:
        """The outcomes after three hourly ticks that nobody was there for, and perhaps one now."""
        new_schedule(missed=policy, cron="* * * * *" if fresh else hourly_but_now())
        due_since("tea", timedelta(minutes=3 if fresh else 200, seconds=30))
        fire()
        return ticks_of()

    def test_none_lets_them_go(self) -> None:
        outcomes = self.missed("none")

        assert set(outcomes) == {"MISSED"}
        assert jobs_of() == []
        assert "no worker was there" in Tick.objects.first().reason  # type: ignore[union-attr]

    def test_one_makes_up_the_latest(self) -> None:
        outcomes = self.missed("one")

        assert outcomes[-1] == "ENQUEUED"
        assert set(outcomes[:-1]) == {"MISSED"}
        assert len(jobs_of()) == 1

    def test_one_makes_up_none_if_a_tick_is_due_now(self) -> None:
        outcomes = self.missed("one", fresh=True)

        assert outcomes[-1] == "ENQUEUED"
        assert outcomes.count("ENQUEUED") == 1

    def test_all_makes_up_each_oldest_first(self) -> None:
        outcomes = self.missed("all")

        jobs = jobs_of()
        assert set(outcomes) == {"ENQUEUED"}
        assert len(jobs) == len(outcomes) >= 3
        assert sorted(jobs, key=lambda job: job.pk) == jobs

    def test_all_is_bounded_and_says_so(self) -> None:
        new_schedule(missed="all", cron="* * * * * *")
        due_since("tea", timedelta(days=3650))

        fire()

        assert len(jobs_of()) == MOST_MADE_UP
        assert row_of().next_tick_at is not None
        assert fire() <= 10  # seconds that passed meanwhile

    def test_missed_ones_that_are_not_noted_are_told_of(self) -> None:
        new_schedule(missed="none", cron="* * * * *")
        due_since("tea", timedelta(days=3650))

        fire()

        first = Tick.objects.order_by("tick_at")[0]
        assert "earlier ticks, which are not noted" in first.reason

    def test_a_tick_within_the_grace_is_not_missed(self) -> None:
        new_schedule(missed="none")
        due_since("tea", timedelta(seconds=30))

        assert fire() == 1


class OverlapTests:
    def second(self, policy: str) -> tuple[Job, list[str]]:
        """The first job, and the outcomes after a second tick, while the first is unfinished."""
        new_schedule(overlap=policy)
        due_since("tea", timedelta(seconds=20))
        fire()
        due_since("tea", timedelta(seconds=10))
        fire()
        return jobs_of()[0], ticks_of()

    def test_skip_notes_why(self) -> None:
        first, outcomes = self.second("skip")

        assert outcomes == ["ENQUEUED", "SKIPPED"]
        skipped = Tick.objects.get(outcome="SKIPPED")
        assert skipped.reason == f"job {first.pk} of an earlier tick is not finished"
        assert skipped.job_id is None

    def test_queue_enqueues_another(self) -> None:
        assert self.second("queue")[1] == ["ENQUEUED", "ENQUEUED"]

    def test_cancel_ends_the_other(self) -> None:
        first, outcomes = self.second("cancel")

        assert outcomes == ["ENQUEUED", "ENQUEUED"]
        first.refresh()
        assert first.state == "CANCELLED"

    def test_a_finished_job_is_not_in_the_way(self) -> None:
        new_schedule()
        due_since("tea", timedelta(seconds=20))
        fire()
        cancel_job(jobs_of()[0])
        due_since("tea", timedelta(seconds=10))

        assert fire() == 1

    def test_the_jobs_of_another_schedule_are_not_in_the_way(self) -> None:
        for name in ("tea", "milk"):
            new_schedule(name)
            due_since(name, NOW)

        assert fire() == 2


class SameCallTests:
    @pytest.mark.parametrize("on_conflict", ["return", "reject"])
    def test_a_unique_call_that_exists_is_a_skipped_tick(self, on_conflict: str) -> None:
        @task(path="scheduled.unique", unique=Unique("unfinished", on_conflict=on_conflict))
        def unique() -> None: ...

        other = unique.enqueue()
        new_schedule("tea", task=unique, args=(), overlap="queue")
        due_since("tea", NOW)

        assert fire() == 0

        assert ticks_of() == ["SKIPPED"]
        assert str(other.pk) in Tick.objects.get().reason
        assert row_of().problem == ""
        other.refresh()
        assert other.schedule_name is None


class BadRowTests:
    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            ({"cron": "nonsense"}, "Wrong number of fields"),
            ({"timezone": "Mars/Olympus"}, "no such time zone"),
            ({"arguments": "[]"}, "arguments"),
            ({"arguments": '{"args":[1,2,3,4],"kwargs":{}}'}, "cannot be called"),
        ],
    )
    def test_a_row_edited_by_hand_says_why_and_stops_no_other(
        self, columns: dict[str, Any], said: str
    ) -> None:
        new_schedule("bad")
        new_schedule("good")
        rewrite("bad", **columns)
        tick = due_since("bad", timedelta(seconds=30))
        due_since("good", NOW)

        assert fire() == 1

        bad = row_of("bad")
        assert said in bad.problem
        assert bad.next_tick_at == tick
        assert ticks_of("bad") == []
        assert ticks_of("good") == ["ENQUEUED"]

    def test_a_mended_row_fires_and_forgets_its_problem(self) -> None:
        new_schedule()
        rewrite("tea", cron="nonsense")
        due_since("tea", NOW)
        fire()
        rewrite("tea", cron=hourly_but_now())

        assert fire() == 1
        assert row_of().problem == ""

    def test_a_worker_leaves_a_bad_row_alone_for_a_while(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_durable.engine.firing.AGAIN_SECONDS", 3600.0)
        new_schedule()
        rewrite("tea", cron="nonsense")
        due_since("tea", NOW)
        firing = Firing("default")
        firing.fire_due()
        rewrite("tea", cron=hourly_but_now())

        assert firing.fire_due() == 0
        firing._left_alone.clear()
        assert firing.fire_due() == 1


class ByHandTests:
    def test_run_now_is_a_job_beside_the_ticks(self) -> None:
        new_schedule()
        pause_schedule("tea")
        before = row_of()

        job = run_schedule("tea")

        assert (job.schedule_name, job.state) == ("tea", "READY")
        assert Tick.objects.get().reason == "run by hand"
        assert Tick.objects.get().tick_at == job.tick_at
        assert row_of().next_tick_at == before.next_tick_at

    def test_a_range_is_made_up_once(self) -> None:
        new_schedule(cron=HOURLY)
        until = database_now().replace(minute=30) - 2 * HOUR
        since = until - 3 * HOUR

        would = backfill_schedule("tea", since, until, dry_run=True)
        assert jobs_of() == []
        done = backfill_schedule("tea", since, until)
        repeated = backfill_schedule("tea", since, until)

        assert [tick.is_enqueued for tick in would] == [True] * 3
        assert [tick.job_id for tick in would] == [None] * 3
        assert [tick.is_enqueued for tick in done] == [True] * 3
        assert [tick.is_enqueued for tick in repeated] == [False] * 3
        assert [t.job_id for t in repeated] == [job.pk for job in jobs_of()]
        assert [job.tick_at for job in jobs_of()] == [tick.tick_at for tick in would]

    def test_a_range_is_made_up_again_if_asked(self) -> None:
        new_schedule(cron=HOURLY)
        until = database_now().replace(minute=30) - 2 * HOUR

        first = backfill_schedule("tea", until - HOUR, until)
        second = backfill_schedule("tea", until - HOUR, until, again=True)

        assert first[0].job_id != second[0].job_id
        assert len(jobs_of()) == 2
        assert Tick.objects.get().job_id == second[0].job_id

    def test_what_was_missed_can_be_made_up(self) -> None:
        new_schedule(cron=HOURLY, missed="none")
        tick = database_now().replace(minute=0, second=0, microsecond=0) - 5 * HOUR
        rewrite("tea", next_tick_at=tick)
        fire()
        assert ticks_of()[0] == "MISSED"

        done = backfill_schedule("tea", tick, tick)

        assert [one.is_enqueued for one in done] == [True]
        assert ticks_of()[0] == "ENQUEUED"

    @pytest.mark.parametrize("ago", [timedelta(seconds=10), timedelta(minutes=30)])
    def test_a_tick_that_is_due_and_was_made_up_is_not_fired_again(self, ago: timedelta) -> None:
        tick = database_now().replace(microsecond=0) - ago
        new_schedule(cron=f"{tick.second} {tick.minute} * * * *", overlap="queue")
        backfill_schedule("tea", tick, tick)
        (job,) = jobs_of()
        rewrite("tea", next_tick_at=tick)

        assert fire() == 0

        assert jobs_of() == [job]
        assert ticks_of() == ["ENQUEUED"]
        assert row_of().problem == ""

    def test_bad_ranges_are_refused(self) -> None:
        new_schedule(cron="* * * * *")
        now = database_now()

        for since, until, said in (
            (now, now - HOUR, "from an earlier"),
            (now, now + HOUR, "not beyond now"),
            (now - timedelta(days=30), now, "more than 1000 ticks"),
            (now.replace(tzinfo=None), now, "aware"),
            (datetime.min.replace(tzinfo=UTC), now, "nothing to make up before 1970"),
        ):
            with pytest.raises(InvalidOptionError, match=said):
                backfill_schedule("tea", since, until)
        assert jobs_of() == []

    def test_a_range_is_all_or_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        new_schedule()
        until = database_now()
        rewrite("tea", arguments='{"args":[1,2,3],"kwargs":{}}')

        with pytest.raises(TypeError):
            backfill_schedule("tea", until - 3 * HOUR, until)

        assert ticks_of() == []

    @pytest.mark.parametrize("name", ["coffee", "a\x00", "\ud800", None])
    @pytest.mark.parametrize("verb", [run_schedule, pause_schedule, resume_schedule])
    def test_an_unknown_schedule_is_refused(self, verb: Any, name: Any) -> None:
        with pytest.raises(InvalidOptionError, match="no such schedule"):
            verb(name)

    def test_a_task_that_is_gone_is_named(self) -> None:
        new_schedule()
        rewrite("tea", task_path="elsewhere.task")

        with pytest.raises(UnknownTaskError, match=r"elsewhere\.task"):
            run_schedule("tea")


class ChangingTests:
    def test_another_rule_holds_from_now_on(self) -> None:
        new_schedule()
        due_since("tea", HOUR)
        minute = minute_but_now()

        row = change_schedule("tea", expression=f"{minute} 4 * * *", tz="Europe/Berlin")

        assert row.next_tick_at is not None
        assert row.next_tick_at > database_now()
        local = row.next_tick_at.astimezone(ZoneInfo("Europe/Berlin"))
        assert (local.hour, local.minute) == (4, minute)
        assert fire() == 0

    def test_other_changes_leave_the_next_tick(self) -> None:
        new_schedule()
        tick = due_since("tea", NOW)

        row = change_schedule("tea", overlap="queue", args=("b",))

        assert row.next_tick_at == tick
        fire()
        assert jobs_of()[0].args == ["b"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"expression": "nonsense"},
            {"tz": "Mars/Olympus"},
            {"missed": "some"},
            {"overlap": "often"},
            {"jitter": timedelta(days=-1)},
            {"missed": "all", "overlap": "cancel"},
            {"args": ()},
            {"args": ("a", "b", "c")},
        ],
    )
    def test_bad_values_are_refused(self, changes: dict[str, Any]) -> None:
        new_schedule()
        before = Schedule.objects.values().get()

        with pytest.raises((InvalidOptionError, TypeError)):
            change_schedule("tea", **changes)

        assert Schedule.objects.values().get() == before

    def test_names_are_taken_once(self) -> None:
        new_schedule()

        with pytest.raises(InvalidOptionError, match="of that name already"):
            new_schedule()

    def test_a_removed_schedule_leaves_its_jobs(self) -> None:
        new_schedule()
        due_since("tea", NOW)
        fire()

        remove_schedule("tea")

        assert names() == []
        assert not Tick.objects.exists()
        assert len(jobs_of()) == 1

    def test_a_schedule_is_made_in_the_caller_s_transaction(self) -> None:
        with transaction.atomic():
            add_schedule(quick, Cron(HOURLY, name="gone", args=("a",)))
            transaction.set_rollback(True)

        assert names() == []

    def test_declarations_are_no_place_for_other_things(self) -> None:
        with pytest.raises(InvalidOptionError, match="must be a Cron"):
            add_schedule(quick, HOURLY)  # type: ignore[arg-type]
        with pytest.raises(TaskDefinitionError, match="schedule is a Cron"):
            task(path="scheduled.odd", schedule=HOURLY)(lambda: None)


def test_old_ticks_are_pruned() -> None:
    new_schedule(overlap="queue")
    for _ in range(3):
        due_since("tea", NOW)
        fire()
    first, second, third = Tick.objects.order_by("tick_at")
    for tick in (first, second):
        Tick.objects.filter(pk=tick.pk).update(tick_at=tick.tick_at - timedelta(days=91))

    assert schedules.prune_ticks(connection, timedelta(days=90), limit=1) == 1
    Pruner(connection).look()

    assert list(Tick.objects.all()) == [third]
