"""Jobs that wait, and whose workers die at every durable point while they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection, transaction

from django_durable import Task, emit_event, enqueue, run_step, send_event, sleep
from django_durable.models import Checkpoint, Job, Message
from django_durable.testing.running import _move_back
from tests.builders import HOUR, checkpoints_of, ended_job, redeployed, resumed_job
from tests.scenarios.harness import Workers, eventually, job_is
from tests.scenarios.killing import Killing, Story
from tests.scenarios.severing import SeveringProxy
from tests.testapp import killed_waits as tasks
from tests.testapp.models import Charge


def begun(*called: Task[[str], object]) -> Callable[[str, str], list[Job]]:
    """Enqueues these tasks for a round."""
    return lambda ref, queue: [one.using(queue_name=queue).enqueue(ref) for one in called]


def waits_for(job: Job, name: str) -> bool:
    """Whether a job waits for the event of this name."""
    job.refresh()
    return bool(job.state == "WAITING" and job.wait_key == name)


# --- time


def test_a_sleep_takes_its_time_wherever_the_worker_is_killed(killing: Killing) -> None:
    rounds = killing.kill_everywhere(Story(begin=begun(tasks.sleeps)), least=5)

    for one in rounds:
        rows = checkpoints_of(one.jobs[0])
        slept = rows["book"].started_at - rows["pay"].saved_at
        assert slept >= 2 * tasks.MOMENT, f"{one}: slept only {slept}"


def test_a_sleep_is_not_begun_again_by_a_restart_or_a_wake_up(workers: Workers) -> None:
    job = enqueue(tasks.sleeps_for_an_hour, "a")
    victim = workers.start().has_lock()
    deadline = job_is(job, "WAITING").wait_deadline_at

    victim.kill()
    Job.objects.filter(pk=job.pk).update(state="READY", wait_kind=None)
    workers.start()
    job_is(job, "WAITING")
    assert job.wait_deadline_at == deadline
    assert job.due_at == deadline
    assert job.lease_token == 2

    with transaction.atomic():  # else the worker may find the job due, and its deadline not yet
        _move_back(connection.alias, HOUR)
    job_is(job, "SUCCESSFUL")


# --- names


def test_steps_named_like_waits_are_run_wherever_the_worker_is_killed(killing: Killing) -> None:
    def go(jobs: list[Job]) -> Iterator[None]:
        send_event(jobs[0], "go")
        yield

    story = Story(begin=begun(tasks.steps_named_like_waits), meanwhile=go)
    rounds = killing.kill_everywhere(story, least=9)

    assert rounds[0].end is not None
    assert set(rounds[0].end.calls) == {"go", "sleep", "gone"}


@pytest.mark.django_db
def test_the_checkpoint_of_a_wait_is_not_taken_for_that_of_a_step_or_the_other_way() -> None:
    def sleeps() -> None:
        sleep(HOUR)
        raise AssertionError("the code was changed meanwhile")

    def steps() -> list[object]:
        return [run_step("sleep", list)]

    waited = ended_job(redeployed("killed.renamed", sleeps))
    redeployed("killed.renamed", steps)
    resumed_job(waited, ahead=HOUR)
    assert waited.wait_kind == "blocked"
    assert "expected a sleep at sleep (recorded); found a plain step" in waited.wait_reason

    def steps_then_fails() -> None:
        steps()
        sleep(HOUR)

    stepped = ended_job(redeployed("killed.reordered", steps_then_fails))
    redeployed("killed.reordered", sleeps)
    resumed_job(stepped, ahead=2 * HOUR)
    assert stepped.wait_kind == "blocked"
    assert "expected a plain step at sleep (recorded); found a sleep" in stepped.wait_reason


# --- broadcast events


@pytest.mark.parametrize(
    "emitter",
    [tasks.emits, tasks.emits_in_an_atomic_step, tasks.emits_in_one_commit],
    ids=lambda emitter: emitter.name,
)
def test_what_a_job_emits_reaches_who_waits_wherever_their_worker_is_killed(
    killing: Killing, emitter: Task[[str], object]
) -> None:
    killing.kill_everywhere(Story(begin=begun(tasks.waits_for_key, emitter)), least=6)


def test_what_was_emitted_before_the_wait_is_delivered_wherever_the_worker_is_killed(
    killing: Killing,
) -> None:
    def begin(ref: str, queue: str) -> list[Job]:
        emit_event(f"{ref}-rates", "fixed")
        return begun(tasks.waits_for_key)(ref, queue)

    killing.kill_everywhere(Story(begin=begin), least=4)


def test_emits_that_race_with_waits_are_never_lost(workers: Workers) -> None:
    workers.start("--slots", "8").has_lock()
    jobs = []
    for number in range(150):
        jobs.append(enqueue(tasks.waits_for_key, f"race{number}"))
        behind = number - number % 10
        if number % 10 == 9:
            for late in range(behind, number + 1):
                emit_event(f"race{late}-rates", late)

    def are_done() -> bool:
        return Job.objects.filter(state="SUCCESSFUL").count() == len(jobs)

    eventually(are_done, "all who waited have got their event")
    assert Charge.objects.values("order_ref").distinct().count() == len(jobs)


# --- timeouts


def test_a_wait_times_out_once_and_null_is_no_timeout_wherever_the_worker_is_killed(
    killing: Killing,
) -> None:
    def speak_late(jobs: list[Job]) -> Iterator[None]:
        while not waits_for(jobs[0], "silence"):
            yield
        send_event(jobs[0], "late", "after all")
        send_event(jobs[0], "silence", None)

    story = Story(begin=begun(tasks.loses_patience), meanwhile=speak_late)
    rounds = killing.kill_everywhere(story, least=15)

    for one in rounds:
        one.jobs[0].refresh()
        assert one.jobs[0].return_value == [*["timed out"] * 3, "got None", "got after all"]


def test_a_condition_is_seen_once_wherever_the_worker_is_killed(killing: Killing) -> None:
    def pay(jobs: list[Job]) -> Iterator[None]:
        job = jobs[0]
        while not (job.state == "WAITING" and job.wait_kind == "condition"):
            yield
            job.refresh()
        Charge.objects.create(order_ref=f"{job.args[0]}:paid")

    killing.kill_everywhere(Story(begin=begun(tasks.asks_until), meanwhile=pay), least=5)


def test_a_condition_that_never_holds_times_out_wherever_the_worker_is_killed(
    killing: Killing,
) -> None:
    killing.kill_everywhere(Story(begin=begun(tasks.never_sees)), least=6)


# --- messages


def test_messages_are_taken_in_order_each_once_wherever_the_worker_is_killed(
    killing: Killing,
) -> None:
    def begin(ref: str, queue: str) -> list[Job]:
        return [tasks.takes_messages.using(queue_name=queue).enqueue(ref, 4)]

    def send(jobs: list[Job]) -> Iterator[None]:
        for number in range(4):
            send_event(jobs[0], "order", number)
            yield

    rounds = killing.kill_everywhere(Story(begin=begin, meanwhile=send), least=10)

    for one in rounds:
        one.jobs[0].refresh()
        assert one.jobs[0].return_value == [0, 1, 2, 3]


def test_what_a_job_sends_is_sent_once_wherever_the_worker_is_killed(killing: Killing) -> None:
    def begin(ref: str, queue: str) -> list[Job]:
        taker = tasks.takes_messages.using(queue_name=queue).enqueue(ref, 4)
        sender = tasks.sends_messages.using(queue_name=queue)
        return [taker, sender.enqueue(ref, str(taker.pk))]

    rounds = killing.kill_everywhere(Story(begin=begin), least=15)

    for one in rounds:
        one.jobs[0].refresh()
        assert one.jobs[0].return_value == [1, 2, 3, 4]
        assert Message.objects.filter(job_id=one.jobs[0].pk).count() == 4


@pytest.fixture
def proxy(transactional_db: None) -> Iterator[SeveringProxy]:
    made = SeveringProxy(connection.settings_dict)
    yield made
    made.close()


@pytest.mark.parametrize(
    "markers",
    [
        (b"set taken_as",),
        (b"insert into durable_mailbox", b"COMMIT"),
        (b"insert into durable_message", b"COMMIT"),
        (b"emitted_at", b"SUCCESSFUL"),
    ],
    ids=["taking one", "waiting for one", "sending one", "saving an event"],
)
def test_an_event_counts_once_when_the_answer_is_lost(
    workers: Workers, proxy: SeveringProxy, markers: tuple[bytes, ...]
) -> None:
    taker = enqueue(tasks.takes_messages, "a", 5)
    sender = enqueue(tasks.sends_messages, "a", str(taker.pk))
    waiter, emitter = enqueue(tasks.waits_for_key, "b"), enqueue(tasks.emits, "b")
    proxy.cut_after(*markers)
    workers.start(DATABASE_URL=proxy.url()).has_lock()

    job_is(sender, "SUCCESSFUL")
    job_is(emitter, "SUCCESSFUL")
    eventually(proxy.cut.is_set, "the answer was cut off")
    send_event(taker, "order", 5)

    assert job_is(taker, "SUCCESSFUL").return_value == [1, 2, 3, 4, 5]
    assert job_is(waiter, "SUCCESSFUL").return_value == "rates fixed"
    assert Message.objects.count() == 5
    assert not Checkpoint.objects.filter(state="STARTED").exists()
    assert [job.attempt for job in (taker, sender, waiter)] == [1, 1, 1]
    assert [job.lost_count for job in (taker, sender, waiter)] == [0, 0, 0]
