"""Tasks whose steps are undone, while their worker is killed at every durable point."""

import os
import signal
from datetime import timedelta

from django_durable import RetryPolicy, current_job, current_step, gather, sleep, step, task
from tests.scenarios.harness import note, pass_gate
from tests.testapp.models import BankCall, Charge

SOON = timedelta(seconds=0.05)
A_LONG_TIME = timedelta(days=1)


def attempt() -> int:
    job = current_job()
    assert job is not None
    return job.attempt


def call_bank(ref: str, what: str) -> str:
    BankCall.objects.create(ref=ref, what=what, key=current_step().idempotency_key)
    return what


def refund(ref: str, what: str, result: str) -> None:
    call_bank(ref, f"{what} refunded: {result}, at the end of attempt {attempt()}")


@step(compensate=refund)
def charge(ref: str, what: str) -> str:
    return call_bank(ref, f"{what} charged in attempt {attempt()}")


@step(atomic=True)
def take_out(ref: str, what: str) -> None:
    Charge.objects.create(order_ref=f"{ref}:{what} taken out")


@step(atomic=True, compensate=take_out)
def put_in(ref: str, what: str) -> None:
    Charge.objects.create(order_ref=f"{ref}:{what} put in")


@step(retry=RetryPolicy(max_attempts=3, initial_delay=SOON, jitter=False))
def dismiss(ref: str, what: str) -> None:
    """Succeeds at its third try."""
    if current_step().attempt < 3:
        raise ConnectionError("not yet")
    call_bank(ref, f"{what} dismissed")


@step(compensate=dismiss)
def hire(ref: str, what: str) -> str:
    return call_bank(ref, f"{what} hired")


async def call_off(ref: str) -> None:
    key = current_step().idempotency_key
    await BankCall.objects.acreate(ref=ref, what="party called off", key=key)


@step(compensate=call_off)
def call_party(ref: str) -> str:
    return call_bank(ref, "party called")


def give_up(ref: str) -> None:
    raise ValueError("nothing helps")


@step(compensate=give_up)
def promise(ref: str) -> str:
    return call_bank(ref, "promise given")


UNDOING = [
    "driver dismissed",
    "deposit refunded: deposit charged in attempt 1, at the end of attempt 1",
    "party called off",
    "price refunded: price charged in attempt 1, at the end of attempt 1",
]
"""What the bank is called for when ``fails_late`` is undone, in order."""


@task(path="compensated.fails_late")
def fails_late(ref: str) -> None:
    """Steps of all kinds, two of them in branches, all undone but for one that cannot be."""
    charge(ref, "price")
    promise(ref)
    call_party(ref)
    gather(lambda: put_in(ref, "cake"), lambda: put_in(ref, "wine"))
    charge(ref, "deposit")
    hire(ref, "driver")
    raise LookupError("no road")


@task(path="compensated.waits_long")
def waits_long(ref: str) -> None:
    charge(ref, "price")
    put_in(ref, "cake")
    sleep(A_LONG_TIME)


@task(path="compensated.fails_once")
def fails_once(ref: str) -> str:
    """Fails in its first attempt, which has no second one but by hand."""
    paid = charge(ref, "price")
    if attempt() == 1:
        raise LookupError("not at the first attempt")
    return paid


def refund_at_the_gate(ref: str) -> None:
    note(f"refunding-{ref}")
    pass_gate(f"refund-{ref}")
    call_bank(ref, "refunded")


@step(compensate=refund_at_the_gate)
def charge_before_the_gate(ref: str) -> str:
    return call_bank(ref, "charged")


@task(path="compensated.fails_at_the_gate")
def fails_at_the_gate(ref: str) -> None:
    charge(ref, "first")
    charge_before_the_gate(ref)
    note(f"body-{ref}")
    raise LookupError("the end")


def kill_the_worker(ref: str) -> None:
    note(f"killing-{ref}")
    os.kill(os.getpid(), signal.SIGKILL)


@step(compensate=kill_the_worker)
def arm(ref: str) -> None: ...


@task(path="compensated.undone_by_a_killer")
def undone_by_a_killer(ref: str) -> None:
    charge(ref, "first")
    arm(ref)
    raise LookupError("the end")
