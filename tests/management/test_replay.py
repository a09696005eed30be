"""``durable replay``: which live jobs the code of today would block or fail, with nothing done."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import translation

from django_durable import (
    cancel_job,
    continue_as,
    emit_event,
    enqueue,
    fork_job,
    gather,
    map_task,
    patched,
    retry_job,
    run_step,
    set_progress,
    set_value,
    sleep,
    step,
    wait_for_approval,
    wait_for_event,
    wait_until,
)
from django_durable.engine import registry
from django_durable.management.operations import replaying
from tests.builders import (
    HOUR,
    crashed_job,
    ended_job,
    policy,
    redeployed,
    resumed_job,
    rewritten_job,
)
from tests.management.console import document, typed
from tests.management.rehearsed import (
    CALLS,
    MAY,
    PATH,
    begun_job,
    check,
    child,
    deployed,
    found,
    nothing_written,
    obstacles,
    two_steps,
    waiting_jobs,
    work,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@pytest.fixture(autouse=True)
def _no_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr(replaying, "SECONDS_BETWEEN_SIGNS", 1e9)


class FineTests:
    def test_unchanged_code_would_go_on(self) -> None:
        begun_job()

        assert typed("replay") == "1 job replayed, nothing written: 1 would go on.\n"
        assert CALLS == []

    def test_without_a_history_there_is_nothing_to_replay(self) -> None:
        enqueue(child)
        ended_job(deployed(two_steps))

        assert typed("replay") == "No live job has checkpoints to replay.\n"

    @pytest.mark.parametrize(
        "change",
        [
            lambda name: (work(f"{name}1"), check(), work(f"{name}2")),
            lambda name: None,
            lambda name: (work(f"{name}1"), sleep(HOUR)),
            lambda name: (work(f"{name}1"), child.start().result()),
            lambda name: (work(f"{name}1"), map_task(child, ["a"])),
            lambda name: (work(f"{name}1"), wait_for_event("x")),
            lambda name: (work(f"{name}1"), enqueue(child), 1 / 0),
            lambda name: (work(f"{name}1"), gather(check, check), 1 / 0),
            lambda name: (work(f"{name}1"), run_step("new", CALLS.append, "new"), 1 / 0),
            lambda name: (work(f"{name}1"), patched("new") and check()),
            lambda name: (set_progress(1), work(f"{name}1"), set_progress(2)),
            lambda name: (set_value("a", 1), work(f"{name}1"), set_value("b", 2)),
            lambda name: (work(f"{name}1"), wait_for_approval("?", permission=MAY), 1 / 0),
            lambda name: (work(f"{name}1"), wait_until(lambda: 1 / 0, every=HOUR)),
            lambda name: (work(f"{name}1"), emit_event("said"), 1 / 0),
            lambda name: (work(f"{name}1"), continue_as(name)),
        ],
    )
    def test_what_comes_behind_the_last_checkpoint_is_not_run(
        self, change: Callable[[str], Any]
    ) -> None:
        begun_job(two_steps, "x")
        deployed(change)

        with nothing_written():
            assert obstacles() == []
        assert CALLS == []

    def test_a_patched_change_is_fine(self) -> None:
        def mended(name: str = "x") -> None:
            if patched("new"):
                check()
            work(f"{name}1")

        begun_job()
        deployed(mended)

        assert obstacles() == []

    def test_jobs_in_every_live_state_are_replayed(self) -> None:
        def waits() -> None:
            work("w")
            sleep(HOUR)

        @step(retry=policy(2))
        def fails() -> None:
            raise ValueError

        def retries() -> None:
            work("r")
            fails()

        ended_job(redeployed("replay.waits", waits))
        ended_job(redeployed("replay.retries", retries))
        source = ended_job(redeployed("replay.forked", two_steps))
        begun_job()
        fork_job(source, from_step="work#2")
        for path in ("replay.waits", "replay.retries", "replay.forked", PATH):
            redeployed(path, lambda name="x": check())

        states = {row["task_path"] for row in obstacles()}

        assert states == {"replay.waits", "replay.retries", "replay.forked", PATH}

    def test_jobs_that_will_not_run_again_are_left_out(self) -> None:
        cancel_job(begun_job())
        other = begun_job()
        rewritten_job(other, cancel_requested_at=other.enqueued_at)
        deployed(lambda name: check())

        assert obstacles() == []

    def test_a_failure_that_is_recorded_is_no_obstacle(self) -> None:
        class Declined(Exception):  # noqa: N818 (an answer)
            pass

        for raises in ((), (Declined,)):

            @step(name="pay", raises=raises)
            def pay() -> None:
                raise Declined("no")

            def run(pay: Any = pay) -> None:
                work("a")
                try:
                    pay()
                except Exception as error:
                    raise RuntimeError("not shipped") from error

            crashed_job(redeployed(f"replay.pays{len(raises)}", run), after="pay")

        assert obstacles() == []

    def test_a_failure_as_in_the_last_attempt_is_no_obstacle(self) -> None:
        def run() -> None:
            work("a")
            raise ConnectionError("the bank is closed")

        ended_job(deployed(run, retry=policy(5)))
        assert obstacles() == []

        def worse() -> None:
            work("a")
            raise KeyError("now this")

        deployed(worse)
        assert "KeyError" in found()

    def test_a_later_life_of_a_job_is_replayed_in_that_life(self) -> None:
        def run(number: int = 1) -> None:
            work(f"{number}")
            if number == 1:
                continue_as(2)
            sleep(HOUR)

        ended_job(deployed(run))
        CALLS.clear()

        assert obstacles() == []
        assert CALLS == []

    def test_what_travels_with_the_job_is_in_force(self) -> None:
        def asks() -> None:
            work(translation.get_language() or "")

        with translation.override("de"):
            begun_job(asks)

        assert obstacles() == []

    def test_what_the_task_tells_about_itself_is_not_written(self) -> None:
        begun_job()

        def telling() -> None:
            set_progress(1)
            set_value("phase", 1)
            two_steps()

        deployed(telling)
        with nothing_written():
            assert obstacles() == []


class ObstacleTests:
    def test_are_found_behind_what_a_fork_would_publish_again(self) -> None:
        fork_job(ended_job(deployed(two_steps)), from_step="work#2")

        def telling() -> None:
            set_value("phase", 1)
            work("other")

        deployed(telling)
        with nothing_written():
            assert found().startswith("work with the arguments")

    def test_a_new_step_before_recorded_ones(self) -> None:
        job = begun_job()
        deployed(lambda name="x": (check(), two_steps()))

        (one,) = obstacles()

        assert one == {
            "job_id": str(job.pk),
            "task_path": PATH,
            "expected": "work (recorded, not reached yet)",
            "found": "check, which has no checkpoint: a new step, or a renamed one",
        }

    def test_other_arguments_of_a_step(self) -> None:
        begun_job()
        deployed(lambda name="x": work("other"))

        assert found().startswith('work with the arguments "x1" (recorded) // "other" (this run)')

    def test_another_kind_under_a_name(self) -> None:
        begun_job()

        @step(name="work", atomic=True)
        def atomic(name: str) -> None:
            pass

        deployed(lambda name="x": atomic("x1"))

        assert found() == "a plain step at work (recorded) // an atomic step (in the code)"

    def test_a_task_that_is_gone(self) -> None:
        begun_job()
        registry.forget(PATH)

        assert found() == "a task of this path // none is registered in this process"

    def test_a_signature_that_does_not_take_the_stored_call(self) -> None:
        begun_job(two_steps, "x")
        deployed(lambda: work("x1"))

        assert found().startswith("arguments that this code takes // Task")

    def test_arguments_that_do_not_decode(self) -> None:
        rewritten_job(begun_job(), arguments='{"args":[{"$what":1}],"kwargs":{}}')

        assert "it holds the unknown tag '$what'" in found()

    def test_an_instance_that_is_gone_unless_the_task_skips_it(self) -> None:
        rewritten_job(
            begun_job(), arguments='{"args":[{"$model":["testapp.charge",9]}],"kwargs":{}}'
        )

        assert "testapp.charge 9 does not exist" in found()
        deployed(two_steps, on_missing="skip")
        assert obstacles() == []

    def test_an_error_between_the_steps(self) -> None:
        def run(name: str = "x") -> None:
            work("x1")
            raise KeyError("oops")

        begun_job()
        deployed(run)

        assert found() == "to go on from the last step // KeyError: 'oops'"

    def test_an_error_before_a_recorded_step_says_which(self) -> None:
        def run(name: str = "x") -> None:
            raise KeyError("oops")

        begun_job()
        deployed(run)

        assert found() == "work (recorded, not reached yet) // KeyError: 'oops'"

    def test_a_value_that_does_not_decode(self) -> None:
        job = begun_job()
        with connection.cursor() as cursor:
            cursor.execute(
                "update durable_checkpoint set value = %s where job_id = %s",
                ['{"$what":1}', job.pk],
            )

        assert "unknown tag" in found()

    def test_a_misplaced_call(self) -> None:
        def run(name: str = "x") -> None:
            with transaction.atomic():
                work("x1")

        begun_job()
        deployed(run)

        assert "StepInTransactionError" in found()

    def test_a_mismatch_that_the_task_swallows(self) -> None:
        def run(name: str = "x") -> None:
            try:
                check()
            except BaseException:
                return

        begun_job()
        deployed(run)

        assert "found" not in found()
        assert "check, which has no checkpoint" in found()

    def test_a_job_that_is_blocked_until_the_code_is_mended(self) -> None:
        job = begun_job()
        deployed(lambda name="x": (check(), two_steps()))
        assert resumed_job(job).wait_kind == "blocked"
        assert len(obstacles()) == 1

        deployed(two_steps)

        assert obstacles() == []

    def test_a_step_that_is_allowed_is_not_in_the_way(self) -> None:
        job = begun_job()
        deployed(lambda name="x": (check(), two_steps()))
        resumed_job(job)
        retry_job(job, allow_new_steps=["check"])

        assert obstacles() == []


class AnswerTests:
    def test_lists_alike_jobs_once_and_fails(self) -> None:
        jobs = waiting_jobs(2)
        deployed(lambda: (check(), work("x1")))
        out = StringIO()

        with pytest.raises(CommandError) as caught:
            call_command("durable", "replay", stdout=out, stderr=StringIO())

        assert str(caught.value) == "2 of 2 jobs replayed would not go on."
        header, row, *rest = out.getvalue().splitlines()
        assert header.split() == ["JOBS", "FOR", "INSTANCE", "TASK", "EXPECTED", "FOUND"]
        assert row.split()[:3] == ["2", str(min(job.pk for job in jobs)), PATH]
        assert rest == ["", "2 jobs replayed, nothing written: 0 would go on."]

    def test_chooses_by_task_and_queue(self) -> None:
        begun_job()
        deployed(lambda name="x": check(), aliases=("replay.old",))

        assert obstacles("--task", "replay.old")
        assert obstacles("--queue", "default")
        assert obstacles("--task", "replay.other") == []
        assert obstacles("--queue", "other") == []

    def test_stops_at_the_limit_and_says_so(self) -> None:
        waiting_jobs(3)

        assert document("replay", "--limit", 2)["is_complete"] is False
        assert document("replay", "--limit", 3)["is_complete"] is True
        assert "There are more: raise --limit." in typed("replay", "--limit", 1)

    def test_tells_how_far_it_has_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begun_job()
        monkeypatch.setattr(replaying, "SECONDS_BETWEEN_SIGNS", -1.0)

        assert "1 job replayed, 0 would not go on ..." in typed("replay")
        assert document("replay")["replayed"] == 1

    def test_many_jobs_are_read_in_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replaying, "CHUNK", 2)
        waiting_jobs(5)

        assert document("replay")["replayed"] == 5
