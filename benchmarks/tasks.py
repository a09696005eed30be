"""The measured tasks. They read the clock themselves: all processes of a machine share it."""

import time
from datetime import datetime

from django.apps import apps

from benchmarks.lookout import check_in
from benchmarks.peers import driving
from django_durable import Limit, map_task, sleep_until, step, task


@step
def note(number: int) -> int:
    return number


@step(atomic=True)
def note_atomically(number: int) -> None:
    pass


@task
def take_steps(count: int) -> list[float]:
    """When the first step began and the last one was saved."""
    begun = time.monotonic()
    for number in range(count):
        note(number)
    return [begun, time.monotonic()]


@task
def take_atomic_steps(count: int) -> list[float]:
    """When the first step began and the last one was committed."""
    begun = time.monotonic()
    for number in range(count):
        note_atomically(number)
    return [begun, time.monotonic()]


@task
def do_nothing() -> None:
    """The worker's first one writes that it begins."""
    driving.note_first()


@task
def tell_time() -> float:
    """When the body began."""
    return time.monotonic()


@task
def hold(port: int) -> None:
    """Say that the body runs, and go on when told to."""
    check_in(port)


@step
def call_out(port: int) -> None:
    check_in(port)


@task
def read_then_call_out(port: int) -> str:
    """Read a row through the ORM, then block in a step, as a slow HTTP service would make it."""
    customer = apps.get_model("benchmarks", "Customer").objects.get()
    call_out(port)
    return str(customer.name)


@task
def write_number(number: int) -> None:
    """Write down which one runs."""
    driving.note(number)


@task
def nap(until: datetime) -> None:
    sleep_until(until)


@task
def double(number: int) -> int:
    return 2 * number


@task
def spread_out(count: int) -> int:
    """One child for each number."""
    return len(map_task(double, range(count)).values)


@task(limit=Limit("hot", concurrency=1, key=lambda key: key))
def hot_job(key: str) -> None:
    """It holds its key for a while, and costs no time of the processor."""
    time.sleep(0.02)
