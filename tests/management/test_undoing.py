"""What ``durable`` says of jobs whose steps are undone."""

from functools import partial

from django.test import TestCase

from django_durable import cancel_job
from django_durable.engine import compensations
from tests.builders import ended_job, resumed_job, rewritten_job
from tests.management.console import claimed, codes, document, finding, live_worker, typed
from tests.undoing import charge, failing, forget, refusals, reserve, wait_then_break


class UndoingTests(TestCase):
    def tearDown(self) -> None:
        forget()

    def test_show_lists_compensations_under_their_steps(self) -> None:
        refusals["refund"] = [ValueError("the bank says no")]
        job = ended_job(failing(partial(charge, "a"), partial(reserve, "a")))

        lines = [line.split() for line in typed("show", job.pk).splitlines()]
        table = [line[:4] for line in lines if "plain" in line]

        assert table == [
            ["1", "charge", "plain", "SUCCESSFUL"],
            ["4", "compensation@1", "plain", "NOT"],
            ["2", "reserve", "plain", "COMPENSATED"],
            ["3", "compensation@1", "plain", "UNDONE"],
        ]
        (first, *_) = document("show", job.pk)["checkpoints"]
        assert first["compensation"]["path"] == "tests.undoing.refund"

    def test_a_job_that_is_being_undone_says_so(self) -> None:
        refusals["give_back"] = [ConnectionError("busy")]
        job = ended_job(failing(partial(charge, "a"), partial(reserve, "a")))

        assert "undoing" in codes(job)
        assert "compensations of its steps run, then it is FAILED." in finding(job, "undoing")
        assert "undoing   its steps; then it is FAILED\n" in typed("show", job.pk)
        assert "being undone, then FAILED" in typed("list")

    def test_a_running_one_too_and_that_it_is_not_cancelled_any_more(self) -> None:
        job = rewritten_job(wait_then_break.enqueue("a"), ends_as="FAILED", lost_count=1)
        job = claimed(job, live_worker())
        cancel_job(job)
        job.refresh()

        assert "undoing" in codes(job)
        assert "cancel-requested" not in codes(job)

    def test_one_that_lost_its_workers_is_a_suspect_longer_and_no_poison(self) -> None:
        job = rewritten_job(wait_then_break.enqueue("a"), ends_as="FAILED", lost_count=6)

        said = finding(job, "suspect")

        assert "poison" not in codes(job)
        assert "After 10 losses nothing more is undone." in said
        assert "poison" in codes(rewritten_job(job, ends_as=None))

    def test_one_that_nothing_here_can_undo_says_what_is_missing(self) -> None:
        job = ended_job(wait_then_break, "a")
        known = dict(compensations._compensations)
        compensations._compensations.clear()
        cancel_job(job)
        job = resumed_job(job)
        compensations._compensations.update(known)

        said = finding(job, "blocked")

        assert "Expected: tests.undoing.refund, to undo step charge (recorded). " in said
        assert "Found: no compensation of that path. " in said

    def test_one_that_is_blocked_for_another_reason_says_that(self) -> None:
        reason = "its context cannot be restored to undo its steps: no such tenant"
        job = rewritten_job(
            wait_then_break.enqueue("a"), state="WAITING", wait_kind="blocked", wait_reason=reason
        )

        assert f"It does not go on: {reason}. It is tried again" in finding(job, "blocked")
