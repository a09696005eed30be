"""What limits hold back, and what they let start: one claim after the other."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from django_durable import Limit, Task, task
from django_durable.engine import claims, limits, registry
from django_durable.engine.clock import StatementTimestamp
from django_durable.models import Job, LimitStart, Queue
from django_durable.models import Limit as LimitRow
from django_durable.testing import run_jobs
from tests.builders import HOUR, rewritten_job
from tests.engine.test_claims import claimant
from tests.sessions import second_session


def limited(name: str = "crm", *, keyed: bool = True, **numbers: Any) -> Task[..., Any]:
    """A task under a limit of its own: ``enqueue(key, n)``."""

    def work(key: str, n: int = 0) -> int:
        return n

    key = (lambda key, n=0: key) if keyed else None
    declared: Task[..., Any] = task(path=f"tests.{name}", limit=Limit(name, key=key, **numbers))(
        work
    )
    limits.declare_limits(connection, registry.declared_limits().values())
    return declared


@task
def free(key: str = "free", n: int = 0) -> int:
    return n


def labels(claimed: claims.Claimed) -> list[Any]:
    return [job.args[0] if len(job.args) < 2 else tuple(job.args) for job in claimed.jobs]


def claim(by: claims.Claimant, *queues: str, limit: int = 10, ahead: int = 0) -> claims.Claimed:
    """A claim by one who knows every task that is declared by now."""
    now = replace(by, task_paths=registry.known_paths())
    return claims.claim_jobs(now, queues or ["default"], limit=limit, ahead=ahead)


def end(job: Job, **columns: Any) -> None:
    """Let a running job go, as an outcome would."""
    finished = {"state": "SUCCESSFUL", "finished_at": StatementTimestamp()}
    rewritten_job(job, worker_id=None, **(columns or finished))


def age_starts(by: timedelta) -> None:
    LimitStart.objects.update(started_at=F("started_at") - by)


@pytest.fixture
def by(db: None) -> claims.Claimant:
    return claimant()


class ConcurrencyTests:
    def test_no_more_run_at_once_and_places_come_back(self, by: claims.Claimant) -> None:
        crm = limited(keyed=False, concurrency=2)
        for n in range(5):
            crm.enqueue(str(n))

        first = claim(by)
        assert labels(first) == ["0", "1"]
        assert labels(claim(by)) == []
        end(first.jobs[0])
        assert labels(claim(by)) == ["2"]
        assert labels(claim(by)) == []

    def test_each_key_is_counted_apart(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=2)
        for n in range(3):
            for key in "ab":
                crm.enqueue(key, n)

        assert labels(claim(by)) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
        assert labels(claim(by)) == []

    @pytest.mark.parametrize(
        "gone", ["cancelled", "deleted", "recovered", "scheduled", "waiting", "handed back"]
    )
    def test_a_place_comes_back_however_the_job_left(self, by: claims.Claimant, gone: str) -> None:
        crm = limited(keyed=False, concurrency=1)
        crm.enqueue("a")
        crm.enqueue("b")
        (job,) = claim(by).jobs
        ways: dict[str, dict[str, Any]] = {
            "cancelled": {"state": "CANCELLED", "finished_at": StatementTimestamp()},
            "recovered": {"state": "READY", "lost_count": 1},
            "scheduled": {"state": "SCHEDULED", "due_at": StatementTimestamp() + HOUR},
            "waiting": {"state": "WAITING", "wait_kind": "event"},
            "handed back": {"state": "READY"},
        }
        if gone == "deleted":
            Job.objects.filter(pk=job.pk)._raw_delete("default")
        else:
            end(job, **ways[gone])

        (again,) = claim(by).jobs
        assert again.args[0] == ("a" if ways.get(gone, {}).get("state") == "READY" else "b")


class OneForEachKeyTests:
    """A limit of one with a key keeps the order of each key."""

    def test_in_order_of_priority_due_time_and_age(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=1)
        for n, priority in enumerate([0, 50, 0]):
            crm.using(priority=priority).enqueue("a", n)
        taken = []
        while jobs := claim(by).jobs:
            taken += [job.args[1] for job in jobs]
            end(jobs[0])

        assert taken == [1, 0, 2]

    @pytest.mark.parametrize("state", ["SCHEDULED", "READY"])
    def test_a_job_that_has_begun_keeps_its_key(self, by: claims.Claimant, state: str) -> None:
        crm = limited(concurrency=1)
        crm.using(priority=-5).enqueue("a", 1)
        (begun,) = claim(by).jobs
        crm.using(priority=50).enqueue("a", 2)
        crm.using(priority=-50).enqueue("b", 3)
        end(begun, state="SCHEDULED", due_at=F("due_at") + HOUR)

        assert labels(claim(by)) == [("b", 3)]
        rewritten_job(begun, state="READY")
        assert labels(claim(by)) == [("a", 1)]
        assert labels(claim(by)) == []
        end(begun)
        assert labels(claim(by)) == [("a", 2)]

    def test_one_that_waits_gives_it_up(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=1)
        crm.enqueue("a", 1)
        (parent,) = claim(by).jobs
        crm.enqueue("a", 2)
        end(parent, state="WAITING", wait_kind="children")

        (child,) = claim(by).jobs
        assert child.args[1] == 2
        rewritten_job(parent, state="READY", wait_kind=None)
        assert labels(claim(by)) == []
        end(child)
        assert labels(claim(by)) == [("a", 1)]

    @pytest.mark.parametrize("columns", [{"task_path": "unknown"}, {"lost_count": 2}])
    def test_the_first_is_not_overtaken(self, by: claims.Claimant, columns: Any) -> None:
        crm = limited(concurrency=1)
        rewritten_job(crm.enqueue("a", 1), **columns)
        crm.enqueue("a", 2)

        assert labels(claim(by)) == []

    def test_others_are_overtaken(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=2)
        rewritten_job(crm.enqueue("a", 1), task_path="unknown")
        rewritten_job(crm.enqueue("a", 2), lost_count=2)
        crm.enqueue("a", 3)

        assert labels(claim(by)) == [("a", 3)]

    def test_a_suspect_is_claimed_alone_and_through_the_gate(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=1)
        rewritten_job(crm.enqueue("a", 1), lost_count=2)
        crm.enqueue("a", 2)
        by = replace(by, task_paths=registry.known_paths())

        assert claims.has_suspect(by, ["default"])
        (job,) = claims.claim_suspect(by, ["default"]).jobs
        assert job.args == ["a", 1]
        assert labels(claim(by)) == []
        rewritten_job(Job.objects.get(state="READY"), lost_count=2)
        assert not claims.has_suspect(by, ["default"])
        assert claims.claim_suspect(by, ["default"]).jobs == []

    @pytest.mark.django_db(transaction=True)
    def test_a_locked_first_job_is_not_overtaken_but_by_other_keys(
        self, by: claims.Claimant
    ) -> None:
        crm, wide = limited(concurrency=1), limited("wide", concurrency=2)
        firsts = [task.enqueue("a", 1).pk for task in (crm, wide)]
        for declared in (crm, wide):
            declared.enqueue("a", 2)
            declared.enqueue("b", 3)

        with second_session() as session, session.transaction():
            session.execute("select from durable_job where id = any (%s) for update", [firsts])
            found = {(job.task_path, job.args[1]) for job in claim(by).jobs}

        assert found == {("tests.crm", 3), ("tests.wide", 2), ("tests.wide", 3)}


class TurnTests:
    def test_a_quiet_key_is_not_starved_by_a_hot_one(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=50)
        for n in range(40):
            crm.enqueue("hot", n)
        for key in ["a", "quiet", "z"]:
            crm.enqueue(key)

        first, second = claim(by, limit=3), claim(by, limit=3)

        keys = [job.args[0] for job in first.jobs + second.jobs]
        assert {"a", "hot", "quiet", "z"} <= set(keys)

    def test_one_slot_at_a_time_goes_round_all_keys(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=50)
        for key in "abc":
            for n in range(3):
                crm.enqueue(key, n)

        keys = [claim(by, limit=1).jobs[0].args[0] for _ in range(9)]

        assert "".join(keys) == "abcabcabc"

    def test_keys_without_room_do_not_hide_others(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=1)
        for n in range(100):
            crm.enqueue(f"{n:03}", 1)
            crm.enqueue(f"{n:03}", 2)
        claim(by, limit=100)
        while claim(by, limit=100).jobs:
            pass
        assert Job.objects.filter(state="RUNNING").count() == 100
        crm.enqueue("~last")

        looks = 0
        while not (found := claim(by)).jobs:
            assert found.look_again_in is not None
            assert found.look_again_in < 0.1
            looks += 1

        assert labels(found) == ["~last"]
        assert looks < 6

    def test_it_rests_when_it_has_seen_all_and_none_has_room(
        self, by: claims.Claimant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "MOST_KEYS", 32)
        crm = limited(rate=1, period=HOUR)
        for n in range(100):
            crm.enqueue(f"{n:03}", 1)
            crm.enqueue(f"{n:03}", 2)
        while Job.objects.filter(state="RUNNING").count() < 100:
            claim(by, limit=100)

        pauses = [claim(by).look_again_in for _ in range(30)]

        assert all(pauses)
        assert 3 <= sum(1 for pause in pauses if pause and pause > 60) <= 10

    def test_a_queue_without_room_is_not_looked_at_again_and_again(
        self, by: claims.Claimant
    ) -> None:
        Queue.objects.bulk_create([Queue(name="default", concurrency=1)])
        crm = limited(concurrency=1)
        for n in range(100):
            crm.enqueue(f"{n:03}")
        assert len(claim(by).jobs) == 1

        assert claim(by).look_again_in is None


class MergeTests:
    def test_with_jobs_without_limits_by_priority_due_time_and_age(
        self, by: claims.Claimant
    ) -> None:
        crm = limited(concurrency=5)
        for n, (declared, priority) in enumerate(
            [(crm, 0), (free, 0), (crm, 10), (free, 20), (crm, -10), (free, -20)]
        ):
            declared.using(priority=priority).enqueue("a", n)

        assert [job.args[1] for job in claim(by).jobs] == [3, 2, 0, 1, 4, 5]

    def test_nothing_is_taken_ahead_past_a_job_that_waits_for_a_slot(
        self, by: claims.Claimant
    ) -> None:
        crm = limited(keyed=False, concurrency=1)
        free.enqueue("free", 1)
        free.enqueue("free", 2)
        crm.enqueue("crm")
        free.enqueue("free", 3)

        first = claim(by, limit=1, ahead=5)
        assert [job.claimed_ahead for job in first.jobs] == [False, True]
        assert labels(claim(by, limit=0, ahead=5)) == []
        assert labels(claim(by, limit=1, ahead=5)) == ["crm", ("free", 3)]

    def test_a_job_ahead_has_not_begun(self, by: claims.Claimant) -> None:
        job = free.enqueue("a")

        (taken,) = claim(by, limit=0, ahead=1).jobs
        job.refresh()
        assert (job.state, job.started_at, job.claimed_ahead) == ("RUNNING", None, True)
        assert taken.claimed_ahead
        rewritten_job(job, state="READY", worker_id=None)
        assert labels(claim(by, limit=0, ahead=1)) == []
        claim(by, limit=1)
        job.refresh()
        assert (job.started_at, job.claimed_ahead) == (job.claimed_at, False)

    def test_two_queues_share_a_limit(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=1)
        crm.using(queue_name="one").enqueue("a")
        crm.using(queue_name="two").enqueue("a")

        assert labels(claim(by, "two", "one")) == ["a"]
        assert labels(claim(by, "two", "one")) == []


class QueueTests:
    def test_all_jobs_of_a_queue_are_counted(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=5)
        for n in range(3):
            free.enqueue("free", n)
            crm.enqueue("crm", n)
        Queue.objects.bulk_create([Queue(name="default", concurrency=4)])

        first = claim(by, ahead=9)
        assert [job.args[1] for job in first.jobs] == [0, 0, 1, 1]
        assert labels(claim(by)) == []
        end(first.jobs[0])
        assert len(claim(by).jobs) == 1

    def test_a_rate_of_a_queue(self, by: claims.Claimant) -> None:
        for n in range(5):
            free.enqueue("free", n)
        Queue.objects.bulk_create([Queue(name="default", rate=2, period=HOUR)])

        assert len(claim(by).jobs) == 2
        again = claim(by)
        assert again.jobs == []
        assert 3000 < (again.look_again_in or 0) <= 3600
        age_starts(HOUR)
        assert len(claim(by, limit=1).jobs) == 1

    def test_a_paused_queue_starts_nothing(self, by: claims.Claimant) -> None:
        limited(concurrency=5).using(queue_name="paused").enqueue("a")
        free.using(queue_name="paused").enqueue("b")
        free.enqueue("c")
        now = StatementTimestamp()
        Queue.objects.bulk_create([Queue(name="paused", paused_at=now, resume_at=now + HOUR)])

        found = claim(by, "paused", "default")
        assert labels(found) == ["c"]
        assert 3000 < (found.look_again_in or 0) <= 3600
        Queue.objects.update(resume_at=now)
        assert set(labels(claim(by, "paused"))) == {"a", "b"}

    def test_a_limit_set_while_jobs_run_counts_them(self, by: claims.Claimant) -> None:
        for n in range(5):
            free.enqueue("free", n)
        claim(by, limit=3)
        Queue.objects.bulk_create([Queue(name="default", concurrency=4)])

        assert len(claim(by).jobs) == 1


class RateTests:
    def test_no_more_start_within_the_period(self, by: claims.Claimant) -> None:
        mail = limited("mail", keyed=False, rate=3, period=HOUR)
        for n in range(6):
            mail.enqueue(str(n))

        first = claim(by, limit=2)
        for job in first.jobs:
            end(job)
        age_starts(HOUR / 2)
        assert labels(claim(by)) == ["2"]
        again = claim(by)
        assert again.jobs == []
        assert 1200 < (again.look_again_in or 0) <= 1800
        age_starts(HOUR / 2)
        assert labels(claim(by)) == ["3", "4"]

    def test_each_key_has_its_own_rate(self, by: claims.Claimant) -> None:
        mail = limited("mail", rate=1, period=HOUR)
        for key in "ab":
            mail.enqueue(key, 1)
            mail.enqueue(key, 2)

        assert labels(claim(by)) == [("a", 1), ("b", 1)]
        assert labels(claim(by)) == []

    def test_a_start_is_noted_with_the_time_of_its_claim(self, by: claims.Claimant) -> None:
        mail = limited("mail", rate=5, period=HOUR)
        mail.enqueue("a", 1)
        mail.enqueue("a", 2)

        claimed = claim(by).jobs

        (start,) = LimitStart.objects.all()
        assert (start.scope, start.limit_key, start.jobs) == ("limit/mail", "a", 2)
        assert {job.claimed_at for job in claimed} == {start.started_at}

    def test_old_starts_are_forgotten(self, by: claims.Claimant) -> None:
        mail = limited("mail", rate=1, period=HOUR)
        for n in range(3):
            mail.enqueue("a", n)
            claim(by)
            age_starts(HOUR)
        assert LimitStart.objects.count() == 1

        assert limits.prune_starts(connection, limit=10) == 1
        assert limits.prune_starts(connection, limit=10) == 0

    def test_both_at_once(self, by: claims.Claimant) -> None:
        mail = limited("mail", keyed=False, concurrency=2, rate=3, period=HOUR)
        for n in range(6):
            mail.enqueue(str(n))

        first = claim(by)
        assert len(first.jobs) == 2
        for job in first.jobs:
            end(job)
        assert len(claim(by).jobs) == 1
        assert claim(by).jobs == []

    @pytest.mark.django_db
    def test_run_jobs_goes_by_it_and_moves_its_time(self) -> None:
        mail = limited("mail", keyed=False, rate=2, period=HOUR)
        for n in range(5):
            mail.enqueue(str(n))

        assert len(run_jobs()) == 2
        assert len(run_jobs(ahead=HOUR)) == 2


class RowTests:
    def test_an_operators_numbers_hold_from_the_next_claim_on(self, by: claims.Claimant) -> None:
        crm = limited(keyed=False, concurrency=1)
        for n in range(9):
            crm.enqueue(str(n))
        claim(by)
        LimitRow.objects.update(concurrency=6)
        assert len(claim(by).jobs) == 5
        LimitRow.objects.update(concurrency=1)
        assert len(claim(by).jobs) == 0
        LimitRow.objects.update(concurrency=None)
        assert len(claim(by).jobs) == 3

    def test_a_limit_without_a_row_gets_it_before_any_job_starts(self, by: claims.Claimant) -> None:
        crm = limited(keyed=False, concurrency=1)
        crm.enqueue("a")
        LimitRow.objects.all()._raw_delete("default")

        first = claim(by)
        assert (first.jobs, first.look_again_in) == ([], 0.0)
        assert labels(claim(by)) == ["a"]

    def test_a_limit_that_nobody_here_declares_holds(self, by: claims.Claimant) -> None:
        rewritten_job(free.enqueue(), limit_name="unknown", limit_key="")

        assert labels(claim(by)) == []
        assert not LimitRow.objects.exists()

    @pytest.mark.django_db
    def test_a_declaration_is_taken_over_but_for_what_an_operator_changed(self) -> None:
        def declare(**numbers: Any) -> tuple[Any, ...]:
            limits.declare_limits(connection, [Limit("crm", **numbers)])
            return LimitRow.objects.values_list("concurrency", "rate", "period").get()

        assert declare(concurrency=5) == (5, None, None)
        assert declare(concurrency=6) == (6, None, None)
        LimitRow.objects.update(concurrency=2)
        assert declare(concurrency=6) == (2, None, None)
        assert declare(concurrency=7, rate=9, period=HOUR) == (2, 9, HOUR)
        LimitRow.objects.update(rate=None, period=None)
        assert declare(concurrency=7, rate=10, period=HOUR) == (2, None, None)

    @pytest.mark.django_db(transaction=True)
    def test_declaring_what_stands_there_waits_for_nobody(self) -> None:
        limited(concurrency=5)

        with second_session() as session, session.transaction():
            session.execute("select from durable_limit for update")
            assert limits.declare_limits(connection, registry.declared_limits().values()) == []

    @pytest.mark.django_db(transaction=True)
    def test_a_limit_that_somebody_holds_is_passed_over(self, by: claims.Claimant) -> None:
        limited(concurrency=5).enqueue("a")
        free.enqueue("b")
        free.using(queue_name="held").enqueue("c")
        Queue.objects.bulk_create([Queue(name="held", concurrency=1)])

        with second_session() as session, session.transaction():
            session.execute("select from durable_limit for no key update")
            session.execute("select from durable_queue for no key update")
            found = claim(by, "default", "held")

        assert labels(found) == ["b"]
        assert found.look_again_in == claims.HELD_SECONDS
        assert set(labels(claim(by, "default", "held"))) == {"a", "c"}


class FindingTests:
    def test_a_queue_with_limited_jobs_only_is_found(self, by: claims.Claimant) -> None:
        crm = limited(concurrency=1)
        for queue_name in ["b", "d"]:
            crm.using(queue_name=queue_name).enqueue("a")
        for queue_name in ["a", "b", "c"]:
            free.using(queue_name=queue_name).enqueue("a")

        assert claims.find_ready_queues(connection) == ["a", "b", "c", "d"]
