"""What a job tells about itself: seen from outside, seldom written, never going back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation
from django.db import ProgrammingError, connection, transaction
from django.utils.translation import gettext_lazy

from django_durable import (
    aget_progress,
    aget_values,
    aset_progress,
    aset_value,
    cancel_job,
    current_job,
    fork_job,
    gather,
    get_progress,
    get_values,
    set_progress,
    set_value,
    sleep,
    step,
    task,
)
from django_durable.engine import progress, reporting
from django_durable.engine.run import current_run, mark_worker_process
from django_durable.exceptions import (
    InvalidOptionError,
    JobNotFoundError,
    MissingInstanceError,
    NotSerializableError,
    PayloadTooLargeError,
    StepOutsideJobError,
)
from django_durable.models import Job, JobValue, Progress
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    policy,
    redeployed,
    resumed_job,
    statements,
)
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was written of all progress, in order; as many times a second as it is told."""
    seen: list[int] = []
    save = progress.save_progress

    def noting(connection: Any, job_id: Any, lease_token: int, new: Any) -> Any:
        seen.append(new.done)
        return save(connection, job_id, lease_token, new)

    monkeypatch.setattr(reporting, "save_progress", noting)
    monkeypatch.setattr(reporting, "SHORTEST_INTERVAL", 0.0)
    return seen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The machine's clock, as reporting reads it: one number to change."""
    now = [1000.0]
    monkeypatch.setattr(reporting, "machine_seconds", lambda: now[0])
    return now


def done_of(job: Job) -> int | None:
    found = get_progress(job)
    return found and found.done


def job_of(body: Callable[[], Any], **options: Any) -> Job:
    """A job with this body, ended."""
    return ended_job(redeployed("telling", body, **options))


@step
def load(number: int) -> int:
    return number


@step(key=lambda number: number)
def load_by_key(number: int) -> int:
    return number


def give_back() -> None:
    set_progress(3)
    set_progress(2)


@step(compensate=give_back)
def book() -> None: ...


class ReadingTests:
    def test_what_was_told_last_is_there(self) -> None:
        job = job_of(lambda: set_progress(3, 4, "loading"))

        found = get_progress(job)

        assert found is not None
        assert (found.done, found.total, found.note, found.fraction) == (3, 4, "loading", 0.75)
        assert str(found) == "3 of 4: loading"
        assert job.started_at is not None
        assert job.finished_at is not None
        assert job.started_at <= found.saved_at <= job.finished_at

    @pytest.mark.parametrize(
        ("told", "fraction", "text"),
        [
            ((7,), None, "7"),
            ((0, 0), 1.0, "0 of 0"),
            ((0, 5), 0.0, "0 of 5"),
            ((5, 5), 1.0, "5 of 5"),
        ],
    )
    def test_the_fraction_is_known_if_the_total_is(
        self, told: Any, fraction: float | None, text: str
    ) -> None:
        found = get_progress(job_of(lambda: set_progress(*told)))

        assert found is not None
        assert found.fraction == fraction
        assert str(found) == text

    def test_a_job_that_says_nothing_has_none(self) -> None:
        job = job_of(lambda: None)

        assert get_progress(job) is get_progress(str(uuid4())) is None
        assert get_values(job.pk) == {}
        with pytest.raises(JobNotFoundError):
            get_progress("nonsense")

    def test_the_job_itself_has_both_as_fresh_as_its_last_refresh(self) -> None:
        seen: list[Any] = []

        def body() -> None:
            job = current_job()
            assert job is not None
            set_value("phase", "one")
            seen.append((job.progress, job.values))
            set_progress(2, 2)
            seen.append(job.progress)
            job.refresh()
            assert job.progress is not None
            seen.append(job.progress.done)

        job_of(body)

        assert seen == [(None, {"phase": "one"}), None, 2]

    def test_async_code_awaits_its_own_verbs(self) -> None:
        async def body() -> list[Any]:
            job = current_job()
            assert job is not None
            await aset_progress(1, 2, "half")
            await aset_value("half", [1])
            found = await aget_progress(job)
            assert found is not None
            return [found.note, await aget_values(job)]

        assert job_of(body).return_value == ["half", {"half": [1]}]

    def test_on_an_event_loop_the_other_verb_is_named(self) -> None:
        async def body() -> None:
            set_progress(1)

        job = job_of(body)
        assert job.state == "FAILED"
        assert job.errors[0].message == "On an event loop use: await aset_progress(...)."

        async def publish() -> None:
            set_value("a", 1)

        with pytest.raises(SynchronousOnlyOperation, match=r"await aset_value\("):
            async_to_sync(publish)()


