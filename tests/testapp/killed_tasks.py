"""Tasks whose worker is killed at every durable point. What they return never differs."""

from datetime import timedelta
from typing import Any

from django_durable import RetryPolicy, Task, current_job, current_step, enqueue, step, task
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
