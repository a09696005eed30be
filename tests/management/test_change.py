"""``durable retry`` and ``durable cancel``."""

import json
import sys
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase

from django_durable import cancel_job, get_job, step
from django_durable.models import Job
from tests.builders import HOUR, crashed_job, ended_job, redeployed, resumed_job
from tests.management.console import (
    claimed,
    declared_task,
    document,
    live_worker,
    refused,
    typed,
)

GONE = "01a1f779-eca0-7612-aad1-484027093d18"


def state_of(job: Job) -> str:
    return get_job(job.pk).state


def failed_job(path: str = "change.fails") -> Job:
    def fails() -> None:
        raise ValueError

    return ended_job(redeployed(path, fails))


class RetryTests(TestCase):
    def test_makes_jobs_ready_again(self) -> None:
        failed, cancelled = failed_job(), cancel_job(declared_task().enqueue())

        text = typed("retry", failed.pk, cancelled.pk)

        assert text == f"Job {failed.pk} is READY.\nJob {cancelled.pk} is READY.\n"
        assert [state_of(job) for job in (failed, cancelled)] == ["READY", "READY"]

    def test_an_interrupted_step_runs_again_only_when_told_to(self) -> None:
        runs: list[int] = []

        @step(at_most_once=True)
        def send() -> None:
            runs.append(1)

        job = crashed_job(redeployed("change.sends", lambda: send()), after="send")
        assert (state_of(resumed_job(job)), runs) == ("FAILED", [])

        typed("retry", job.pk)
        assert (state_of(resumed_job(job)), runs) == ("FAILED", [])
        typed("retry", job.pk, "--rerun-interrupted")

        assert (state_of(resumed_job(job)), runs) == ("SUCCESSFUL", [1])

    def test_a_new_step_of_a_blocked_job_is_allowed_by_name(self) -> None:
        @step
        def pack() -> int:
            return 1

        @step
        def weigh() -> int:
            return 2

        job = crashed_job(redeployed("change.ships", lambda: pack()), after="pack")
        redeployed("change.ships", lambda: weigh() + pack())
        assert state_of(resumed_job(job)) == "WAITING"

        typed("retry", job.pk, "--allow-new-step", "weigh", "--allow-new-step", "other")

        assert state_of(resumed_job(job)) == "SUCCESSFUL"

    def test_a_step_name_that_could_match_nothing_is_refused(self) -> None:
        for name in ("", " ", "weigh#2", "a/b", "send[4]"):
            with pytest.raises(CommandError, match="without #n or"):
                typed("retry", GONE, "--allow-new-step", name)


class CancelTests(TestCase):
    def test_ends_a_job_that_does_not_run(self) -> None:
        job = declared_task().using(delay=HOUR).enqueue()

        assert typed("cancel", job.pk) == f"Job {job.pk} is CANCELLED.\n"
        assert state_of(job) == "CANCELLED"

    def test_asks_a_running_job_to_stop(self) -> None:
        job = claimed(declared_task().enqueue(), live_worker())

        text = typed("cancel", job.pk)

        assert text == (
            f"Job {job.pk} is RUNNING and was asked to stop: it ends CANCELLED at its next step.\n"
        )

    def test_a_second_time_changes_nothing_and_says_so(self) -> None:
        job = declared_task().using(delay=HOUR).enqueue()
        typed("cancel", job.pk)

        assert "it is CANCELLED. It is finished." in refused("cancel", job.pk)


