"""Cancelling and retrying, where there are parents, children, and steps that can be undone."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from django_durable.engine import families, outcomes
from django_durable.engine.states import FOREVER, JobState
from django_durable.models import Checkpoint, Job
from tests.builders import rewritten_job, statements
from tests.families import (
    CHILD,
    MAP,
    children_of,
    claim_only,
    compensated_step,
    end,
    fresh,
    mapped_children,
    parent_job,
    states_of,
    waiting,
)
from tests.protocol.world import cancel, finish, new_job, retry, save, suspend

pytestmark = pytest.mark.django_db
FAILED, CANCELLED = JobState.FAILED, JobState.CANCELLED
WAITS = ("wait_kind", "wait_key", "wait_reason", "waiting_since", "wait_deadline_at")
ERROR = '{"type": "E"}'


def waits_of(job: Job) -> dict[str, object]:
    """What a job's row says of its wait, where it says anything."""
    row = fresh(job)
    return {name: value for name in WAITS if (value := getattr(row, name)) is not None}


class CancelTests:
    def test_a_waiting_job_waits_for_nothing_more(self) -> None:
        parent = parent_job()
        children_of(parent, CHILD)
        waiting(parent, CHILD)
        assert set(waits_of(parent)) >= {"wait_kind", "wait_key", "wait_reason", "waiting_since"}

        cancel(parent)

        assert states_of(parent) == ["CANCELLED"]
        assert waits_of(parent) == {}

    def test_the_last_live_child_wakes_its_parent(self) -> None:
        parent = parent_job()
        one, two = mapped_children(parent, 2, max_failures=9)
        waiting(parent, MAP)

        cancel(one)
        assert states_of(parent) == ["WAITING"]
        cancel(two)

        assert states_of(one, two, parent) == ["CANCELLED", "CANCELLED", "READY"]

    def test_a_running_child_is_only_asked_and_still_awaited(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        waiting(parent, CHILD)
        (child,) = claim_only(child)

        cancel(child)

        assert states_of(child, parent) == ["RUNNING", "WAITING"]

    def test_a_place_that_is_given_up_is_taken_by_the_next(self) -> None:
        children = mapped_children(parent_job(), 4, max_concurrency=1)

        cancel(children[0], children[2])

        assert states_of(*children) == ["CANCELLED", "READY", "CANCELLED", "WAITING"]

    def test_one_that_never_ran_has_no_children_to_cancel(self) -> None:
        job = new_job()

        cancel(job)

        assert fresh(job).cancels_children is False

    def test_one_that_runs_may_have_them(self) -> None:
        job = parent_job()

        cancel(job)

        assert fresh(job).cancels_children is True

    @pytest.mark.parametrize("has_children", [True, False])
    def test_one_that_ends_at_once_is_looked_at(self, has_children: bool) -> None:
        job = parent_job()
        if has_children:
            children_of(job, CHILD)
        suspend(job)

        cancel(job)

        assert states_of(job) == ["CANCELLED"]
        assert fresh(job).cancels_children is has_children

    def test_steps_to_undo_are_left_to_the_next_holder(self) -> None:
        job = parent_job()
        compensated_step(job)
        suspend(job)

        (changed,) = cancel(job)

        job = fresh(job)
        assert changed.changed
        assert (job.state, job.finished_at, job.ends_as) == ("READY", None, None)
        assert job.cancel_requested_at is not None
        assert job.cancels_children is True
        assert job.due_at <= job.cancel_requested_at
        assert waits_of(job) == {}

    @pytest.mark.parametrize("state", ["COMPENSATED", "FAILED"])
    def test_what_is_undone_or_never_was_is_no_reason_to_run(self, state: str) -> None:
        job = parent_job()
        compensated_step(job)
        Checkpoint.objects.filter(job_id=job.pk).update(state=state)
        suspend(job)

        cancel(job)

        assert states_of(job) == ["CANCELLED"]

    def test_one_that_is_undoing_goes_on_as_it_was(self) -> None:
        """One of its compensations failed and waits for its next try."""
        job = parent_job()
        compensated_step(job)
        suspend(job)
        before = rewritten_job(job, ends_as="FAILED")

        (changed,) = cancel(job)

        job = fresh(job)
        assert changed.changed
        assert (job.state, job.due_at, job.ends_as) == ("SCHEDULED", before.due_at, "FAILED")
        assert job.wait_reason == before.wait_reason
        assert job.cancel_requested_at is not None

    def test_one_that_has_undone_all_ends_as_it_decided(self) -> None:
        """Its worker died before it wrote the end."""
        job = rewritten_job(new_job(), lease_token=1, ends_as="FAILED")

        cancel(job)

        assert states_of(job) == ["READY"]
        assert fresh(job).ends_as == "FAILED"

    def test_twice_is_as_good_as_once(self) -> None:
        job = parent_job()
        compensated_step(job)
        suspend(job)
        cancel(job)
        first = fresh(job)

        cancel(job)

        assert fresh(job).cancel_requested_at == first.cancel_requested_at
        assert states_of(job) == ["READY"]

    def test_queues_of_jobs_made_ready_are_woken(self) -> None:
        job = parent_job()
        compensated_step(job)
        suspend(job)
        with statements() as sent:
            cancel(job)

        assert any("pg_notify" in one for one in sent)

    def test_many_at_once(self) -> None:
        """A parent and its children, jobs that ended, run, and have something to undo."""
        parent = parent_job()
        one, two = children_of(parent, CHILD, f"{CHILD}#2")
        waiting(parent, CHILD)
        done, running, undoing = new_job(), parent_job(), parent_job()
        compensated_step(undoing)
        suspend(undoing)
        end(done)

        changed = cancel(one, parent, done, running, undoing, two)

        assert {row.job_id for row in changed if not row.changed} == {done.pk}
        assert states_of(parent, one, two) == ["CANCELLED"] * 3
        assert states_of(done, running, undoing) == ["SUCCESSFUL", "RUNNING", "READY"]

    def test_what_nobody_awaits_takes_two_statements(self) -> None:
        job = new_job()
        with statements() as sent:
            cancel(job)

        assert len([one for one in sent if "durable_job" in one]) == 2


class RetryTests:
    def test_nothing_of_the_end_is_left(self) -> None:
        job = parent_job()
        children_of(job, CHILD, on_parent_end="cancel")
        finish(job, FAILED, error=ERROR)
        cancelled = rewritten_job(job, cancel_requested_at=timezone.now(), ends_as="FAILED")
        assert cancelled.cancels_children

        retry(job)

        job = fresh(job)
        assert (job.state, job.ends_as, job.cancels_children) == ("READY", None, False)
        assert (job.cancel_requested_at, job.finished_at) == (None, None)

    def test_a_wait_that_was_begun_is_no_interrupted_step(self) -> None:
        parent = parent_job()
        children_of(parent, CHILD)
        waiting(parent, CHILD)
        cancel(parent)

        outcomes.retry_jobs("default", [parent.pk], rerun_interrupted=True)

        assert Checkpoint.objects.get(job_id=parent.pk).state == "STARTED"

    @pytest.mark.parametrize("rerun", [True, False])
    def test_an_at_most_once_step_that_was_begun_is_one(self, rerun: bool) -> None:
        job = parent_job()
        save(job, kind="at_most_once", state="STARTED", value=None)
        finish(job, FAILED, error=ERROR)

        outcomes.retry_jobs("default", [job.pk], rerun_interrupted=rerun)

        assert Checkpoint.objects.filter(job_id=job.pk).exists() is not rerun

    def test_undone_steps_stay_recorded(self) -> None:
        job = parent_job()
        compensated_step(job)
        Checkpoint.objects.filter(job_id=job.pk).update(state="COMPENSATED")
        finish(job, FAILED, error=ERROR)

        retry(job)

        assert Checkpoint.objects.get(job_id=job.pk).state == "COMPENSATED"

    def test_a_deadline_that_has_passed_holds_no_more(self) -> None:
        passed, ahead = new_job(), new_job()
        hour = timedelta(hours=1)
        rewritten_job(passed, deadline_at=timezone.now() - hour)
        rewritten_job(ahead, deadline_at=timezone.now() + hour)
        cancel(passed, ahead)

        retry(passed, ahead)

        assert fresh(passed).deadline_at is None
        assert fresh(ahead).deadline_at is not None

    def test_a_blocked_job_keeps_what_was_decided(self) -> None:
        job = parent_job()
        finish(job, JobState.WAITING, reason="blocked")
        rewritten_job(job, ends_as="FAILED", cancels_children=True)

        retry(job)

        job = fresh(job)
        assert (job.state, job.ends_as, job.cancels_children) == ("READY", "FAILED", True)
        assert waits_of(job) == {}


class RetryOfParentTests:
    def test_the_child_that_failed_it_is_tried_again_too(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        end(child, FAILED)
        save(parent, CHILD, kind="child", state="FAILED", value=None, error=ERROR)
        finish(parent, FAILED, error=ERROR)

        changed = retry(parent)

        assert [row.job_id for row in changed] == [parent.pk]
        assert states_of(parent, child) == ["READY", "READY"]
        assert not Checkpoint.objects.filter(job_id=parent.pk).exists()

    def test_a_failure_that_the_parent_went_on_from_stays(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        end(child, FAILED)
        save(parent, CHILD, kind="child", state="FAILED", value=None, error=ERROR)
        save(parent, "later", seq=2)
        finish(parent, FAILED, error=ERROR)

        retry(parent)

        assert states_of(parent, child) == ["READY", "FAILED"]

    def test_children_it_waited_for_or_would_have_are_tried_again(self) -> None:
        """It was cancelled while it waited, and its children with it."""
        parent = parent_job()
        awaited, not_yet = children_of(parent, CHILD, f"{CHILD}#2")
        waiting(parent, CHILD)
        cancel(parent, awaited, not_yet)

        retry(parent)

        assert states_of(parent, awaited, not_yet) == ["READY"] * 3

    def test_successful_live_and_forgotten_children_are_left_alone(self) -> None:
        parent = parent_job()
        good, live = children_of(parent, CHILD, f"{CHILD}#2")
        (forgotten,) = children_of(parent, "enqueue:other")
        rewritten_job(forgotten, awaited_as=None)
        end(good)
        cancel(forgotten)
        (live,) = claim_only(live)
        finish(parent, FAILED, error=ERROR)

        retry(parent)

        assert states_of(good, live, forgotten) == ["SUCCESSFUL", "RUNNING", "CANCELLED"]

    def test_children_of_children_too(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        (child,) = claim_only(child)
        (grandchild,) = children_of(child, CHILD)
        end(grandchild, FAILED)
        for job in (child, parent):
            save(job, CHILD, kind="child", state="FAILED", value=None, error=ERROR)
            finish(job, FAILED, error=ERROR)

        retry(parent)

        assert states_of(parent, child, grandchild) == ["READY"] * 3

    def test_a_child_alone_does_not_reopen_its_parent(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        end(child, FAILED)
        finish(parent, FAILED, error=ERROR)

        retry(child)

        assert states_of(parent, child) == ["FAILED", "READY"]

    def test_a_blocked_parents_children_are_left_alone(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        end(child, FAILED)
        finish(parent, JobState.WAITING, reason="blocked")

        retry(parent)

        assert states_of(parent, child) == ["READY", "FAILED"]

    def test_children_of_a_map_take_their_turn(self) -> None:
        """The map's own row is gone, so they go one at a time until it says how many may."""
        parent = parent_job()
        children = mapped_children(parent, 4, max_concurrency=2)
        for child in children:
            end(child, FAILED)
        save(parent, MAP, kind="map", state="FAILED", value=None, error=ERROR)
        finish(parent, FAILED, error=ERROR)

        retry(parent)

        assert states_of(*children) == ["READY", "WAITING", "WAITING", "WAITING"]
        assert fresh(children[1]).due_at == FOREVER
        assert waits_of(children[1])["wait_kind"] == "limit"
        (parent,) = claim_only(parent)
        rule = json.dumps({"total": 4, "max_concurrency": 2})
        save(parent, MAP, kind="map", state="STARTED", value=rule)
        families.settle_parents(connection, [(parent.pk, MAP)])
        assert states_of(*children) == ["READY", "READY", "WAITING", "WAITING"]


class RetryOfChildTests:
    def test_it_takes_its_turn_while_the_map_is_full(self) -> None:
        parent = parent_job()
        children = mapped_children(parent, 3, max_concurrency=1, max_failures=9)
        waiting(parent, MAP)
        end(children[0], FAILED)

        retry(children[0])
        assert states_of(*children) == ["WAITING", "READY", "WAITING"]
        end(children[1])

        assert states_of(*children) == ["READY", "SUCCESSFUL", "WAITING"]

    def test_it_goes_at_once_where_there_is_a_place(self) -> None:
        parent = parent_job()
        children = mapped_children(parent, 2, max_concurrency=2, max_failures=9)
        waiting(parent, MAP)
        end(children[0], FAILED)

        retry(children[0])

        assert states_of(*children, parent) == ["READY", "READY", "WAITING"]

    @pytest.mark.parametrize("how", ["the map is over", "the parent has ended"])
    def test_it_goes_at_once_when_nobody_waits_any_more(self, how: str) -> None:
        parent = parent_job()
        children = mapped_children(parent, 3, max_concurrency=1, max_failures=9)
        end(children[0], FAILED)
        if how == "the map is over":
            save(parent, MAP, kind="map", value="[]")
        else:
            finish(parent, FAILED)

        retry(children[0])

        assert states_of(*children) == ["READY", "READY", "WAITING"]
