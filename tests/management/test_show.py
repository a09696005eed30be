"""``durable show``."""

from django.contrib.auth.models import User
from django.test import TestCase
from django.utils import translation

from django_durable import acting_as, enqueue, run_step, set_progress, set_value, step, task
from django_durable.models import Checkpoint, Job
from tests.builders import HOUR, ended_job, policy, rewritten_job
from tests.management.console import claimed, declared_task, document, live_worker, refused, typed


@step
def double(number: int) -> int:
    return 2 * number


@step(at_most_once=True)
def send() -> None:
    raise OSError("no network")


class ShowTests(TestCase):
    def test_facts_and_call(self) -> None:
        job = declared_task("show.task").using(queue_name="orders", priority=7).enqueue("a", n=1)

        text = typed("show", job.pk)

        assert f"job       {job.pk}\n" in text
        assert "queue     orders\n" in text
        assert "priority  7\n" in text
        assert 'show.task("a", n=1)\n' in text

    def test_the_return_value_and_the_checkpoints_in_order(self) -> None:
        @task(path="show.steps")
        def steps() -> dict[str, int]:
            return {"sum": double(1) + run_step("triple", lambda: 3) + double(2)}

        job = ended_job(steps)
        found = document("show", job.pk)
        text = typed("show", job.pk)

        assert [c["identity"] for c in found["checkpoints"]] == ["double", "triple", "double#2"]
        assert [c["value"] for c in found["checkpoints"]] == [2, 3, 4]
        assert all(c["duration"] >= 0 for c in found["checkpoints"])
        assert found["job"]["return_value"] == {"sum": 9}
        assert text.index('Returned\n    {"sum": 9}\n') < text.index("Checkpoints\n")
        assert " ms " in text

    def test_attempts_with_their_tracebacks(self) -> None:
        @task(path="show.fails", retry=policy(2))
        def fails() -> None:
            raise ValueError("out of paper")

        job = ended_job(fails)

        text = typed("show", job.pk)
        (attempt,) = document("show", job.pk)["attempts"]

        assert attempt["outcome"] == "RETRYING"
        assert attempt["error"]["message"] == "out of paper"
        assert "1  RETRYING  " in text
        assert "    ValueError: out of paper\n" in text
        assert "Traceback (most recent call last):" in text

    def test_a_failed_step_and_one_that_has_begun(self) -> None:
        @task(path="show.sends")
        def sends() -> None:
            send()

        job = ended_job(sends)
        assert "OSError: no network" in typed("show", job.pk)
        Checkpoint.objects.filter(job_id=job.pk).update(state="STARTED", error=None)

        assert "begun, not ended" in typed("show", job.pk)

    def test_idempotency_keys(self) -> None:
        job = declared_task("show.keyed").using(idempotency_key="order-7").enqueue()

        text = typed("show", job.pk)

        assert "order-7  show.keyed" in text
        assert "(in 7 days)" in text

    def test_the_jobs_it_enqueued_and_the_one_that_enqueued_it(self) -> None:
        child_task = declared_task("show.child")

        @task(path="show.parent")
        def parent() -> None:
            enqueue(child_task)

        job = ended_job(parent)
        child = Job.objects.get(parent_id=job.pk)

        assert [row["id"] for row in document("show", job.pk)["children"]] == [str(child.pk)]
        assert "\nJobs it enqueued\nJOB " in typed("show", job.pk)
        assert f"enqueued by job  {job.pk}" in typed("show", child.pk)

    def test_a_running_job_names_its_worker(self) -> None:
        worker = live_worker()
        job = claimed(declared_task().enqueue(), worker)

        assert f"worker    {worker}\n" in typed("show", job.pk)

    def test_who_enqueued_it_and_what_it_tells(self) -> None:
        @task(path="show.tells")
        def tells() -> None:
            set_progress(1, 4, "reading")
            set_value("pages", (1, 2))

        with acting_as(User.objects.create_user("anna")), translation.override("de"):
            job = ended_job(tells)

        found, text = document("show", job.pk), typed("show", job.pk)

        assert "context   enqueued by anna, de\n" in text
        assert "progress  1 of 4: reading\n" in text
        assert "\nPublished\nNAME   VALUE\npages  {" in text
        assert found["job"]["context"]["language"] == "de"
        assert (found["progress"]["done"], found["values"]) == (1, {"pages": {"$tuple": [1, 2]}})

    def test_rows_that_no_enqueue_wrote_are_shown_as_they_are(self) -> None:
        job = rewritten_job(declared_task("show.odd").enqueue(), arguments="[1]", error='"what"')

        text = typed("show", job.pk)

        assert "show.odd: [1]\n" in text
        assert "what" in text

    def test_an_unknown_job_is_refused(self) -> None:
        gone = "01a1f779-eca0-7612-aad1-484027093d18"

        assert refused("show", gone) == (
            f"There is no job {gone}: never enqueued, rolled back, or pruned."
        )
        assert refused("show", "7").startswith("There is no job '7'")

    def test_a_job_of_an_unknown_task_is_shown(self) -> None:
        job = rewritten_job(declared_task().using(delay=HOUR).enqueue(5), task_path="gone.task")

        assert "gone.task(5)" in typed("show", job.pk)