class RefusalTests:
    @pytest.mark.parametrize(
        ("told", "refusal"),
        [
            ((-1,), "done -1 is refused: it must not be negative."),
            ((1.0,), "done 1.0 is refused: it must be an int"),
            ((float("nan"), 10), "done nan is refused: it must be an int; count in units"),
            ((True,), "done True is refused: it must be an int"),
            (("1",), "done '1' is refused: it must be an int"),
            ((None,), "done None is refused: it must be an int"),
            ((2**63,), "it must be less than 2**63; count in larger units."),
            ((0, -1), "total -1 is refused: it must not be negative."),
            ((0, float("inf")), "total inf is refused: it must be an int"),
            ((3, 2), "done 3 is refused: it is more than the total of 2; count both in"),
            ((1, 2, None), "note None is refused: it must be text; leave it out"),
            ((1, 2, "x" * 501), "not have more than 500 characters; long texts go in set_value()"),
            ((1, 2, "a\x00"), "it must not hold a NUL character."),
            ((1, 2, "a\ud800"), "it must not hold half of a surrogate pair."),
        ],
    )
    def test_what_is_no_progress_is_refused_with_the_cure(self, told: Any, refusal: str) -> None:
        with pytest.raises(InvalidOptionError) as caught:
            set_progress(*told)

        assert refusal in str(caught.value)

    @pytest.mark.parametrize("key", ["", " ", 5, None, "x" * 501, "a\x00"])
    def test_what_is_no_key_is_refused(self, key: Any) -> None:
        with pytest.raises(InvalidOptionError, match="key"):
            set_value(key, 1)

    def test_what_cannot_be_stored_is_refused(self, settings: Any) -> None:
        settings.DURABLE = {"MAX_PAYLOAD_BYTES": 10}

        with pytest.raises(NotSerializableError, match="the value"):
            set_value("a", object())
        with pytest.raises(PayloadTooLargeError, match="the value takes 22 bytes"):
            set_value("a", "x" * 20)

    def test_a_lazy_text_is_a_note(self) -> None:
        found = get_progress(job_of(lambda: set_progress(1, 2, gettext_lazy("ready"))))

        assert found is not None
        assert found.note == "ready"


class OutsideTests:
    def test_a_plain_call_does_nothing(self) -> None:
        @task(path="plain")
        def plain() -> str:
            set_progress(1, 2)
            set_value("a", 1)
            return "done"

        with statements() as sent:
            assert plain.call() == "done"

        assert sent == []

    def test_a_workers_thread_without_a_job_is_refused(self) -> None:
        mark_worker_process()
        try:
            with ThreadPoolExecutor(1) as pool:
                for call in (lambda: set_progress(1), lambda: set_value("a", 1)):
                    with pytest.raises(StepOutsideJobError, match="that carries no job"):
                        pool.submit(call).result()
        finally:
            mark_worker_process(on=False)


class ThrottleTests:
    def test_a_busy_loop_writes_its_first_and_its_last(
        self, written: list[int], clock: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporting, "SHORTEST_INTERVAL", 0.2)

        job = job_of(lambda: [set_progress(n, 1000) for n in range(1, 1001)])

        assert written == [1, 1000]
        assert done_of(job) == 1000

    def test_after_a_fifth_of_a_second_the_next_is_written(
        self, written: list[int], clock: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporting, "SHORTEST_INTERVAL", 0.2)

        def body() -> None:
            for n in range(9):
                set_progress(n)
                clock[0] += 0.07

        job_of(body)

        assert written == [0, 3, 6, 8]

    def test_the_last_is_written_at_the_end_whatever_it_is(self, clock: list[float]) -> None:
        def body(fails: bool) -> None:
            set_progress(1, 10)
            set_progress(2, 10)
            assert not fails

        assert done_of(job_of(lambda: body(fails=False))) == 2
        assert done_of(job_of(lambda: body(fails=True))) == 2
        assert done_of(job_of(lambda: body(fails=True), retry=policy(2))) == 2
        assert done_of(job_of(lambda: body(fails=False), atomic=True)) == 2

    def test_and_before_the_job_is_suspended(self, clock: list[float]) -> None:
        @step(retry=policy(2))
        def fail() -> None:
            raise ConnectionError

        def body() -> None:
            set_progress(1)
            set_progress(2)
            fail()

        job = job_of(body)

        assert job.state == "SCHEDULED"
        assert done_of(job) == 2

    def test_being_complete_is_news_only_once(
        self, written: list[int], clock: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporting, "SHORTEST_INTERVAL", 0.2)

        job_of(lambda: [set_progress(9, 9, note) for note in "abc"])

        assert written == [9, 9]
        found = Progress.objects.get()
        assert found.note == "c"

    def test_the_loop_of_the_worker_writes_what_the_body_left(self, clock: list[float]) -> None:
        seen: list[int | None] = []

        def body() -> None:
            run = current_run()
            assert run is not None
            set_progress(1)
            set_progress(2)
            for _ in range(3):
                reporting.tell_late(run, connection)
                seen.append(done_of(run.job))
                clock[0] += 0.15

        job_of(body)

        assert seen == [1, 1, 2]

    def test_but_waits_for_no_body_that_is_writing(self, clock: list[float]) -> None:
        seen: list[int | None] = []

        def body() -> None:
            run = current_run()
            assert run is not None
            set_progress(1)
            set_progress(2)
            clock[0] += 1
            with run.report.lock:
                reporting.tell_late(run, connection)
            seen.append(done_of(run.job))

        job_of(body)

        assert seen == [1]

    def test_what_cannot_be_written_at_the_end_does_not_change_the_end(
        self, clock: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*_: Any) -> None:
            raise ProgrammingError("permission denied")

        def body() -> None:
            set_progress(1)
            set_progress(2)
            monkeypatch.setattr(reporting, "save_progress", refuse)

        job = job_of(body)

        assert (job.state, done_of(job)) == ("SUCCESSFUL", 1)
        assert "its last progress could not be written" in caplog.text
        assert "permission denied" in caplog.text


