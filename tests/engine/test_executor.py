"""One claimed job: whatever its function does, its row says what happened and the slot lives."""

import asyncio
import logging
from functools import partial
from typing import Any, ClassVar

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, transaction
from django.utils import timezone, translation

from django_durable import RetryAfter, current_job, get_job, step, task
from django_durable.engine import claims, liveness, registry
from django_durable.engine.checkpoints import load_checkpoints
from django_durable.engine.executor import execute, in_context
from django_durable.engine.replay import History
from django_durable.engine.run import Ending, Run, Stop
from django_durable.engine.slots import drop_open_transactions
from django_durable.engine.threads import refuse_in_transaction, release_connections
from django_durable.exceptions import StepInTransactionError
from django_durable.models import Job
from django_durable.signals import job_started
from django_durable.testing import run_jobs
from django_durable.testing.running import DirectWriter
from tests.builders import (
    HOUR,
    ended_job,
    error_of,
    outcomes_of,
    policy,
    receiver_of,
    resumed_job,
    rewritten_job,
    statements,
)
from tests.scheduled import database_now
from tests.sessions import PATIENCE, threads
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db


begun: list[str] = []


@task
def note_that_it_begins() -> None:
    begun.append("body")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even a message")


class DemandingError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__()


@task
def nothing() -> None: ...


class NotingCache(LocMemCache):
    """A cache client that tells when it is closed."""

    closed: ClassVar[list[str]] = []

    def close(self, **_: Any) -> None:
        self.closed.append(self.get("who", "nobody"))
        if self.closed[-1] == "c":
            raise ConnectionError("the cache is away")


@task
def remember(who: str) -> None:
    caches["noting"].set("who", who)


@task
def greet(account: Account) -> str:
    return account.name


def endless() -> None:
    endless()


def claimed_run(job: Job) -> Run:
    """A run of a job, claimed as a worker would claim it."""
    worker_id = liveness.register_worker(
        "default",
        liveness.Registration(
            hostname="h", pid=1, queues=[], slots=1, code_version="c", lease=HOUR
        ),
    )
    claimant = claims.Claimant(
        worker_id=worker_id,
        alias="default",
        task_paths=registry.known_paths(),
        code_version="c",
        max_lost=5,
    )
    (claimed,) = claims.claim_jobs(claimant, [job.queue_name], limit=1).jobs
    records = load_checkpoints("default", [claimed.pk]).get(claimed.pk, [])
    return Run(
        job=claimed,
        task=registry.get_task(claimed.task_path),
        alias="default",
        records=records,
        writer=DirectWriter("default"),
    )


