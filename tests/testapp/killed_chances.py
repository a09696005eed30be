"""Second chances whose worker is killed at every durable point, and a job of several lives."""

from datetime import timedelta

from django_durable import (
    continue_as,
    enqueue,
    fork_job,
    get_job,
    retry_job,
    step,
    task,
    wait_until,
)
from django_durable.exceptions import ChildFailedError
from django_durable.models import Job
from tests.testapp.killed_tasks import book, here, leaf, pay
from tests.testapp.models import Charge


@task(path="killed.lives")
def lives(ref: str, number: int = 1) -> str:
    """Three lives, each with a call of the bank, a child and a row."""
    pay(ref, f"pay-{number}")
    enqueue(here(leaf), ref, f"child-{number}")
    book(ref, f"book-{number}")
    if number < 3:
        continue_as(ref, number=number + 1)
    return f"ended in life {number}"


@step
def deliver(ref: str) -> str:
    if not Charge.objects.filter(order_ref=f"{ref}:road").exists():
        raise ConnectionError("there is no road")
    return "delivered"


@task(path="killed.shaky")
def shaky(ref: str) -> list[str]:
    """Fails at its third step until there is a road."""
    kept = [pay(ref, "paid once"), book(ref, "booked once")]
    enqueue(here(leaf), ref, "enqueued once")
    return [*kept, deliver(ref), book(ref, "booked at each end")]


@step(atomic=True)
def fork_shaky(source_id: str) -> None:
    fork_job(source_id, from_step="deliver")


@step(atomic=True)
def retry_shaky(source_id: str) -> None:
    retry_job(source_id)


def ended(job: Job, name: str) -> list[str]:
    """What a job returned, once it has. The name takes the id's place in the identity."""
    wait_until(lambda: get_job(job.pk).is_finished, every=timedelta(milliseconds=50), name=name)
    value: list[str] = get_job(job.pk).return_value
    return value


@task(path="killed.second_chances")
def second_chances(ref: str) -> list[object]:
    """Lets a job fail, builds the road, forks it where it failed, then retries it."""
    child = here(shaky).start(ref)
    try:
        child.result()
    except ChildFailedError as error:
        book(ref, error.error_message)
    book(ref, "road")
    fork_shaky(str(child.job.pk))
    forked = ended(Job.objects.get(forked_from_id=child.job.pk), "fork has ended")
    retry_shaky(str(child.job.pk))
    return [forked, ended(child.job, "retried job has ended")]
