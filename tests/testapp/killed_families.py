"""Tasks with children and branches, whose worker is killed at every durable point."""

import time
from datetime import timedelta
from functools import partial

from django_durable import (
    agather,
    current_job,
    first,
    gather,
    map_task,
    run_step,
    sleep,
    step,
    task,
    wait_for_event,
)
from django_durable.exceptions import ChildFailedError, MapFailedError, StepFailedError
from tests.testapp.killed_tasks import AT_ONCE, book, call_bank, decline, here, pay, pay_async
from tests.testapp.killed_waits import MOMENT

# --- children


@task(path="killed.child")
def child(ref: str, what: str) -> str:
    pay(ref, f"{what} paid")
    return book(ref, f"{what} booked")


@task(path="killed.failing_child")
def failing_child(ref: str) -> None:
    decline(ref)


@task(path="killed.starts_children")
def starts_children(ref: str) -> list[str]:
    """Awaits them in another order, one of them twice, and goes on from the one that fails."""
    one, bad = here(child).start(ref, "one"), here(failing_child).start(ref)
    pay(ref, "between")
    two = here(child).start(ref, "two")
    seen = [two.result(), one.result(), two.result()]
    try:
        bad.result()
    except ChildFailedError as error:
        seen.append(book(ref, f"despite {error.error_type}"))
    return seen


@task(path="killed.generations")
def generations(ref: str, depth: int) -> list[object]:
    """Each waits for the one below, all in one queue."""
    if depth == 0:
        return [book(ref, "the youngest")]
    below = here(generations).start(ref, depth - 1).result()
    return [*below, book(ref, f"generation {depth}")]


@task(path="killed.item")
def item(ref: str, number: int) -> int:
    """Fails for every third number, after a while."""
    sleep(MOMENT / 3)
    book(ref, f"item {number}")
    if number % 3 == 2:
        raise ValueError(f"{number} is bad")
    return 10 * number


@task(path="killed.maps")
def maps(
    ref: str,
    count: int,
    max_concurrency: int | None = None,
    min_successes: int | None = None,
    max_failures: int | None = None,
) -> list[object]:
    called = here(item)
    result = map_task(
        called,
        [called.bind(ref, number) for number in range(count)],
        max_concurrency=max_concurrency,
        min_successes=min_successes,
        max_failures=max_failures,
    )
    failed = [failure.index for failure in result.failures]
    book(ref, "mapped")
    return [result.values, failed, result.unfinished]


@task(path="killed.maps_in_vain")
def maps_in_vain(ref: str) -> str:
    """One failure is too many."""
    called = here(failing_item)
    try:
        map_task(called, [called.bind(ref, number) for number in range(3)])
    except MapFailedError as error:
        return book(ref, f"item {error.index} of {error.total}: {error.error_type}")
    return "all went well"


@task(path="killed.failing_item")
def failing_item(ref: str, number: int) -> None:
    if number == 0:
        decline(ref)
    wait_for_event("never")


# --- branches


@step(retry=AT_ONCE)
def stutter_once(ref: str, what: str) -> str:
    job = current_job()
    assert job is not None
    if job.lease_token == 1:
        raise ConnectionError("not in the first run")
    return call_bank(ref, what)


@step
def pay_in_turn(ref: str, index: int, of: int) -> str:
    """Ends as one of several branches, in one order in odd runs, in the other in even ones."""
    job = current_job()
    assert job is not None
    place = index if job.lease_token % 2 else of - index
    time.sleep(0.04 * place)
    return call_bank(ref, f"branch {index}")


def branch_in_turn(ref: str, index: int, of: int) -> list[str]:
    paid = pay_in_turn(ref, index, of)
    sleep(MOMENT / 3)
    return [paid, run_step("again", call_bank, ref, f"branch {index} again")]


@task(path="killed.gathers")
def gathers(ref: str) -> list[list[str]]:
    return gather(*(partial(branch_in_turn, ref, index, 3) for index in range(3)))


@task(path="killed.gathers_all_kinds")
def gathers_all_kinds(ref: str) -> list[object]:
    """Branches that wait, retry, fail, book, and have a child; and more branches in one of them."""
    started = here(child).start(ref, "child")
    return [
        type(one).__name__ if isinstance(one, Exception) else one
        for one in gather(
            started,
            lambda: stutter_once(ref, "stutter"),
            lambda: decline(ref),
            lambda: [book(ref, "book"), waited(ref)],
            lambda: gather(lambda: pay(ref, "inner"), lambda: inner_child(ref)),
            return_exceptions=True,
        )
    ]


def waited(ref: str) -> str:
    event = wait_for_event("go", timeout=timedelta(minutes=10))
    return "timed out" if event is None else f"got {event.payload}"


def inner_child(ref: str) -> str:
    return here(child).start(ref, "inner child").result()


@task(path="killed.gathers_in_vain")
def gathers_in_vain(ref: str) -> str:
    """The error of the first branch that failed, when all have ended."""
    try:
        gather(lambda: book(ref, "one"), lambda: decline(ref), lambda: waited(ref))
    except StepFailedError as error:
        return book(ref, f"despite {error.error_type}")
    return "all went well"


@task(path="killed.gathers_coroutines")
async def gathers_coroutines(ref: str) -> list[list[str]]:
    async def branch(index: int) -> list[str]:
        paid = await pay_async(ref, f"branch {index}")
        return [paid, await book.acall(ref, f"branch {index} booked")]

    return await agather(branch(0), branch(1))


@task(path="killed.takes_the_first")
def takes_the_first(ref: str) -> list[object]:
    """An event or the end of patience; what the loser would have done next is not done."""
    winner = first(lambda: then(waited(ref), ref), lambda: then(out_of_patience(), ref))
    pay(ref, "at last")
    return [winner.index, winner.value]


def out_of_patience() -> str:
    sleep(timedelta(minutes=5))
    return "no patience"


def then(what: str, ref: str) -> str:
    return book(ref, what)


@task(path="killed.is_impatient")
def is_impatient(ref: str) -> list[object]:
    winner = first(
        lambda: then(waited(ref), ref),
        lambda: then(f"slept {sleep(MOMENT)}", ref),
        lambda: then(f"slept {sleep(timedelta(hours=1))}", ref),
    )
    return [winner.index, winner.value, pay(ref, "at last")]
