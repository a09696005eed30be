"""Tasks that wait, and whose worker is killed at every durable point."""

from datetime import timedelta

from django_durable import (
    emit_event,
    run_step,
    send_event,
    sleep,
    step,
    task,
    wait_for_event,
    wait_until,
)
from tests.testapp.killed_tasks import book, call_bank, pay, write
from tests.testapp.models import Charge

MOMENT = timedelta(seconds=0.15)


@task(path="killed.sleeps")
def sleeps(ref: str) -> str:
    pay(ref, "before")
    sleep(2 * MOMENT)
    return book(ref, "after")


@task(path="killed.sleeps_for_an_hour")
def sleeps_for_an_hour(ref: str) -> str:
    sleep(timedelta(hours=1))
    return book(ref, "after")


@task(path="killed.steps_named_like_waits")
def steps_named_like_waits(ref: str) -> list[str]:
    """Steps whose names are the identities of the waits before and after them."""
    seen = [run_step("event:go", call_bank, ref, "go")]
    sleep(MOMENT)
    seen += [run_step("sleep", call_bank, ref, "sleep")]
    wait_for_event("go")
    seen += [run_step("event:go", call_bank, ref, "gone")]
    sleep(MOMENT)
    return seen


@task(path="killed.waits_for_key")
def waits_for_key(ref: str) -> str:
    event = wait_for_event(key=f"{ref}-rates")
    assert event is not None
    return book(ref, f"rates {event.payload}")


@task(path="killed.emits")
def emits(ref: str) -> None:
    """Between its steps."""
    pay(ref, "before emitting")
    emit_event(f"{ref}-rates", "fixed")
    pay(ref, "after emitting")


@step(atomic=True)
def book_and_emit(ref: str) -> str:
    emit_event(f"{ref}-rates", "fixed")
    return write(ref, "emitting")


@task(path="killed.emits_in_an_atomic_step")
def emits_in_an_atomic_step(ref: str) -> None:
    book_and_emit(ref)


@task(path="killed.emits_in_one_commit", atomic=True)
def emits_in_one_commit(ref: str) -> None:
    emit_event(f"{ref}-rates", "fixed")
    write(ref, "emitting")


@task(path="killed.loses_patience")
def loses_patience(ref: str) -> list[str]:
    """A loop of waits that time out, then one that is met by nothing at all, said aloud."""
    seen = []
    for _ in range(3):
        event = wait_for_event("late", timeout=MOMENT)
        seen.append("timed out" if event is None else f"got {event.payload}")
        book(ref, f"{len(seen)} {seen[-1]}")
    for name in ("silence", "late"):
        event = wait_for_event(name)
        seen.append("timed out" if event is None else f"got {event.payload}")
    return seen


@task(path="killed.takes_messages")
def takes_messages(ref: str, count: int) -> list[object]:
    seen = []
    for _ in range(count):
        event = wait_for_event("order")
        assert event is not None
        book(ref, f"order {event.payload}")
        seen.append(event.payload)
    return seen


@step
def send_from_step(ref: str, target: str, payload: int) -> str:
    send_event(target, "order", payload)
    return call_bank(ref, f"told of {payload}")


@step(atomic=True)
def send_from_atomic_step(ref: str, target: str, payload: int) -> str:
    send_event(target, "order", payload)
    return write(ref, f"told of {payload}")


@task(path="killed.sends_messages")
def sends_messages(ref: str, target: str) -> str:
    """From the task itself, a plain step, an atomic one, and the task again."""
    send_event(target, "order", 1)
    send_from_step(ref, target, 2)
    send_from_atomic_step(ref, target, 3)
    send_event(target, "order", 4)
    return pay(ref, "all sent")


@task(path="killed.asks_until")
def asks_until(ref: str) -> int | None:
    def count_paid() -> int:
        return Charge.objects.filter(order_ref=f"{ref}:paid").count()

    found = wait_until(count_paid, every=MOMENT)
    book(ref, "seen")
    return found


@task(path="killed.never_sees")
def never_sees(ref: str) -> str:
    found = wait_until(lambda: False, every=MOMENT, timeout=3 * MOMENT, name="never")
    return book(ref, f"found {found}")
