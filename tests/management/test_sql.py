"""The queries of docs/howto/sql.md, as they stand there, answer what their headings ask."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import TestCase

from django_durable import enqueue, step
from django_durable.engine.clock import StatementTimestamp
from django_durable.models import Job
from tests.builders import HOUR, crashed_job, ended_job, policy, redeployed, rewritten_job
from tests.management.console import claimed, declared_task, live_worker, moved, run_by

PAGE = Path(__file__).parent.parent.parent / "docs" / "howto" / "sql.md"
JOB_OF_THE_PAGE = "01890a5d-ac96-774b-bcce-b302099a8057"
SECTIONS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
QUERIES = [
    (heading, query)
    for heading, section in SECTIONS
    for query in re.findall(r"^```sql\n(.*?)^```", section, re.M | re.S)
]


def answers(
    heading: str, number: int = 0, *, job: Job | None = None, at: datetime | None = None
) -> list[dict[str, Any]]:
    """The rows of a section's query; ``job`` stands for the page's example, ``at`` for now."""
    found = [query for asked, query in QUERIES if asked == heading]
    query = found[number].replace(JOB_OF_THE_PAGE, str(job.pk) if job else JOB_OF_THE_PAGE)
    if at is not None:
        assert "statement_timestamp()" in query
        query = query.replace("statement_timestamp()", f"timestamptz '{at.isoformat()}'")
    with connection.cursor() as cursor:
        cursor.execute(query)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def failing(error: Exception) -> Any:
    def body(*_: object) -> None:
        raise error

    return body


@pytest.mark.parametrize("query", [query for _, query in QUERIES])
def test_each_runs(db: None, query: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query)
        assert cursor.description, "it answers nothing"


class StalledTests(TestCase):
    QUESTION = "How many jobs are stalled on a given step?"

    def test_counts_the_jobs_that_a_step_holds_up(self) -> None:
        fails = step(name="charge_card")(failing(OSError("no network")))
        retries = step(name="charge_card", retry=policy(2))(failing(OSError("no network")))
        other = step(name="ship", retry=policy(2))(failing(OSError()))
        passed = step(name="charge_card")(lambda: 1)
        for body in (fails, retries, retries, other, passed):
            ended_job(redeployed("sql.task", lambda body=body: body()))

        counts = {(row["step"], row["job"]): row["count"] for row in answers(self.QUESTION)}

        assert counts == {("RETRYING", "SCHEDULED"): 2, ("FAILED", "FAILED"): 1}
        (first, second) = answers(self.QUESTION, 2)
        assert (first["step"], first["error"], first["count"]) == ("charge_card", "OSError", 2)
        assert second["step"] == "ship"

    def test_a_failure_that_the_task_went_on_from_is_none(self) -> None:
        fails = step(name="charge_card")(failing(OSError()))

        def goes_on() -> None:
            try:
                fails()
            except Exception:
                step(name="apologise")(lambda: 1)()
            raise ValueError

        ended_job(redeployed("sql.task", goes_on))

        assert answers(self.QUESTION) == []

    def test_says_which_step_running_jobs_saved_last(self) -> None:
        first, second = step(name="first")(lambda: 1), step(name="second")(lambda: 2)
        job = crashed_job(redeployed("sql.task", lambda: (first(), second())), after="second")
        worker = live_worker()
        run_by(job, worker)
        run_by(declared_task("sql.other").enqueue(), worker)

        saved = {row["task_path"]: row["saved_last"] for row in answers(self.QUESTION, 1)}

        assert saved == {"sql.task": "second", "sql.other": "(none yet)"}


class FailedTests(TestCase):
    QUESTION = "Which jobs failed last month, with what?"

    def failed_at(self, when: datetime) -> Job:
        job = ended_job(redeployed("sql.fails", failing(ValueError("out of paper"))))
        return rewritten_job(job, finished_at=when)

    def test_tells_the_jobs_of_that_month_with_their_errors(self) -> None:
        now = datetime(2026, 5, 31, 12, tzinfo=UTC)
        before, month = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
        second = timedelta(seconds=1)
        within = [self.failed_at(before), self.failed_at(month - second)]
        self.failed_at(before - second), self.failed_at(month)

        rows, counts = answers(self.QUESTION, at=now), answers(self.QUESTION, 1, at=now)

        assert [row["id"] for row in rows] == [job.pk for job in within]
        assert {(row["error"], row["message"]) for row in rows} == {("ValueError", "out of paper")}
        assert [(row["task_path"], row["error"], row["count"]) for row in counts] == [
            ("sql.fails", "ValueError", 2)
        ]

    def test_bad_attempts_of_a_day(self) -> None:
        self.failed_at(StatementTimestamp())

        (row,) = answers(self.QUESTION, 2)

        assert (row["outcome"], row["error"], row["count"]) == ("FAILED", "ValueError", 1)


class OtherTests(TestCase):
    def test_what_runs(self) -> None:
        job = claimed(declared_task().enqueue(), live_worker())

        (row,) = answers("What runs now, where, and since when?")

        assert (row["id"], row["hostname"], row["pid"]) == (job.pk, "web1", 4711)

    def test_what_comes_next(self) -> None:
        called = declared_task()
        low, high = called.enqueue(), called.using(priority=3).enqueue()
        soon = moved(called.using(delay=HOUR).enqueue(), "due_at", by=-HOUR / 2)
        called.using(delay=2 * HOUR).enqueue()

        assert [row["id"] for row in answers("What comes next in a queue?")] == [high.pk, low.pk]
        assert [row["id"] for row in answers("What comes next in a queue?", 1)] == [soon.pk]

    def test_times_and_numbers(self) -> None:
        work = step(name="work")(lambda: 1)
        job = moved(ended_job(redeployed("sql.task", lambda: work())), "started_at", by=-HOUR)

        (times,) = answers("How long do jobs take to begin, and to end?")
        (slow,) = answers("Which steps take longest?")
        (hour,) = answers("How many jobs end in an hour?")

        assert times["task_path"] == "sql.task"
        assert times["took"] == [job.finished_at - job.started_at] * 2
        assert (slow["step"], slow["count"]) == ("work", 1)
        assert (hour["state"], hour["count"]) == ("SUCCESSFUL", 1)

    def test_what_belongs_to_an_object_or_a_key(self) -> None:
        question = "Which jobs belong to this order, this key, this job?"
        called = declared_task("shop.tasks.fulfil_order")
        about = rewritten_job(called.enqueue(), subject_type="shop.order", subject_key="4711")
        keyed = called.using(idempotency_key="order-4711").enqueue()
        instance = '{"args": [{"$model": ["shop.order", 4711]}], "kwargs": {}}'
        given = rewritten_job(called.enqueue(), arguments=instance)

        found = [[row["id"] for row in answers(question, number)] for number in range(3)]

        assert found == [[about.pk], [keyed.pk], [given.pk]]

    def test_the_family_of_a_job(self) -> None:
        declared_task("sql.stranger").enqueue()
        grandchild = declared_task("sql.grandchild")
        child = redeployed("sql.child", lambda: enqueue(grandchild) and None)
        job = ended_job(redeployed("sql.parent", lambda: enqueue(child) and None))

        rows = answers("Which jobs belong to this order, this key, this job?", 3, job=job)

        assert [(row["generation"], row["task_path"]) for row in rows] == [
            (0, "sql.parent"),
            (1, "sql.child"),
            (2, "sql.grandchild"),
        ]

    def test_what_a_job_has_done(self) -> None:
        work = step(name="work")(lambda: "done")
        job = ended_job(redeployed("sql.task", lambda: work() + work()))

        rows = answers("What has a job done so far?", job=job)

        assert [(row["identity"], row["value"]) for row in rows] == [
            ("work", "done"),
            ("work#2", "done"),
        ]

    def test_the_tables(self) -> None:
        names = {row["name"] for row in answers("How much room do the tables take?")}

        assert {"durable_job", "durable_checkpoint", "durable_attempt"} <= names