class RefusalTests(TestCase):
    def test_an_unknown_job(self) -> None:
        for verb in ("retry", "cancel"):
            assert refused(verb, GONE) == (
                f"There is no job {GONE}: never enqueued, rolled back, or pruned."
            )
            assert refused(verb, "order-7").startswith("There is no job 'order-7'")

    def test_a_state_that_does_not_fit(self) -> None:
        job = ended_job(declared_task("change.task"))

        assert refused("retry", job.pk) == (
            f"Job {job.pk} (change.task) cannot be retried: it is SUCCESSFUL. "
            "Only failed, cancelled and blocked jobs are."
        )
        assert refused("cancel", job.pk) == (
            f"Job {job.pk} (change.task) cannot be cancelled: it is SUCCESSFUL. It is finished."
        )

    def test_the_others_of_several_are_changed_all_the_same(self) -> None:
        done, failed = ended_job(declared_task()), failed_job()
        out, err = StringIO(), StringIO()

        with pytest.raises(CommandError, match=r"^2 of 3 jobs were not retried\.$"):
            call_command(
                "durable", "retry", str(done.pk), GONE, str(failed.pk), stdout=out, stderr=err
            )

        assert state_of(failed) == "READY"
        assert out.getvalue() == f"Job {failed.pk} is READY.\n"
        assert [line[:14] for line in err.getvalue().splitlines()] == [
            f"Job {str(done.pk)[:10]}",
            "There is no jo",
        ]

    def test_the_document_tells_of_each(self) -> None:
        failed = failed_job()
        out = StringIO()

        with pytest.raises(CommandError):
            call_command(
                "durable", "retry", str(failed.pk), GONE, "--json", stdout=out, stderr=StringIO()
            )

        good, bad = json.loads(out.getvalue())["jobs"]
        assert good == {"id": str(failed.pk), "changed": True, "state": "READY", "problem": None}
        assert (bad["id"], bad["changed"]) == (GONE, False)
        assert bad["problem"].startswith("There is no job")

    def test_a_choice_that_is_none_or_two(self) -> None:
        cases = {
            (): "Which jobs? Name their ids",
            (GONE, "--all"): "not both",
            (GONE, "--queue", "default"): "add --all",
            ("--state", "FAILED"): "add --all",
        }
        for arguments, message in cases.items():
            assert message in refused("cancel", *arguments)
        for option in (["--rerun-interrupted"], ["--allow-new-step", "x"]):
            assert "goes with ids of jobs" in refused("retry", "--all", "--yes", *option)


class BulkTests(TestCase):
    def test_retries_what_matches_and_reports_both_counts(self) -> None:
        failed, other = failed_job("change.one"), failed_job("change.two")
        done = ended_job(redeployed("change.one", lambda: None))

        text = typed(
            "retry", "--all", "--yes", "--state", "FAILED", "--state", "SUCCESSFUL",
            "--task", "change.one",
        )  # fmt: skip

        assert text == "1 job ready again.\n1 job left unchanged.\n"
        assert [state_of(job) for job in (failed, other, done)] == ["READY", "FAILED", "SUCCESSFUL"]

    def test_without_a_state_all_that_can_be_changed_are_meant(self) -> None:
        failed, cancelled = failed_job(), cancel_job(declared_task().enqueue())
        ended_job(declared_task())

        assert document("retry", "--all", "--yes") == {"changed": 2, "unchanged": 0}
        assert document("cancel", "--all", "--yes", "--queue", "default")["changed"] == 2
        assert [state_of(job) for job in (failed, cancelled)] == ["CANCELLED", "CANCELLED"]

    def test_without_a_terminal_it_wants_yes(self) -> None:
        job = failed_job()

        assert refused("retry", "--all") == "retry --all changes many jobs at once: say --yes."
        assert state_of(job) == "FAILED"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class ConfirmationTests:
    @pytest.fixture(autouse=True)
    def _database(self, db: None) -> None:
        pass

    def test_asks_at_a_terminal_with_the_number(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job = failed_job()
        monkeypatch.setattr(sys, "stdin", Terminal("y\n"))

        typed("retry", "--all")

        assert "Retry 1 job? [y/N] " in capsys.readouterr().out
        assert state_of(job) == "READY"

    @pytest.mark.parametrize("answer", ["n\n", "\n", "yes please\n"])
    def test_anything_but_yes_changes_nothing(
        self, monkeypatch: pytest.MonkeyPatch, answer: str
    ) -> None:
        job = failed_job()
        monkeypatch.setattr(sys, "stdin", Terminal(answer))

        assert refused("retry", "--all") == "Nothing was changed."
        assert state_of(job) == "FAILED"