class ReplayTests:
    def importing(self, loads: Any, **options: Any) -> Any:
        def import_lines() -> None:
            for number in range(1, 6):
                loads(number)
                set_progress(number, 5)
                set_value("line", number)

        return task(path="importing", **options)(import_lines)

    @pytest.mark.parametrize(
        ("loads", "after"), [(load, "load#3"), (load_by_key, "load_by_key[3]")]
    )
    def test_a_replay_writes_nothing_it_wrote_before(
        self, written: list[int], loads: Any, after: str
    ) -> None:
        job = crashed_job(self.importing(loads), after=after)
        assert written == [1, 2]
        assert (done_of(job), get_values(job)) == (2, {"line": 2})

        with statements() as sent:
            resumed_job(job)

        assert job.state == "SUCCESSFUL"
        assert written == [1, 2, 3, 4, 5]
        assert len([sql for sql in sent if "insert into durable_jobvalue" in sql]) == 3

    def test_nor_if_the_calls_stand_before_the_steps(self, written: list[int]) -> None:
        @task(path="importing")
        def import_lines() -> None:
            for number in range(1, 6):
                set_progress(number, 5)
                load(number)

        job = crashed_job(import_lines, after="load#3")
        resumed_job(job)

        assert written == [1, 2, 3, 4, 5]

    def test_a_wait_is_passed_with_what_was_told_before_it(
        self, written: list[int], clock: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporting, "SHORTEST_INTERVAL", 0.2)

        @task(path="importing")
        def import_lines() -> None:
            set_progress(1)
            set_progress(2)
            sleep(HOUR)
            set_progress(3)

        job = ended_job(import_lines)
        assert (job.state, done_of(job)) == ("WAITING", 2)

        resumed_job(job, ahead=HOUR)

        assert written == [1, 2, 3]

    def test_a_process_that_died_writes_nothing_more(self, clock: list[float]) -> None:
        @task(path="importing")
        def import_lines() -> None:
            set_progress(1)
            set_progress(2)
            load(1)

        job = crashed_job(import_lines, after="load")

        assert done_of(job) == 1

    def test_a_step_that_runs_again_tells_again(self, written: list[int]) -> None:
        tries: list[int] = []

        @step(retry=policy(2))
        def flaky() -> None:
            set_progress(len(tries) * 10 + 1)
            set_progress(len(tries) * 10 + 2)
            tries.append(1)
            assert len(tries) > 1

        @task(path="importing")
        def import_lines() -> None:
            load(1)
            set_progress(0)
            flaky()

        resumed_job(ended_job(import_lines), ahead=HOUR)

        assert written == [0, 1, 2, 11, 12]

    def test_a_step_that_is_gone_does_not_hide_the_end(self, written: list[int]) -> None:
        """Whether it is still to come cannot be known before the function has ended."""
        left: list[int] = []

        def import_lines() -> None:
            for number in range(1, 4 - len(left)):
                load(number)
            set_progress(7)
            assert left

        job = ended_job(task(path="importing", retry=policy(2))(import_lines))
        left.append(1)
        resumed_job(job, ahead=HOUR)

        assert job.state == "SUCCESSFUL"
        assert written == [7, 7]

    def test_nor_does_a_replay_that_fails_move_the_bar_back(self, written: list[int]) -> None:
        broken: list[int] = []

        @task(path="importing")
        def import_lines() -> None:
            for number in range(1, 4):
                set_progress(number)
                assert not broken
                load(number)

        job = crashed_job(import_lines, after="load#3")
        broken.append(1)
        resumed_job(job)

        assert job.state == "FAILED"
        assert done_of(job) == 3

    def test_a_branch_replays_for_itself(self, written: list[int]) -> None:
        """The last step of the second branch is new, while the first has one more behind it."""

        def first() -> None:
            load(1)
            set_progress(1)
            load(2)
            set_progress(2)

        def second() -> None:
            load(10)
            set_progress(10)
            load(20)
            set_progress(20)

        @task(path="importing")
        def import_lines() -> None:
            gather(first, second)
            set_progress(30)

        job = crashed_job(import_lines, after="gather/1/load")
        before = list(written)
        resumed_job(job)

        assert job.state == "SUCCESSFUL"
        assert (before, written[len(before) :]) == ([1, 2], [2, 10, 20, 30])

    def test_a_fork_has_the_values_of_its_source_and_its_own_progress(
        self, written: list[int]
    ) -> None:
        job = ended_job(self.importing(load))
        written.clear()

        fork = resumed_job(fork_job(job, from_step="load#4"))

        assert fork.state == "SUCCESSFUL"
        assert (get_values(fork), done_of(fork)) == ({"line": 5}, 5)
        assert written == [3, 4, 5]

    def test_a_fork_publishes_anew_what_only_its_source_would(self) -> None:
        @task(path="importing")
        def import_lines() -> None:
            set_value("source", "a.csv")
            load(1)
            load(2)

        job = ended_job(import_lines)

        assert get_values(resumed_job(fork_job(job, from_step="load#2"))) == {"source": "a.csv"}


