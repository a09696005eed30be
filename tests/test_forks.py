"""Second chances in new jobs: forks keep what came before a step, restarts keep nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync

from django_durable import (
    Task,
    afork_job,
    arestart_job,
    cancel_job,
    current_step,
    enqueue,
    fork_job,
    get_values,
    restart_job,
    set_value,
    step,
    task,
)
from django_durable.exceptions import (
    ForkPointError,
    InvalidArgumentsError,
    InvalidOptionError,
    JobNotFoundError,
    NotSerializableError,
    UnknownTaskError,
)
from django_durable.models import Checkpoint, Job
from tests.builders import (
    HOUR,
    checkpoints_of,
    crashed_job,
    ended_job,
    policy,
    redeployed,
    resumed_job,
    rewritten_job,
    rolled_back,
    statements,
)
from tests.testapp.models import Charge
from tests.testapp.tasks import fulfil

pytestmark = pytest.mark.django_db

CALLS: list[str] = []

NOBODY = UUID("01a1f779-eca1-7ae2-a5e6-c2696e5702cd")


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@step
def work(name: str) -> str:
    CALLS.append(name)
    return f"{name} done"


def three_steps(path: str = "forks.three", **options: Any) -> Task[..., Any]:
    def run(ref: str = "a") -> list[str]:
        return [work(f"{ref}1"), work(f"{ref}2"), work(f"{ref}3")]

    return redeployed(path, run, **options)


class ForkTests:
    def test_goes_on_from_the_step_and_keeps_what_came_before(self) -> None:
        source = ended_job(three_steps(), "x")
        CALLS.clear()

        fork = resumed_job(fork_job(source, from_step="work#2"))

        assert CALLS == ["x2", "x3"]
        assert fork.state == "SUCCESSFUL"
        assert fork.return_value == ["x1 done", "x2 done", "x3 done"]
        assert fork.forked_from_id == source.pk != fork.pk

    def test_is_a_job_of_the_same_call_with_a_life_of_its_own(self) -> None:
        subject = Charge.objects.create(order_ref="o")
        called = three_steps(queue_name="orders", priority=7, retry=policy(3))
        source = rewritten_job(
            ended_job(called.using(subject=subject), "x"),
            context='{"language":"de"}',
            continued_count=2,
            allowed_steps=["work"],
            deadline_at=None,
            attempt=4,
            attempt_base=2,
            lost_count=1,
        )

        fork = fork_job(source.pk, from_step="work#3")

        same = (
            "task_path", "queue_name", "priority", "arguments", "context", "subject_type",
            "subject_key", "continued_count", "allowed_steps",
        )  # fmt: skip
        assert {n: getattr(fork, n) for n in same} == {n: getattr(source, n) for n in same}
        own = {
            "state": "READY", "attempt": 1, "attempt_base": 0, "lost_count": 0, "lease_token": 1,
            "parent_id": None, "origin": None, "run_after": None, "started_at": None,
            "finished_at": None, "error": None, "encoded_return_value": None,
        }  # fmt: skip
        assert {n: getattr(fork, n) for n in own} == own
        assert fork.enqueued_at > source.enqueued_at

    def test_the_source_stays_as_it_is(self) -> None:
        source = ended_job(three_steps())
        before = Job.objects.filter(pk=source.pk).values().get()
        rows = list(Checkpoint.objects.filter(job_id=source.pk).order_by("seq").values())

        resumed_job(fork_job(source, from_step="work#2"))

        assert Job.objects.filter(pk=source.pk).values().get() == before
        assert list(Checkpoint.objects.filter(job_id=source.pk).order_by("seq").values()) == rows

    def test_from_the_first_step_keeps_nothing(self) -> None:
        source = ended_job(three_steps())

        fork = fork_job(source, from_step="work")

        assert checkpoints_of(fork) == {}
        assert resumed_job(fork).state == "SUCCESSFUL"

    @pytest.mark.parametrize(
        ("state", "make"),
        [
            ("FAILED", lambda: failed_at_third()),
            ("READY", lambda: crashed_job(three_steps(), after="work#2")),
            ("CANCELLED", lambda: cancel_job(crashed_job(three_steps(), after="work#2"))),
            ("SCHEDULED", lambda: retrying_at_third()),
        ],
    )
    def test_a_job_in_any_state_can_be_forked(self, state: str, make: Callable[[], Job]) -> None:
        source = make()
        assert source.state in (state, "RUNNING")

        fork = fork_job(source, from_step="work#2")

        assert list(checkpoints_of(fork)) == ["work"]
        assert fork.state == "READY"

    def test_a_caught_failure_before_the_step_stays_recorded(self) -> None:
        tries: list[int] = []

        @step
        def breaks() -> None:
            tries.append(1)
            raise ValueError

        def run() -> str:
            try:
                breaks()
            except Exception:
                CALLS.append("caught")
            return work("a")

        source = ended_job(redeployed("forks.caught", run))

        fork = resumed_job(fork_job(source, from_step="work"))

        assert (fork.state, len(tries), CALLS) == ("SUCCESSFUL", 1, ["caught", "a"] * 2)

    def test_only_final_checkpoints_are_kept(self) -> None:
        source = ended_job(three_steps())
        rows = Checkpoint.objects.filter(job_id=source.pk)
        rows.filter(identity="work").update(state="STARTED")
        rows.filter(identity="work#2").update(wait_key="event/paid", compensation='{"call":1}')

        fork = fork_job(source, from_step="work#3")

        (kept,) = checkpoints_of(fork).values()
        assert (kept.identity, kept.wait_key, kept.compensation) == ("work#2", None, None)

    def test_values_published_before_the_place_are_there(self) -> None:
        def run() -> None:
            work("1")
            set_value("early", 1)
            work("2")
            set_value("late", 2)
            work("3")
            raise ValueError

        source = ended_job(redeployed("forks.publishes", run))
        assert get_values(source) == {"early": 1, "late": 2}

        assert get_values(fork_job(source, from_step="work#2")) == {"early": 1}

    def test_no_claim_of_the_fork_counts_copied_checkpoints_as_its_own_progress(self) -> None:
        source = ended_job(three_steps())

        fork = fork_job(source, from_step="work#3")

        assert {row.lease_token for row in checkpoints_of(fork).values()} == {0}

    def test_the_keys_of_its_steps_are_its_own(self) -> None:
        keys: list[str] = []

        @step
        def keyed() -> None:
            keys.append(current_step().idempotency_key)

        source = ended_job(redeployed("forks.keys", lambda: keyed()))
        resumed_job(fork_job(source, from_step="keyed"))

        assert len(set(keys)) == 2

    def test_a_fork_can_be_forked(self) -> None:
        source = ended_job(three_steps())
        fork = resumed_job(fork_job(source, from_step="work#3"))
        CALLS.clear()

        again = resumed_job(fork_job(fork, from_step="work#3"))

        assert (again.state, CALLS) == ("SUCCESSFUL", ["a3"])
        assert again.forked_from_id == fork.pk

    def test_has_a_deadline_only_if_one_is_given(self) -> None:
        source = ended_job(three_steps())
        Job.objects.filter(pk=source.pk).update(deadline_at=source.enqueued_at + HOUR)

        plain = fork_job(source, from_step="work#2")
        short = fork_job(source, from_step="work#2", deadline=timedelta(hours=2))
        fixed = fork_job(source, from_step="work#2", deadline=source.enqueued_at + HOUR * 9)

        assert plain.deadline_at is None
        assert short.deadline_at == short.enqueued_at + timedelta(hours=2)
        assert fixed.deadline_at == source.enqueued_at + HOUR * 9

    def test_is_one_statement_in_the_callers_transaction(self) -> None:
        source = ended_job(three_steps())
        with rolled_back(), statements() as sent:
            fork_job(source, from_step="work#2")

        assert [s.partition(" ")[0] for s in sent if "insert" in s] == ["with"]
        assert Job.objects.count() == 1

    def test_the_async_twin_does_the_same(self) -> None:
        source = ended_job(three_steps())

        fork = async_to_sync(afork_job)(source, from_step="work#2")

        assert list(checkpoints_of(fork)) == ["work"]


def failed_at_third() -> Job:
    def run() -> None:
        work("1")
        work("2")
        fails()

    return ended_job(redeployed("forks.fails", run))


@step
def fails() -> None:
    raise ValueError("no")


def retrying_at_third() -> Job:
    @step(retry=policy(2))
    def later() -> None:
        raise ValueError("not yet")

    def run() -> None:
        work("1")
        work("2")
        later()

    return ended_job(redeployed("forks.retries", run))


class WrongPlaceTests:
    def test_an_unknown_identity_names_those_there_are(self) -> None:
        source = ended_job(three_steps())

        with pytest.raises(ForkPointError) as caught:
            fork_job(source, from_step="work#4")

        assert str(caught.value) == (
            f'Job {source.pk} (forks.three) cannot be forked from "work#4": '
            "there is no such checkpoint. Those it has: work, work#2, work#3."
        )
        assert Job.objects.count() == 1

    def test_a_job_without_checkpoints_has_none_to_name(self) -> None:
        with pytest.raises(ForkPointError, match="Those it has: none"):
            fork_job(enqueue(fulfil, "a"), from_step="charge")

    def test_a_long_list_is_cut(self) -> None:
        def run() -> None:
            for i in range(60):
                work(str(i))

        source = ended_job(redeployed("forks.many", run))
        with pytest.raises(ForkPointError, match=r"work#50, and more\."):
            fork_job(source, from_step="nothing")

    def test_a_place_behind_an_undone_step_is_refused(self) -> None:
        """It would be skipped although its effect is gone."""
        source = ended_job(three_steps())
        rows = Checkpoint.objects.filter(job_id=source.pk)
        rows.filter(identity="work#2").update(state="COMPENSATED")

        with pytest.raises(ForkPointError, match="work#2 before it is undone"):
            fork_job(source, from_step="work#3")

        fork = fork_job(source, from_step="work#2")
        assert list(checkpoints_of(fork)) == ["work"]

    def test_so_is_one_behind_a_step_that_is_going_to_be_undone(self) -> None:
        source = ended_job(three_steps())
        rows = Checkpoint.objects.filter(job_id=source.pk)
        rows.filter(identity="work").update(compensation='{"call":1}')
        assert fork_job(source, from_step="work#3")
        rewritten_job(source, ends_as="FAILED")

        with pytest.raises(ForkPointError, match="work before it is undone"):
            fork_job(source, from_step="work#3")
        assert fork_job(source, from_step="work")

    @pytest.mark.parametrize("job", [NOBODY, str(NOBODY), "nonsense"])
    def test_a_job_that_is_not_there_is_not_found(self, job: Any) -> None:
        with pytest.raises(JobNotFoundError):
            fork_job(job, from_step="work")
        with pytest.raises(JobNotFoundError):
            restart_job(job)

    @pytest.mark.parametrize("deadline", [timedelta(0), "soon", 5])
    def test_a_bad_deadline_is_refused(self, deadline: Any) -> None:
        with pytest.raises(InvalidOptionError, match="deadline"):
            fork_job(uuid4(), from_step="work", deadline=deadline)


def give_back(name: str) -> None:
    CALLS.append(f"undo {name}")


@step(compensate=give_back)
def take(name: str) -> str:
    CALLS.append(name)
    return name


class CompensationTests:
    """What the source did is the source's to undo."""

    def test_a_step_that_was_undone_is_where_a_fork_begins(self) -> None:
        def run() -> None:
            work("1")
            take("t")
            work("2")
            if len(CALLS) < 5:
                raise ValueError

        source = ended_job(redeployed("forks.undoes", run))
        assert (source.state, CALLS) == ("FAILED", ["1", "t", "2", "undo t"])

        with pytest.raises(ForkPointError, match="take before it is undone"):
            fork_job(source, from_step="work#2")
        with pytest.raises(ForkPointError, match="Those it has: work, take, work#2"):
            fork_job(source, from_step="compensation@1/take")
        fork = resumed_job(fork_job(source, from_step="take"))

        assert fork.state == "SUCCESSFUL"
        assert CALLS[4:] == ["t", "2"]

    def test_a_fork_that_fails_undoes_only_what_it_did_itself(self) -> None:
        def run() -> None:
            take("kept")
            take("own")
            if len(CALLS) > 2:
                raise ValueError

        source = ended_job(redeployed("forks.undoes", run))
        assert source.state == "SUCCESSFUL"

        fork = resumed_job(fork_job(source, from_step="take#2"))

        assert fork.state == "FAILED"
        assert CALLS == ["kept", "own", "own", "undo own"]


