"""Steps that can be undone, a memory of what was done and undone, and jobs that end badly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django_durable import Task, current_step, sleep, step, task
from django_durable.models import Job
from tests.builders import HOUR, checkpoints_of, policy, redeployed
from tests.testapp.models import Account, Charge

told: list[str] = []
"""What was done and undone, in order."""
keys: list[tuple[str, str]] = []
"""By which step, under which idempotency key."""
refusals: dict[str, list[Exception]] = {}
"""What the next runs of a compensation raise, by its name, first to last."""


def forget() -> None:
    """At the end of each test."""
    for memory in (told, keys, refusals):
        memory.clear()


def tell(what: str) -> str:
    keys.append((current_step().name, current_step().idempotency_key))
    told.append(what)
    return what


def undo(what: str) -> None:
    name = current_step().name
    if refusals.get(name):
        keys.append((name, current_step().idempotency_key))
        raise refusals[name].pop(0)
    tell(f"undo {what}")


def keys_of(*names: str) -> list[str]:
    return [key for name, key in keys if name in names]


@dataclass
class Parcel:
    weight: int


def refund(ref: str, result: str) -> None:
    undo(f"{ref}: {result}")


@step(compensate=refund)
def charge(ref: str) -> str:
    return tell(f"charge {ref}")


@step(retry=policy(2), raises=(ConnectionError,))
def give_back(ref: str, amount: int = 1) -> None:
    undo(f"reserve {ref} {amount} try {current_step().attempt}")


@step(compensate=give_back)
def reserve(ref: str, amount: int = 1) -> str:
    return tell(f"reserve {ref}")


@step(atomic=True)
def cross_out(ref: str) -> None:
    undo(f"book {ref}")
    Charge.objects.filter(order_ref=ref).delete()


@step(atomic=True, compensate=cross_out)
def book(ref: str) -> int:
    tell(f"book {ref}")
    return Charge.objects.create(order_ref=ref).pk


async def hang_up(ref: str) -> None:
    undo(f"call {ref}")


@step(compensate=hang_up)
async def call(ref: str) -> str:
    return tell(f"call {ref}")


@step(at_most_once=True)
def apologise(ref: str) -> None:
    undo(f"letter {ref}")


@step(at_most_once=True, compensate=apologise)
def letter(ref: str) -> str:
    return tell(f"letter {ref}")


def unpack(*args: Any, **kwargs: Any) -> None:
    undo(f"pack {args} {kwargs}")


def unpack_parcel(parcel: Any, *, account: Any = None, result: Any) -> None:
    undo(f"pack {parcel} {account} {result}")


@step(compensate=unpack_parcel, key=lambda parcel, account=None: parcel.weight)
def pack(parcel: Parcel, *, account: Account | None = None) -> Parcel:
    tell(f"pack {parcel}")
    return Parcel(parcel.weight + 1)


@step
def no_way_back(ref: str) -> None:
    tell(f"no way back {ref}")


@step
def break_down(ref: str = "") -> None:
    raise ValueError(f"broken {ref}")


@task
def trip(ref: str) -> None:
    charge(ref)
    reserve(ref)
    book(ref)
    break_down(ref)


@task
def wait_then_break(ref: str) -> None:
    charge(ref)
    sleep(HOUR)
    break_down(ref)


@task
def pays(ref: str) -> str:
    return charge(ref)


UNDONE = ["undo book a", "undo reserve a 1 try 1", "undo a: charge a"]


def undone() -> list[str]:
    return [what for what in told if what.startswith("undo")]


def failing(*steps: Callable[[], Any], **options: Any) -> Task[..., Any]:
    """A task that takes some steps and fails."""

    @task(path="failing", **options)
    def fail() -> None:
        for one in steps:
            one()
        raise LookupError("the end")

    return fail


def mended(*steps: Callable[[], Any], **options: Any) -> None:
    """The same task after a deploy: it takes these steps and returns."""

    def take_steps() -> None:
        for one in steps:
            one()

    redeployed("failing", take_steps, **options)


def states_of(job: Job) -> dict[str, str]:
    return {identity: row.state for identity, row in checkpoints_of(job).items()}