class CompensationTests:
    def test_what_is_told_while_steps_are_undone_is_written_too(self, clock: list[float]) -> None:
        def body() -> None:
            set_progress(1)
            book()
            raise LookupError

        job = job_of(body)

        assert (job.state, done_of(job)) == ("FAILED", 2)


class StoppingTests:
    def test_without_the_lease_nothing_is_written_and_the_run_ends(self) -> None:
        def lose() -> None:
            job = current_job()
            assert job is not None
            Job.objects.filter(pk=job.pk).update(lease_token=job.lease_token + 1)

        reached: list[int] = []

        def tell() -> None:
            lose()
            set_progress(1)
            reached.append(1)

        def publish() -> None:
            lose()
            set_value("a", 1)
            reached.append(1)

        jobs = [job_of(tell), job_of(publish)]

        assert [job.state for job in jobs] == ["RUNNING", "RUNNING"]
        assert (reached, Progress.objects.count(), JobValue.objects.count()) == ([], 0, 0)

    def test_between_steps_a_request_to_cancel_is_obeyed(self) -> None:
        def body() -> None:
            run = current_run()
            assert run is not None
            run.cancel_requested = True
            set_progress(1)
            load(1)

        job = job_of(body)

        assert (job.state, done_of(job)) == ("CANCELLED", None)

    def test_in_a_step_the_steps_own_checkpoint_comes_first(self) -> None:
        @step(at_most_once=True)
        def letter() -> None:
            run = current_run()
            assert run is not None
            cancel_job(run.job)
            run.cancel_requested = True
            set_progress(1)
            set_value("a", 1)

        job = job_of(lambda: letter())

        assert (job.state, done_of(job), get_values(job)) == ("CANCELLED", 1, {"a": 1})
        assert checkpoints_of(job)["letter"].state == "SUCCESSFUL"


class ValueTests:
    def test_a_value_is_what_an_argument_can_be_and_the_later_one_counts(self) -> None:
        account = Account.objects.create(name="ann")

        def body() -> None:
            set_value("b", {"at": HOUR, "who": account})
            set_value("a", 1)
            set_value("a", None)

        assert list(get_values(job_of(body)).items()) == [
            ("a", None),
            ("b", {"at": HOUR, "who": account}),
        ]

    def test_an_instance_that_is_gone_is_an_error(self) -> None:
        account = Account.objects.create(name="ann")
        job = job_of(lambda: set_value("who", account))
        Account.objects.all().delete()

        with pytest.raises(MissingInstanceError, match=r"testapp\.account \d+ does not exist"):
            get_values(job)

    @pytest.mark.parametrize("fails", [False, True])
    def test_in_a_transaction_it_is_a_part_of_it(self, fails: bool) -> None:
        def body() -> None:
            with transaction.atomic():
                set_value("a", 1)
                assert not fails

        assert get_values(job_of(body)) == ({} if fails else {"a": 1})

    @pytest.mark.parametrize("fails", [False, True])
    @pytest.mark.parametrize("kind", ["step", "task"])
    def test_in_an_atomic_step_or_task_too(self, kind: str, fails: bool) -> None:
        def body() -> None:
            set_value("a", 1)
            assert not fails

        atomic_step = step(atomic=True)(body)
        job = job_of(body, atomic=True) if kind == "task" else job_of(lambda: atomic_step())

        assert get_values(job) == ({} if fails else {"a": 1})
