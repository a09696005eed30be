"""Tasks whose worker is killed at every durable point. What they return never differs."""

from datetime import timedelta
from typing import Any

from django_durable import (
    RetryPolicy,
    Task,
    aenqueue,
    current_job,
    current_step,
    enqueue,
    step,
    task,
)
from django_durable.exceptions import StepFailedError, StepInterrupted
from tests.testapp.models import BankCall, Charge

AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=timedelta(0), jitter=False)


def here(called: Task[Any, Any]) -> Task[Any, Any]:
    """The task, to be enqueued in the queue of the job that runs."""
    job = current_job()
    assert job is not None
    return called.using(queue_name=job.queue_name)


def write(ref: str, what: str) -> str:
    """A business row; inside an atomic step there is one."""
    Charge.objects.create(order_ref=f"{ref}:{what}")
    return what


def call_bank(ref: str, what: str) -> str:
    """Call a bank under the step's idempotency key; in a plain step there may be two calls."""
    BankCall.objects.create(ref=ref, what=what, key=current_step().idempotency_key)
    return what


@step
def pay(ref: str, what: str) -> str:
    return call_bank(ref, what)


@step(atomic=True)
def book(ref: str, what: str) -> str:
    return write(ref, what)


@step(retry=AT_ONCE)
def stutter(ref: str, what: str) -> int:
    """Succeeds at its third try."""
    if current_step().attempt < 3:
        raise ConnectionError("not yet")
    call_bank(ref, what)
    return current_step().attempt


@step(atomic=True)
def book_and_enqueue(ref: str, what: str) -> str:
    enqueue(here(leaf), ref, f"{what}-child")
    return write(ref, what)


@task(path="killed.leaf")
def leaf(ref: str, what: str) -> str:
    return book(ref, what)


@task(path="killed.six_steps")
def six_steps(ref: str) -> list[object]:
    """Steps of all kinds, and jobs enqueued between and inside them."""
    seen: list[object] = [pay(ref, "pay"), book(ref, "book"), stutter(ref, "stutter")]
    enqueue(here(leaf), ref, "between")
    seen += [book_and_enqueue(ref, "and-enqueue")]
    seen += [pay(ref, "pay-again"), book(ref, "book-again")]
    return seen


@step(at_most_once=True)
def send_letter(ref: str) -> str:
    return call_bank(ref, "letter")


@task(path="killed.sends_a_letter")
def sends_a_letter(ref: str) -> str:
    """Says whether the letter is surely sent."""
    try:
        sent = send_letter(ref)
    except StepInterrupted:
        sent = "nobody knows"
    book(ref, "after the letter")
    return sent


@step
def decline(ref: str) -> None:
    call_bank(ref, "declined")
    raise ValueError("declined")


@step
def refuse_first_attempt(ref: str) -> str:
    job = current_job()
    assert job is not None
    if job.attempt == 1:
        raise ConnectionError("not at the first attempt")
    return call_bank(ref, "second attempt")


@task(path="killed.tries_twice", retry=RetryPolicy(max_attempts=2, initial_delay=timedelta(0)))
def tries_twice(ref: str) -> str:
    """One failure that it goes on from, and one that needs another attempt."""
    book(ref, "first attempt")
    try:
        decline(ref)
    except StepFailedError as error:
        book(ref, f"despite {error.error_type}")
    return refuse_first_attempt(ref)


@task(path="killed.fails")
def fails(ref: str) -> None:
    book(ref, "before failing")
    decline(ref)


@task(path="killed.in_one_commit", atomic=True)
def in_one_commit(ref: str) -> str:
    enqueue(here(leaf), ref, "enqueued in one commit")
    return write(ref, "in one commit")


@step
async def pay_async(ref: str, what: str) -> str:
    key = current_step().idempotency_key
    await BankCall.objects.acreate(ref=ref, what=what, key=key)
    return what


@task(path="killed.asynchronous")
async def asynchronous(ref: str) -> list[str]:
    seen = [await pay_async(ref, "pay"), await book.acall(ref, "book")]
    await aenqueue(here(leaf), ref, "child of async")
    return [*seen, await pay_async(ref, "pay-again")]
