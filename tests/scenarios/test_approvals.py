"""People answer while workers come and go: exactly one branch, and it replays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, connections

from django_durable import answer_approval, enqueue
from django_durable.exceptions import ApprovalClosedError
from django_durable.models import Approval, Job
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.testapp import approvals
from tests.testapp.models import Charge

LEASE = ("--lease", "3")


@pytest.fixture
def anna(transactional_db: None) -> User:
    user = User.objects.create_user("anna")
    user.groups.add(Group.objects.create(name="accounting"))
    return user


def refs() -> list[str]:
    return sorted(Charge.objects.values_list("order_ref", flat=True))


def test_an_answer_given_while_no_worker_lives_is_kept_for_the_next(
    workers: Workers, anna: User
) -> None:
    job = enqueue(approvals.asks_with_form, "a")
    victim = workers.start(*LEASE).has_lock()
    job_is(job, "WAITING")
    victim.kill()

    answer_approval(Approval.objects.get(), anna, approved=True, data={"amount": 7})
    workers.start(*LEASE)

    assert job_is(job, "SUCCESSFUL").return_value == {"amount": 7, "note": ""}
    assert refs() == ["a:7"]


@pytest.mark.parametrize("answered", [True, False])
def test_a_worker_killed_in_a_branch_is_followed_into_the_same_one(
    workers: Workers, gates: Gates, anna: User, answered: bool
) -> None:
    deadline = None if answered else timedelta(seconds=0.5)
    job = enqueue(approvals.asks_then_stops, "a", deadline)
    victim = workers.start(*LEASE).has_lock()
    if answered:
        job_is(job, "WAITING")
        answer_approval(Approval.objects.get(), anna, approved=True)
    gates.reached("decided-a")

    victim.kill()
    Approval.objects.update(approved=not answered, deadline_at=None, closed_at=None)
    gates.open("decided-a")
    workers.start(*LEASE)

    branch = "approved" if answered else "timed out"
    assert job_is(job, "SUCCESSFUL").return_value == branch
    assert refs() == [f"a:{branch}"]


JOBS = 40
AROUND = timedelta(seconds=0.4)


def test_approve_versus_timeout_takes_exactly_one_branch(workers: Workers, anna: User) -> None:
    """Answers fall around the deadline of each job, and one of two workers is killed there.

    Whoever was told "accepted" was heard, and whoever was refused was not.
    """
    victim = workers.start("--slots", "4").has_lock()
    workers.start("--slots", "4").has_lock()
    jobs = [enqueue(approvals.asks_with_form, f"{n}", timedelta(seconds=12)) for n in range(JOBS)]
    questions = eventually(all_asked, "every job asked")

    with ThreadPoolExecutor(4) as pool:
        told = [
            pool.submit(answer_at, question, at_moment(question, n), anna)
            for n, question in enumerate(questions)
        ]
        eventually(lambda: database_time() > questions[0].deadline_at, "the first deadline")
        victim.kill()
        accepted = {str(q.pk): one.result() for q, one in zip(questions, told, strict=True)}

    for job in jobs:
        job_is(job, "SUCCESSFUL")
    assert {True, False} <= set(accepted.values())
    expected = {
        question.job_id: {"amount": 7, "note": ""} if accepted[str(question.pk)] else {}
        for question in questions
    }
    assert {job.pk: job.return_value for job in jobs} == expected
    amounts = {q.job_id: 7 if accepted[str(q.pk)] else "timed out" for q in questions}
    assert refs() == sorted(f"{n}:{amounts[job.pk]}" for n, job in enumerate(jobs))


def all_asked() -> list[Approval]:
    found = list(Approval.objects.order_by("requested_at"))
    waiting = Job.objects.filter(state="WAITING", wait_kind="approval").count()
    return found if len(found) == waiting == JOBS else []


def at_moment(question: Approval, n: int) -> datetime:
    """A moment around a question's deadline: the first ones before it, the last ones behind.

    The very first is answered at once, however slow the machine is.
    """
    assert question.deadline_at is not None
    if n == 0:
        return question.requested_at
    return question.deadline_at + AROUND * ((n - JOBS / 2) / (JOBS / 2))


def database_time() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("select clock_timestamp()")
        (now,) = cursor.fetchone()
        assert isinstance(now, datetime)
        return now


def answer_at(question: Approval, moment: datetime, user: User) -> bool:
    """Answer as soon as a moment has come; whether it was accepted. In a thread of its own."""
    try:
        eventually(lambda: database_time() >= moment, f"it is {moment}")
        answer_approval(question, user, approved=True, data={"amount": 7})
    except ApprovalClosedError:
        return False
    finally:
        connections.close_all()
    return True
