"""Steps are undone in reverse, each once, wherever the worker is killed (scenario 40)."""

import signal
from collections.abc import Iterator

from django_durable import cancel_job, enqueue, retry_job
from django_durable.models import Checkpoint, Job
from tests.scenarios.harness import Gates, Workers, job_is
from tests.scenarios.killing import Killing, Round, Story
from tests.testapp import compensated_tasks as tasks
from tests.testapp.models import BankCall

LEASE = ("--lease", "3")


def called_for(ref: str) -> list[str]:
    """What the bank was called for, by the first call for each."""
    calls = BankCall.objects.filter(ref=ref).order_by("id").values_list("what", flat=True)
    return list(dict.fromkeys(calls))


def states_of(one: Round) -> dict[str, str]:
    rows = Checkpoint.objects.filter(job_id=one.jobs[0].pk)
    return dict(rows.values_list("identity", "state"))


def cancelled_while_waiting(jobs: list[Job]) -> Iterator[None]:
    while not Job.objects.filter(pk=jobs[0].pk, state="WAITING").exists():
        yield
    cancel_job(jobs[0])


def retried_when_failed(jobs: list[Job]) -> Iterator[None]:
    while not Job.objects.filter(pk=jobs[0].pk, state="FAILED").exists():
        yield
    retry_job(jobs[0])


def test_a_failed_job_is_undone_alike_wherever_its_worker_is_killed(killing: Killing) -> None:
    story = Story(begin=lambda ref, queue: [enqueue(tasks.fails_late.using(queue_name=queue), ref)])

    rounds = killing.kill_everywhere(story, least=42)

    states = states_of(rounds[0])
    assert states["compensation@1/promise"] == "FAILED"
    assert [i for i, state in states.items() if state == "SUCCESSFUL" and "@" not in i] == [
        "promise"
    ]
    for one in rounds:
        assert [what for what in called_for(one.ref) if what in tasks.UNDOING] == tasks.UNDOING


def test_a_job_cancelled_while_it_waits_is_undone_wherever_its_worker_is_killed(
    killing: Killing,
) -> None:
    story = Story(
        begin=lambda ref, queue: [enqueue(tasks.waits_long.using(queue_name=queue), ref)],
        meanwhile=cancelled_while_waiting,
    )

    peaceful, *_ = killing.kill_everywhere(story, least=16)

    job = Job.objects.get(pk=peaceful.jobs[0].pk)
    assert (job.state, job.error, job.ends_as) == ("CANCELLED", None, None)
    assert peaceful.end is not None
    assert peaceful.end.facts["rows of cake taken out"] == 1


def test_charged_refunded_and_charged_again_are_three_calls_wherever_the_worker_is_killed(
    killing: Killing,
) -> None:
    story = Story(
        begin=lambda ref, queue: [enqueue(tasks.fails_once.using(queue_name=queue), ref)],
        meanwhile=retried_when_failed,
    )

    rounds = killing.kill_everywhere(story, least=14)

    for one in rounds:
        assert called_for(one.ref) == [
            "price charged in attempt 1",
            "price refunded: price charged in attempt 1, at the end of attempt 1",
            "price charged in attempt 2",
        ]
        calls = BankCall.objects.filter(ref=one.ref)
        assert calls.values("key").distinct().count() == 3
    assert Job.objects.get(pk=rounds[0].jobs[0].pk).state == "SUCCESSFUL"


def test_a_job_that_is_being_undone_is_not_cancelled(workers: Workers, gates: Gates) -> None:
    job = enqueue(tasks.fails_at_the_gate, "a")
    workers.start(*LEASE)
    gates.reached("refund-a")

    assert cancel_job(job).cancel_requested_at is not None
    gates.open("refund-a")

    job_is(job, "FAILED")
    assert called_for("a")[-2:] == [
        "refunded",
        "first refunded: first charged in attempt 1, at the end of attempt 1",
    ]


def test_killed_in_a_compensation_it_goes_on_there_and_not_in_the_task(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(tasks.fails_at_the_gate, "a")
    victim = workers.start(*LEASE).has_lock()
    gates.reached("refund-a")

    victim.kill()
    gates.open("refund-a")
    workers.start(*LEASE)

    job_is(job, "FAILED")
    assert (gates.count("body-a"), gates.count("refunding-a")) == (1, 2)
    assert BankCall.objects.filter(ref="a", what="refunded").count() == 1
    assert "LookupError" in (job.error or "")


def test_a_worker_told_to_stop_hands_a_job_over_that_is_being_undone(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(tasks.fails_at_the_gate, "a")
    first = workers.start(*LEASE, "--grace", "0.1")
    gates.reached("refund-a")

    first.terminate()
    assert first.exit_code() == 0
    job.refresh()
    assert (job.state, job.ends_as, job.lost_count) == ("READY", "FAILED", 0)
    gates.open("refund-a")
    workers.start(*LEASE)

    job_is(job, "FAILED")
    assert gates.count("body-a") == 1


def test_a_compensation_that_kills_its_worker_is_given_up_and_said(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(tasks.undone_by_a_killer, "a")

    for _ in range(2):
        assert workers.start(*LEASE).exit_code() == -signal.SIGKILL
    job.refresh()
    assert (job.state, job.ends_as, job.lost_count) == ("RUNNING", "FAILED", 1)
    Job.objects.filter(pk=job.pk).update(lost_count=9)  # as if seven more had died
    workers.start(*LEASE)

    job_is(job, "FAILED")
    assert gates.count("killing-a") == 2
    assert "Not undone: arm, charge." in job.errors[-1].message
    assert "LookupError: the end" in job.errors[-1].message
