"""Children whose parents' end ends them too: a chore, again and again, one in each commit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection

from django_durable.engine import families, maintenance
from django_durable.engine.states import JobState
from django_durable.models import Job
from tests.builders import rewritten_job, statements
from tests.families import CHILD, children_of, claim_only, fresh, parent_job, states_of, waiting
from tests.protocol.stories_losses import new_maintenance
from tests.protocol.world import cancel, finish, retry, suspend

pytestmark = pytest.mark.django_db(transaction=True)
FAILED = JobState.FAILED


def chore() -> float | None:
    return new_maintenance().cancel_children()


def three_children(parent: Job) -> list[Job]:
    """One that is awaited, one that ends with its parent, and one that nobody cares for."""
    awaited, bound, free = (
        *children_of(parent, CHILD),
        *children_of(parent, "enqueue:bound", on_parent_end="cancel"),
        *children_of(parent, "enqueue:free"),
    )
    return [awaited, rewritten_job(bound, awaited_as=None), rewritten_job(free, awaited_as=None)]


def cancelled_while_it_waits(parent: Job) -> None:
    waiting(parent, CHILD)
    cancel(parent)


def cancelled_while_it_runs(parent: Job) -> None:
    cancel(parent)


def cancelled_and_ended(parent: Job) -> None:
    cancel(parent)
    finish(parent)


class ParentTests:
    @pytest.mark.parametrize(
        "how", [cancelled_while_it_waits, cancelled_while_it_runs, cancelled_and_ended]
    )
    def test_all_children_of_a_cancelled_one_are_cancelled(
        self, how: Callable[[Job], None]
    ) -> None:
        parent = parent_job()
        children = three_children(parent)
        how(parent)
        assert states_of(*children) == ["READY"] * 3

        chore()

        assert states_of(*children) == ["CANCELLED"] * 3

    @pytest.mark.parametrize("state", [JobState.SUCCESSFUL, FAILED])
    def test_one_that_ended_otherwise_takes_along_what_is_bound_to_it(
        self, state: JobState
    ) -> None:
        parent = parent_job()
        awaited, bound, free = three_children(parent)
        finish(parent, state)

        chore()

        assert states_of(awaited, bound, free) == ["READY", "CANCELLED", "READY"]

    def test_one_that_goes_on_keeps_its_children(self) -> None:
        parent = parent_job()
        children = three_children(parent)
        suspend(parent)

        chore()

        assert states_of(*children) == ["READY"] * 3

    def test_one_that_is_retried_before_the_chore_keeps_them(self) -> None:
        parent = parent_job()
        children = three_children(parent)
        finish(parent, FAILED)
        retry(parent)

        chore()

        assert states_of(*children) == ["READY"] * 3

    def test_a_child_that_was_started_meanwhile_does_not_escape(self) -> None:
        parent = parent_job()
        children_of(parent, CHILD)
        cancel(parent)
        chore()
        (late,) = children_of(parent, f"{CHILD}#2")

        chore()

        assert states_of(late) == ["CANCELLED"]

    def test_children_of_children_follow(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        (child,) = claim_only(child)
        (grandchild,) = children_of(child, CHILD)
        suspend(child)
        cancel(parent)

        chore()
        assert states_of(child, grandchild) == ["CANCELLED", "READY"]
        chore()

        assert states_of(child, grandchild) == ["CANCELLED", "CANCELLED"]


class MarkTests:
    def test_it_is_cleared_when_all_is_done(self) -> None:
        parent = parent_job()
        (child,) = children_of(parent, CHILD)
        cancel(parent)
        (child,) = claim_only(child)

        chore()
        assert fresh(child).cancel_requested_at is not None
        assert fresh(parent).cancels_children, "it still runs, and may start more"
        finish(parent)
        chore()
        assert fresh(parent).cancels_children, "its child still lives"
        finish(child)
        chore()

        assert not Job.objects.filter(cancels_children=True).exists()

    def test_children_that_run_on_do_not_keep_it(self) -> None:
        parent = parent_job()
        three_children(parent)
        finish(parent)
        assert fresh(parent).cancels_children

        chore()

        assert not Job.objects.filter(cancels_children=True).exists()


class ChoreTests:
    def test_one_that_was_asked_already_is_not_asked_again(self) -> None:
        """Or a few that run for long would keep the chore from all others."""
        parent = parent_job()
        (child,) = claim_only(*children_of(parent, CHILD))
        cancel(parent)

        chore()

        assert fresh(child).cancel_requested_at is not None
        assert families.find_children_to_cancel(connection, limit=9) == []

    def test_parents_whose_children_are_asked_keep_it_from_nobody(self) -> None:
        parents = [parent_job() for _ in range(3)]
        children = claim_only(*[children_of(parent, CHILD)[0] for parent in parents])
        cancel(*parents)
        for _ in parents:
            for child_id in families.find_children_to_cancel(connection, limit=1) or []:
                cancel(Job.objects.get(pk=child_id))

        assert all(fresh(child).cancel_requested_at is not None for child in children)

    def test_a_mark_alone_cancels_nobody(self) -> None:
        parent = rewritten_job(parent_job(), cancels_children=True)
        children = three_children(parent)

        chore()

        assert states_of(*children) == ["READY"] * 3

    def test_with_nothing_to_do_it_is_one_statement(self) -> None:
        keeping_house = new_maintenance()
        with statements() as sent:
            keeping_house.cancel_children()

        assert len(sent) == 1

    def test_each_child_is_a_commit(self) -> None:
        parent = parent_job()
        children_of(parent, *[f"{CHILD}#{n}" for n in range(2, 5)])
        cancel(parent)
        with statements() as sent:
            families_changed = chore()

        locks = [one for one in sent if "skip locked" in one and "for no key update" in one]
        assert len([one for one in locks if "parents as" in one]) == 3
        assert families_changed is None

    def test_it_says_that_there_is_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(maintenance, "CANCELLED_AT_ONCE", 2)
        parent = parent_job()
        children = children_of(parent, *[f"{CHILD}#{n}" for n in range(2, 5)])
        cancel(parent)

        assert [chore(), chore()] == [0.0, None]
        assert states_of(*children) == ["CANCELLED"] * 3

    def test_it_is_due_again_at_once_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(maintenance, "CANCELLED_AT_ONCE", 1)
        parent = parent_job()
        children_of(parent, CHILD)
        cancel(parent)
        keeping_house = new_maintenance()
        (mine,) = [c for c in keeping_house._chores if c.do == keeping_house.cancel_children]

        mine.run_if_due(100.0)
        assert mine.due_at == 100.0
        mine.run_if_due(100.0)

        assert mine.due_at > 100.0

    def test_one_that_has_nothing_left_to_ask_is_told_from_none(self) -> None:
        assert families.find_children_to_cancel(connection, limit=9) is None
        parent = parent_job()
        cancel(parent)

        assert families.find_children_to_cancel(connection, limit=9) == []
