"""Code that changed under running jobs: what goes on, what is blocked, how a block is lifted."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from django_durable import retry_job, step, task
from django_durable.engine.waits import wake_blocked
from django_durable.models import Job
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    outcomes_of,
    policy,
    redeployed,
    resumed_job,
)
from tests.testapp.models import Item

pytestmark = pytest.mark.django_db


@pytest.fixture
def ran() -> list[str]:
    """The names of the steps whose bodies ran."""
    return []


@pytest.fixture
def steps(ran: list[str]) -> Callable[[str], None]:
    """Calls a step for each letter."""

    def body_of(name: str) -> Callable[[], None]:
        return lambda: ran.append(name)

    known = {name: step(name=name)(body_of(name)) for name in "abcdx"}

    def call(names: str) -> None:
        for name in names:
            known[name]()

    return call


Steps = Callable[[str], None]


def deployed_between(steps: Steps, was: str, *, after: str, now: str, **options: Any) -> Job:
    """A job that crashed in one version of the code and was taken up by another."""
    job = crashed_job(task(path="flow", **options)(lambda: steps(was)), after=after)
    redeployed("flow", lambda: steps(now), **options)
    return resumed_job(job)


class ChangedCodeTests:
    @pytest.mark.parametrize(
        ("was", "after", "now", "bodies"),
        [
            ("abc", "b", "abcd", "abcd"),
            ("abc", "c", "abcd", "abcd"),
            ("abc", "b", "bac", "abc"),
            ("ab", "b", "a", "ab"),
            ("abc", "c", "", "abc"),
            ("aab", "b", "aabd", "aabd"),
        ],
    )
    def test_appended_reordered_and_removed_steps_are_harmless(
        self, steps: Steps, ran: list[str], was: str, after: str, now: str, bodies: str
    ) -> None:
        job = deployed_between(steps, was, after=after, now=now)

        assert job.state == "SUCCESSFUL"
        assert sorted(ran) == sorted(bodies)

    @pytest.mark.parametrize(
        ("now", "expected", "found"),
        [
            ("xbc", "a", "x"),
            ("axbc", "b", "x"),
            ("xabc", "a", "x"),
            ("aabc", "b", "a#2"),
        ],
    )
    def test_a_renamed_or_inserted_step_blocks_with_expected_and_found(
        self, steps: Steps, ran: list[str], now: str, expected: str, found: str
    ) -> None:
        job = deployed_between(steps, "abc", after="b", now=now, retry=policy(3))

        assert (job.state, job.wait_kind, ran) == ("WAITING", "blocked", ["a", "b"])
        assert job.wait_reason == (
            f"replay mismatch: expected {expected} (recorded, not reached yet); "
            f"found {found}, which has no checkpoint: a new step, or a renamed one"
        )

    def test_another_kind_of_step_blocks(self, ran: list[str]) -> None:
        def body() -> None:
            ran.append("pay")

        plain, atomic = step(name="pay")(body), step(name="pay", atomic=True)(body)
        job = crashed_job(task(path="paying")(lambda: plain()), after="pay")

        redeployed("paying", lambda: atomic())

        assert resumed_job(job).wait_reason == (
            "replay mismatch: expected a plain step at pay (recorded); "
            "found an atomic step (in the code)"
        )
        assert ran == ["pay"]

    def test_removing_an_early_step_does_not_block_new_ones(
        self, steps: Steps, ran: list[str]
    ) -> None:
        job = deployed_between(steps, "abc", after="b", now="bcd")

        assert (job.state, ran) == ("SUCCESSFUL", ["a", "b", "c", "d"])


class BlockTests:
    def test_burns_no_attempt_and_is_noted(self, steps: Steps) -> None:
        job = deployed_between(steps, "abc", after="b", now="xabc", retry=policy(3))

        assert (job.attempt, job.finished_at, job.worker_id) == (1, None, None)
        assert outcomes_of(job) == ["LOST", "BLOCKED"]

    def test_is_looked_at_again_after_a_minute_doubling_to_an_hour(self, steps: Steps) -> None:
        job = deployed_between(steps, "abc", after="b", now="xabc")
        waits = []

        for _ in range(9):
            noted = job.attempt_rows.order_by("-id")[0].ended_at
            waits.append((job.due_at - noted) // timedelta(minutes=1))
            resumed_job(job, ahead=HOUR)

        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    def test_goes_on_when_the_code_is_mended(self, steps: Steps, ran: list[str]) -> None:
        job = deployed_between(steps, "abc", after="b", now="xabc")

        redeployed("flow", lambda: steps("abc"))
        job = resumed_job(job, ahead=HOUR)

        assert (job.state, ran) == ("SUCCESSFUL", ["a", "b", "c"])
        assert (job.blocked_count, job.wait_kind, job.wait_reason) == (0, None, None)

    def test_is_looked_at_when_other_code_starts_but_not_by_the_same(self, steps: Steps) -> None:
        job = deployed_between(steps, "abc", after="b", now="xabc")

        same = wake_blocked(connection, code_version=job.code_version or "")
        other = wake_blocked(connection, code_version="next")
        job.refresh()

        assert (same, other, job.state, job.wait_kind) == (0, 1, "READY", None)

    def test_retry_looks_again_at_once_and_changes_no_attempt(self, steps: Steps) -> None:
        job = deployed_between(steps, "abc", after="b", now="xabc")

        job = retry_job(job)

        assert (job.state, job.wait_kind, job.attempt, job.attempt_base) == ("READY", None, 1, 0)
        assert resumed_job(job).wait_kind == "blocked"

    def test_a_new_step_may_be_allowed(self, steps: Steps, ran: list[str]) -> None:
        job = deployed_between(steps, "abc", after="b", now="axbcd")

        retry_job(job, allow_new_steps=["x"])

        assert resumed_job(job).state == "SUCCESSFUL"
        assert ran == ["a", "b", "x", "c", "d"]

    def test_the_allowance_is_remembered(self, steps: Steps, ran: list[str]) -> None:
        job = deployed_between(steps, "abc", after="b", now="axxbc")

        retry_job(job, allow_new_steps=["y"])
        assert resumed_job(job).state == "WAITING"
        retry_job(job, allow_new_steps=["x"])

        assert resumed_job(job).state == "SUCCESSFUL"
        assert job.allowed_steps == ["y", "x"]
        assert ran == ["a", "b", "x", "x", "c"]


class ShrinkingLoopTests:
    """A loop over rows that its own step takes out of the set, broken off in the middle."""

    def finish(self, item: Item) -> None:
        Item.objects.filter(pk=item.pk).update(done=True)
        self.finished.append(item.name)

    @pytest.fixture(autouse=True)
    def _items(self) -> None:
        self.finished: list[str] = []
        Item.objects.bulk_create(Item(name=name) for name in "abcd")

    def sweeping_job(self, after: str, **options: Any) -> Job:
        finish = step(name="finish", **options)(lambda item: self.finish(item))

        @task(path="sweep")
        def sweep() -> None:
            for item in Item.objects.filter(done=False).order_by("pk"):
                finish(item)

        return resumed_job(crashed_job(sweep, after=after))

    def test_with_a_key_every_row_is_done_once(self) -> None:
        second = Item.objects.get(name="b")

        job = self.sweeping_job(f"finish[{second.pk}]", key=lambda item: item.pk)

        assert (job.state, self.finished) == ("SUCCESSFUL", ["a", "b", "c", "d"])

    def test_without_one_the_job_is_blocked_with_both_arguments_shown(self) -> None:
        first, third = Item.objects.get(name="a"), Item.objects.get(name="c")

        job = self.sweeping_job("finish#2")

        assert (job.state, self.finished) == ("WAITING", ["a", "b"])
        assert f'finish with the arguments {{"$model":["testapp.item",{first.pk}]}}' in str(
            job.wait_reason
        )
        assert f'found {{"$model":["testapp.item",{third.pk}]}} (this run)' in str(job.wait_reason)


def test_a_block_leaves_the_checkpoints_as_they_were(steps: Steps) -> None:
    job = deployed_between(steps, "abc", after="b", now="xabc")

    assert {name: row.state for name, row in checkpoints_of(job).items()} == {
        "a": "SUCCESSFUL",
        "b": "SUCCESSFUL",
    }