class RestartTests:
    def test_makes_a_new_job_of_the_stored_call(self) -> None:
        source = ended_job(three_steps(queue_name="orders", priority=3), "x")

        again = restart_job(source)

        assert (again.arguments, again.queue_name, again.priority) == (
            source.arguments, "orders", 3,
        )  # fmt: skip
        assert (again.state, again.lease_token, again.forked_from_id) == ("READY", 0, source.pk)
        assert checkpoints_of(again) == {}
        assert resumed_job(again).return_value == ["x1 done", "x2 done", "x3 done"]
        assert CALLS == ["x1", "x2", "x3"] * 2

    def test_takes_other_arguments(self) -> None:
        source = ended_job(fulfil, "a")

        again = resumed_job(restart_job(source, "b", amount=5))

        assert again.return_value == "b paid 5"

    def test_begins_its_first_life_whatever_the_other_one_was_in(self) -> None:
        source = rewritten_job(ended_job(three_steps()), continued_count=3, allowed_steps=["x"])

        again = restart_job(source)

        assert (again.continued_count, again.allowed_steps) == (0, [])

    def test_a_task_unknown_here_can_be_restarted_as_it_was(self) -> None:
        source = rewritten_job(enqueue(fulfil, "a"), task_path="gone.task")

        assert restart_job(source).task_path == "gone.task"
        with pytest.raises(UnknownTaskError):
            restart_job(source, "b")

    def test_wrong_arguments_are_refused_and_nothing_is_written(self) -> None:
        source = ended_job(fulfil, "a")

        with pytest.raises(InvalidArgumentsError):
            restart_job(source, "a", 1, 2, 3)
        with pytest.raises(NotSerializableError):
            restart_job(source, object())

        assert Job.objects.count() == 1

    def test_keywords_of_the_task_may_have_any_name(self) -> None:
        @task(path="forks.named")
        def named(job: str, from_step: str) -> str:
            return job + from_step

        source = ended_job(named, job="a", from_step="b")

        assert resumed_job(restart_job(source, job="c", from_step="d")).return_value == "cd"

    def test_the_async_twin_does_the_same(self) -> None:
        source = ended_job(fulfil, "a")

        assert async_to_sync(arestart_job)(source, "b").args == ["b"]