class WhateverIsRaisedTests:
    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (ValueError("x"), "ValueError"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (SystemExit(3), "SystemExit"),
            (GeneratorExit(), "GeneratorExit"),
            (asyncio.CancelledError(), "asyncio.exceptions.CancelledError"),
            (StopIteration(), None),
            (UnprintableError(), f"{__name__}.UnprintableError"),
            (DemandingError(1, 2), f"{__name__}.DemandingError"),
            (ValueError("\x00\ud800"), "ValueError"),
            (ExceptionGroup("many", [ValueError(), KeyError()]), "ExceptionGroup"),
        ],
    )
    def test_the_job_fails_and_the_next_one_runs(
        self, error: BaseException, kind: str | None, is_async: bool
    ) -> None:
        async def raise_async() -> None:
            raise error

        def raise_sync() -> None:
            raise error

        job = task(path="raising")(raise_async if is_async else raise_sync).enqueue()
        following = nothing.enqueue()
        run_jobs()
        job.refresh()

        assert (job.state, get_job(following.pk).state) == ("FAILED", "SUCCESSFUL")
        assert kind is None or error_of(job)["type"] == kind
        assert "raise error" in error_of(job)["traceback"]

    def test_endless_recursion_is_an_error_like_others(self) -> None:
        job = ended_job(task(path="deep")(endless))

        assert (job.state, error_of(job)["type"]) == ("FAILED", "RecursionError")
        assert len(job.error or "") < 50_000

    def test_a_return_value_that_cannot_be_stored_fails_the_job_without_another_attempt(
        self,
    ) -> None:
        job = ended_job(task(path="returning", retry=policy(5))(lambda: [object()]))

        assert (job.state, job.attempt) == ("FAILED", 1)
        assert error_of(job)["message"] == (
            "Task returning did its work, but what it returned is lost: the return value[0] "
            "cannot be stored: object is not a type that can be stored; pass plain data or a "
            "model instance."
        )

    def test_a_return_value_that_is_too_large_too(self, settings: Any) -> None:
        settings.DURABLE = {"MAX_PAYLOAD_BYTES": 100}

        job = ended_job(task(path="returning")(lambda: "x" * 101))

        assert "the return value takes 103 bytes" in error_of(job)["message"]

    def test_the_final_failure_is_logged_as_an_error_with_its_traceback(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        failing = task(path="failing", retry=policy(2))(lambda: 1 // 0)

        with caplog.at_level(logging.ERROR, "django_durable"):
            job = ended_job(failing)
            assert caplog.records == []
            resumed_job(job, ahead=HOUR)

        (record,) = caplog.records
        assert record.exc_info
        assert record.exc_info[0] is ZeroDivisionError
        assert record.__dict__["job_id"] == str(job.pk)
        assert (record.__dict__["task_path"], record.__dict__["attempt"]) == ("failing", 2)


class AttemptTests:
    def test_attempts_add_up_and_each_bad_one_is_noted(self) -> None:
        failing = task(path="failing", retry=policy(3))(lambda: 1 // 0)
        job = ended_job(failing)
        seen = [(job.state, job.attempt)]

        for _ in range(3):
            resumed_job(job, ahead=HOUR)
            seen.append((job.state, job.attempt))

        assert seen == [("SCHEDULED", 2), ("SCHEDULED", 3), ("FAILED", 3), ("FAILED", 3)]
        assert outcomes_of(job) == ["RETRYING", "RETRYING", "FAILED"]

    def test_the_wait_is_told_in_words(self) -> None:
        job = ended_job(task(path="failing", retry=policy(3))(lambda: 1 // 0))

        assert job.wait_reason is not None
        assert job.wait_reason.startswith("attempt 1 failed: ZeroDivisionError: ")
        now = database_now()
        assert now < job.due_at <= now + HOUR

    def test_retry_after_is_obeyed(self) -> None:
        def later() -> None:
            raise RetryAfter(3 * HOUR)

        job = ended_job(task(path="later", retry=policy(2))(later))

        assert job.state == "SCHEDULED"
        assert job.due_at > timezone.now() + 2 * HOUR

    def test_an_error_not_worth_another_attempt_ends_the_job(self) -> None:
        job = ended_job(task(path="once", retry=policy(9, retry_on=(OSError,)))(lambda: 1 // 0))

        assert (job.state, job.attempt) == ("FAILED", 1)

    def test_the_context_of_one_job_does_not_reach_the_next(self) -> None:
        def disturb() -> str:
            before = f"{translation.get_language()} {timezone.get_current_timezone_name()}"
            translation.activate("de")
            timezone.activate("Asia/Tokyo")
            return before

        disturbing = task(path="disturbing")(disturb)
        disturbing.enqueue()
        disturbing.enqueue()

        first, second = run_jobs()

        assert first.return_value == second.return_value == "en-us UTC"
        assert current_job() is None

    def test_a_job_begins_with_the_sites_own_language_and_time_zone(self) -> None:
        where = task(path="where")(
            lambda: [translation.get_language(), timezone.get_current_timezone_name()]
        )

        job = where.enqueue()
        with translation.override("de"), timezone.override("Asia/Tokyo"):
            resumed_job(job)
            after = translation.get_language()

        assert (job.return_value, after) == (["en-us", "UTC"], "de")


class JudgementTests:
    def test_poison_is_failed_without_running(self) -> None:
        ran: list[int] = []
        job = task(path="poison", retry=policy(9))(lambda: ran.append(1)).enqueue()
        rewritten_job(job, lost_count=5)

        job = resumed_job(job)

        assert (job.state, ran) == ("FAILED", [])
        assert "lost its worker 5 times in a row" in error_of(job)["message"]

    def test_one_loss_less_is_run(self) -> None:
        job = rewritten_job(nothing.enqueue(), lost_count=4)

        assert resumed_job(job).state == "SUCCESSFUL"
        assert job.lost_count == 0

    def test_a_request_to_cancel_is_obeyed_before_the_body(self) -> None:
        ran: list[int] = []
        job = task(path="late")(lambda: ran.append(1)).enqueue()
        rewritten_job(job, cancel_requested_at=timezone.now())

        assert (resumed_job(job).state, ran) == ("CANCELLED", [])


NONSENSE = [
    "null",
    "5",
    "[]",
    "{}",
    '{"args":5,"kwargs":{}}',
    '{"args":[],"kwargs":[]}',
    '{"args":[],"kwargs":{},"more":1}',
    '{"args":[{"$what":1}],"kwargs":{}}',
    '{"args":[{"$datetime":"yesterday"}],"kwargs":{}}',
    '{"args":[{"$model":"testapp.account"}],"kwargs":{}}',
    '{"args":[{"$model":["no.model",1]}],"kwargs":{}}',
    '{"args":[{"$model":["testapp.account","x"]}],"kwargs":{}}',
    '{"args":[{"$model":["testapp.account",[1]]}],"kwargs":{}}',
    '{"args":[{"$dataclass":["os.system",{}]}],"kwargs":{}}',
    '{"args":[{"$model":[["x"],1]}],"kwargs":{}}',
    '{"args":[{"$model":[5,1]}],"kwargs":{}}',
    '{"args":[{"$model":["testapp.account",{}]}],"kwargs":{}}',
    '{"args":[{"$model":[]}],"kwargs":{}}',
]


class NonsenseRowTests:
    @pytest.mark.parametrize("arguments", NONSENSE)
    def test_edited_arguments_fail_alone_and_say_why(self, arguments: str) -> None:
        account = Account.objects.create(name="a")
        patient = task(path="patient", retry=policy(9))(greet.func)
        before, job, after = (patient.enqueue(account) for _ in range(3))
        rewritten_job(job, arguments=arguments)

        run_jobs()

        assert [get_job(one.pk).state for one in (before, job, after)] == [
            "SUCCESSFUL", "FAILED", "SUCCESSFUL",
        ]  # fmt: skip
        message = error_of(get_job(job.pk))["message"]
        assert message.startswith(f"The row of job {job.pk} (patient) cannot be run: ")

    def test_arguments_that_no_longer_fit_fail_the_job(self) -> None:
        job = rewritten_job(nothing.enqueue(), arguments='{"args":[1],"kwargs":{"a":2}}')

        assert resumed_job(job).state == "FAILED"
        assert "nothing()" in error_of(job)["message"]

    @pytest.mark.parametrize("value", ['{"$what":1}', '{"$decimal":[]}'])
    def test_an_edited_checkpoint_fails_its_job_alone(self, value: str) -> None:
        fetch = step(name="fetch")(lambda: 1)
        job = task(path="fetching")(lambda: (fetch(), current_job())[0]).enqueue()
        with connection.cursor() as cursor:
            cursor.execute(
                "insert into durable_checkpoint (job_id, identity, seq, kind, state, function,"
                " fingerprint, attempt, value, lease_token, started_at, saved_at)"
                " values (%s, 'fetch', 1, 'plain', 'SUCCESSFUL', '', '', 1, %s, 0, now(), now())",
                [job.pk, value],
            )
        other = nothing.enqueue()

        assert resumed_job(job).state == "FAILED"
        assert "does not decode" in str(job.error) or "unknown tag" in str(job.error)
        assert get_job(other.pk).state == "SUCCESSFUL"

    def test_an_unknown_queue_or_task_waits_for_who_knows_it(self) -> None:
        job = rewritten_job(nothing.enqueue(), task_path="no.such.task")
        other = nothing.enqueue()

        run_jobs()

        assert [get_job(one.pk).state for one in (job, other)] == ["READY", "SUCCESSFUL"]


class StatementCountTests:
    def test_a_task_without_steps_costs_its_outcome_and_nothing_else(self) -> None:
        run = claimed_run(nothing.enqueue())

        with statements() as sent:
            execute(run)

        assert len(sent) == 1
        assert "update durable_job" in sent[0]

    @pytest.mark.parametrize("steps", [1, 5])
    def test_a_plain_step_costs_one_statement_more(self, steps: int) -> None:
        quick = step(name="quick")(lambda: 1)
        run = claimed_run(task(path="q")(lambda: [quick() for _ in range(steps)]).enqueue())

        with statements() as sent:
            execute(run)

        saves = [sql for sql in sent if "insert into durable_checkpoint" in sql]
        assert (len(sent), len(saves)) == (steps + 1, steps)

    def test_a_replayed_step_costs_none(self) -> None:
        quick = step(name="quick")(lambda: 1)
        job = task(path="q")(lambda: [quick() for _ in range(5)]).enqueue()
        first = claimed_run(job)
        first.after_save = lambda identity: first.check_lease() if identity == "quick#5" else None
        execute(first)
        rewritten_job(job, state="READY", finished_at=None)
        run = claimed_run(job)

        with statements() as sent:
            execute(run)

        assert len(sent) == 1

    def test_an_at_most_once_step_costs_two(self) -> None:
        letter = step(name="letter", at_most_once=True)(lambda: 1)
        run = claimed_run(task(path="l")(lambda: letter()).enqueue())

        with statements() as sent:
            execute(run)

        assert sum("insert into durable_checkpoint" in sql for sql in sent) == 2
        assert len(sent) == 3


@pytest.mark.django_db(transaction=True)
class AtomicStatementCountTests:
    def test_an_atomic_step_with_an_empty_body_is_one_statement_in_one_transaction(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        empty = step(name="empty", atomic=True)(lambda: None)
        run = claimed_run(task(path="e")(lambda: empty()).enqueue())
        commits: list[bool] = []
        commit = connection.commit
        monkeypatch.setattr(
            connection, "commit", lambda: (commits.append(connection.in_atomic_block), commit())
        )

        with statements() as sent:
            execute(run)

        assert ["durable_checkpoint" in sql for sql in sent] == [True, False]
        assert len(commits) == 1


def test_two_threads_that_come_first_get_the_same_history(monkeypatch: pytest.MonkeyPatch) -> None:
    run = claimed_run(nothing.enqueue())
    calls: list[str] = []
    others: list[History] = []

    def make(*args: Any, **more: Any) -> History:
        calls.append("made")
        if len(calls) == 1:  # another thread comes while this one makes it
            others.append(run.history)
        return History(*args, **more)

    monkeypatch.setattr("django_durable.engine.run.History", make)

    assert run.history is others[0]
    assert run.history is others[0]
    assert len(calls) == 2


def test_the_cache_clients_of_a_job_are_closed_after_it(settings: Any) -> None:
    """Django keeps them in the job's own context, where nobody would find them later."""
    settings.CACHES = {**settings.CACHES, "noting": {"BACKEND": f"{__name__}.NotingCache"}}
    NotingCache.closed.clear()
    with threads(1) as start:  # where no cache was used before
        for who in "abc":
            run = claimed_run(remember.enqueue(who))
            start(partial(in_context, run, partial(remember.func, who))).result(PATIENCE)

    assert NotingCache.closed == ["a", "b", "c"]  # what the last one raised changed nothing


def test_a_run_whose_worker_was_declared_lost_does_not_begin() -> None:
    """It waited for a slot, and nobody has given the job back yet."""
    job = note_that_it_begins.enqueue()
    run = claimed_run(job)
    run.lease_is_fresh = lambda: False
    run.ending = Ending(stop=Stop.LEASE_LOST)
    begun.clear()

    with receiver_of(job_started, lambda **_: begun.append("told")):
        execute(run)

    assert begun == []
    job.refresh()
    assert job.state == "RUNNING"


@pytest.mark.django_db(transaction=True)
def test_a_transaction_left_open_and_closed_is_not_met_by_the_next_job() -> None:
    def leave_one_open() -> bool:
        release_connections()  # from now on it is noted when one is opened
        transaction.atomic().__enter__()
        connection.close()
        connection.connection = None  # as a pool has it, which workers use
        release_connections()
        drop_open_transactions()
        in_atomic_block: bool = connection.in_atomic_block
        return in_atomic_block

    with threads(1) as start:
        assert not start(leave_one_open).result(PATIENCE)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_does_not_close_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As that of SQLite in memory."""

    def leave_it_open() -> None:
        connection.ensure_connection()
        monkeypatch.setattr(connection, "close", lambda: None)
        release_connections()
        monkeypatch.undo()
        with transaction.atomic():
            refuse_in_transaction("step()")

    with threads(1) as start, pytest.raises(StepInTransactionError):
        start(leave_it_open).result(PATIENCE)
