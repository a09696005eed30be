"""What a child's end means to its siblings and its parent: states, statements, rows left alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from django_durable.engine import families, outcomes
from django_durable.engine.enqueueing import uuid7
from django_durable.engine.states import FOREVER, JobState
from django_durable.models import Attempt, Job
from tests.builders import rewritten_job, statements
from tests.families import (
    CHILD,
    MAP,
    children_of,
    claim_only,
    end,
    fresh,
    mapped_children,
    parent_job,
    states_of,
    waiting,
)
from tests.protocol.world import cancel, finish, new_job, outcome, save

pytestmark = pytest.mark.django_db
FAILED, CANCELLED, SUCCESSFUL = JobState.FAILED, JobState.CANCELLED, JobState.SUCCESSFUL


class WakingTests:
    @pytest.mark.parametrize("state", [SUCCESSFUL, FAILED, CANCELLED])
    def test_the_last_end_wakes_the_parent(self, state: JobState) -> None:
        parent = parent_job()
        one, two = mapped_children(parent, 2, max_failures=9)
        waiting(parent, MAP)

        end(one, state)
        assert states_of(parent) == ["WAITING"]
        end(two, state)

        parent = fresh(parent)
        assert parent.state == "READY"
        assert parent.due_at < FOREVER
        waits = (parent.wait_kind, parent.wait_key, parent.wait_reason, parent.waiting_since)
        assert waits == (None, None, None, None)

    def test_each_started_child_is_waited_for_on_its_own(self) -> None:
        parent = parent_job()
        one, two = children_of(parent, CHILD, f"{CHILD}#2")
        waiting(parent, f"{CHILD}#2")

        end(one)
        assert states_of(parent) == ["WAITING"]
        end(two)

        assert states_of(parent) == ["READY"]

    def test_any_of_several_waits_wakes_it(self) -> None:
        parent = parent_job()
        one, _ = children_of(parent, CHILD, f"{CHILD}#2")
        waiting(parent, CHILD, f"{CHILD}#2")

        end(one)

        assert states_of(parent) == ["READY"]

    def test_a_child_that_nobody_awaits_wakes_nobody(self) -> None:
        parent = parent_job()
        children_of(parent, CHILD)
        (other,) = children_of(parent, "enqueue:other")
        other = rewritten_job(other, awaited_as=None)
        waiting(parent, CHILD)

        end(other)

        assert states_of(parent) == ["WAITING"]

    def test_a_parent_that_runs_is_left_alone(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)

        end(child)

        assert fresh(parent).lease_token == parent.lease_token
        assert states_of(parent) == ["RUNNING"]

    def test_a_blocked_parent_stays_blocked(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        parent = rewritten_job(waiting(parent, CHILD), wait_kind="blocked")

        end(child)

        assert fresh(parent).wait_kind == "blocked"

    def test_a_parent_whose_row_is_gone_is_no_obstacle(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        with connection.cursor() as cursor:
            cursor.execute("delete from durable_job where id = %s", [parent.pk])

        assert end(child).state == "SUCCESSFUL"

    def test_a_retry_that_ends_since_it_was_cancelled_wakes_the_parent(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        waiting(parent, CHILD)
        (child,) = claim_only(child)
        cancel(child)

        finish(child, JobState.SCHEDULED, delay=timedelta(hours=1))

        assert states_of(child, parent) == ["CANCELLED", "READY"]

    def test_a_child_that_is_tried_again_wakes_nobody(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        waiting(parent, CHILD)
        (child,) = claim_only(child)

        finish(child, JobState.SCHEDULED, delay=timedelta(hours=1))

        assert states_of(child, parent) == ["SCHEDULED", "WAITING"]

    @pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.WAITING, JobState.READY])
    def test_a_sibling_that_is_still_to_run_is_waited_for(self, state: JobState) -> None:
        parent = parent_job()
        one, two = mapped_children(parent, 2)
        waiting(parent, MAP)
        (one,) = claim_only(one)
        finish(one, state, delay=timedelta(hours=1), reason="later")

        end(two)

        assert states_of(one, parent) == [state, "WAITING"]


class MapTests:
    def test_too_many_failures_end_the_wait(self) -> None:
        parent = parent_job()
        children = mapped_children(parent, 5, max_failures=1)
        waiting(parent, MAP)

        end(children[0], FAILED)
        end(children[1])
        assert states_of(parent) == ["WAITING"]
        end(children[2], CANCELLED)

        assert states_of(parent) == ["READY"]

    def test_enough_successes_end_the_wait(self) -> None:
        parent = parent_job()
        children = mapped_children(parent, 5, min_successes=2, max_failures=3)
        waiting(parent, MAP)

        end(children[0])
        end(children[1], FAILED)
        assert states_of(parent) == ["WAITING"]
        end(children[2])

        assert states_of(parent) == ["READY"]

    def test_each_end_lets_the_next_one_go(self) -> None:
        parent = parent_job()
        children = mapped_children(parent, 5, max_concurrency=2)
        assert states_of(*children) == ["READY"] * 2 + ["WAITING"] * 3
        assert {fresh(child).due_at for child in children[2:]} == {FOREVER}

        end(children[1])
        assert states_of(*children[2:]) == ["READY", "WAITING", "WAITING"]
        (running,) = claim_only(children[2])
        end(children[0])

        assert states_of(*children[2:]) == ["RUNNING", "READY", "WAITING"]
        finish(running)
        assert states_of(*children[3:]) == ["READY", "READY"]

    def test_released_children_wait_for_nothing_more(self) -> None:
        children = mapped_children(parent_job(), 2, max_concurrency=1)

        end(children[0])

        freed = fresh(children[1])
        assert (freed.wait_kind, freed.wait_reason, freed.waiting_since) == (None, None, None)
        assert freed.due_at < FOREVER

    def test_a_released_child_that_is_not_due_yet_is_scheduled(self) -> None:
        children = mapped_children(parent_job(), 2, max_concurrency=1)
        later = timezone.now() + timedelta(hours=1)
        rewritten_job(children[1], run_after=later)

        end(children[0])

        freed = fresh(children[1])
        assert (freed.state, freed.due_at) == ("SCHEDULED", later)

    def test_a_child_that_waits_keeps_its_place(self) -> None:
        parent = parent_job()
        first, second, third = mapped_children(parent, 3, max_concurrency=2)
        (first,) = claim_only(first)
        finish(first, JobState.WAITING, reason="blocked")
        (second,) = claim_only(second)
        finish(second, JobState.SCHEDULED, delay=timedelta(hours=1))

        families.settle_parents(connection, [(parent.pk, MAP)])

        assert states_of(first, second, third) == ["WAITING", "SCHEDULED", "WAITING"]
        cancel(first)
        assert states_of(third) == ["READY"]

    def test_a_parent_that_has_ended_holds_nobody_back(self) -> None:
        """It failed before it came to wait for its map; the children run on, in turn."""
        parent = parent_job()
        children = mapped_children(parent, 4, max_concurrency=2)
        finish(parent, FAILED)

        end(children[0])

        assert states_of(*children[1:]) == ["READY", "READY", "WAITING"]

    def test_without_a_rule_they_go_one_at_a_time(self) -> None:
        """The map is over, and what it said is replaced by what it returned."""
        parent = parent_job()
        children = mapped_children(parent, 4, max_concurrency=2)
        save(parent, MAP, kind="map", value='"its result"')

        end(children[0])
        assert states_of(*children[1:]) == ["READY", "WAITING", "WAITING"]
        end(children[1])

        assert states_of(*children[2:]) == ["READY", "WAITING"]

    def test_a_map_without_a_bound_holds_nobody_back(self) -> None:
        parent = parent_job()
        children = mapped_children(parent, 4)
        for child in children[1:]:
            rewritten_job(child, state="WAITING", wait_kind="limit", due_at=FOREVER)

        families.settle_parents(connection, [(parent.pk, MAP)])

        assert states_of(*children) == ["READY"] * 4


class StatementTests:
    def test_an_outcome_that_nobody_awaits_is_one_statement(self) -> None:
        (job,) = claim_only(new_job())
        with statements() as sent:
            finish(job)

        assert len(sent) == 1

    def test_an_awaited_one_locks_writes_and_settles(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        (child,) = claim_only(child)
        with statements() as sent:
            finish(child)

        engine = [one for one in sent if not one.startswith(("SAVEPOINT", "RELEASE"))]
        assert len(engine) == 3
        assert engine[0].endswith("order by id for no key update")

    def test_a_job_handed_back_ends_nothing(self) -> None:
        (child,) = children_of(parent_job(), CHILD)
        (child,) = claim_only(child)
        with statements() as sent:
            finish(child, JobState.READY)

        assert len(sent) == 1

    def test_a_batch_is_settled_together(self) -> None:
        first, second = parent_job(), parent_job()
        (one,), (two,) = children_of(first, CHILD), children_of(second, CHILD)
        waiting(first, CHILD)
        waiting(second, CHILD)
        batch = claim_only(one, two, new_job())
        with statements() as sent:
            written = outcomes.finish_jobs(connection, [outcome(job) for job in batch])

        assert [one and one.state for one in written] == ["SUCCESSFUL"] * 3
        assert states_of(first, second) == ["READY", "READY"]
        assert len(sent) == 1 + 3  # the one that has no parent goes first

    def test_a_lost_lease_settles_nothing(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        waiting(parent, CHILD)
        (child,) = claim_only(child)
        child.lease_token += 1
        with statements() as sent:
            assert finish(child) is None

        assert states_of(child, parent) == ["RUNNING", "WAITING"]
        assert len(sent) == 2

    def test_a_repeat_finds_nothing_and_harms_nothing(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        waiting(parent, CHILD)
        (child,) = claim_only(child)
        finish(child)
        (again,) = claim_only(parent)

        assert finish(child) is None
        assert fresh(parent).lease_token == again.lease_token
        assert states_of(parent) == ["RUNNING"]

    def test_nobody_to_settle_is_no_statement(self) -> None:
        with statements() as sent:
            families.settle_parents(connection, [(None, None), (uuid7(), None)])

        assert sent == []


class EndOfParentTests:
    @pytest.mark.parametrize(
        ("options", "marked"),
        [({}, False), ({"on_parent_end": "cancel"}, True)],
    )
    @pytest.mark.parametrize("state", [SUCCESSFUL, FAILED])
    def test_only_children_that_shall_end_with_it_mark_it(
        self, state: JobState, options: dict[str, Any], marked: bool
    ) -> None:
        parent = parent_job()
        children_of(parent, CHILD, **options)

        finish(parent, state)

        assert fresh(parent).cancels_children is marked

    def test_children_that_have_ended_do_not(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD, on_parent_end="cancel")
        end(child)

        finish(parent)

        assert fresh(parent).cancels_children is False

    @pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.WAITING, JobState.READY])
    def test_what_is_no_end_does_not(self, state: JobState) -> None:
        parent = parent_job()
        children_of(parent, CHILD, on_parent_end="cancel")

        finish(parent, state, delay=timedelta(hours=1))

        assert fresh(parent).cancels_children is False

    def test_a_decided_end_is_forgotten_once_it_is_written(self) -> None:
        job = rewritten_job(parent_job(), ends_as="FAILED")

        finish(job, JobState.READY)
        assert fresh(job).ends_as == "FAILED"
        (job,) = claim_only(job)
        finish(job, FAILED)

        assert fresh(job).ends_as is None
        assert Attempt.objects.filter(job=job).count() == 1


def lock(*jobs: Job, waits: bool) -> list[families.Locked]:
    return families.lock_jobs(connection, [job.pk for job in jobs], waits=waits)


@pytest.mark.parametrize("waits", [True, False])
def test_locking_tells_of_the_jobs_asked_for_only(waits: bool) -> None:
    parent = parent_job()
    (child,) = children_of(parent, CHILD)

    assert lock(child, waits=waits) == [(child.pk, child.task_path, "READY")]
    assert [row[0] for row in lock(parent, child, waits=waits)] == [parent.pk, child.pk]


def test_a_childs_id_is_greater_than_its_parents_whatever_the_clock_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = parent_job()
    set_clock(monkeypatch, lambda now: now - 3600 * 10**9)

    (child,) = children_of(parent, CHILD)

    assert child.pk > parent.pk


def set_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[int], int]) -> None:
    time_ns = time.time_ns
    monkeypatch.setattr("django_durable.engine.enqueueing.time.time_ns", lambda: clock(time_ns()))
