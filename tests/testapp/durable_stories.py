"""Tasks of the stories in tests/scenarios: they stop at gates, where a test kills their worker."""

import asyncio
import os
import signal
from datetime import timedelta

from django.db import transaction
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language

from django_durable import (
    Limit,
    RetryPolicy,
    current_job,
    current_step,
    current_user,
    enqueue,
    gather,
    set_progress,
    set_value,
    step,
    task,
)
from django_durable.exceptions import StepTimeoutError
from tests.scenarios.harness import note, pass_gate
from tests.testapp import approvals as approvals
from tests.testapp import limited_stories as limited_stories
from tests.testapp.models import Account, Charge


def charged(ref: str) -> int:
    return Charge.objects.create(order_ref=ref).pk


@step
def first(ref: str) -> int:
    return charged(f"{ref}:first")


@step
def second(ref: str) -> int:
    return charged(f"{ref}:second")


@task(path="stories.two_steps")
def two_steps(ref: str) -> list[int]:
    """Stops between its two steps."""
    one = first(ref)
    pass_gate(f"between-{ref}")
    return [one, second(ref)]


@task(path="stories.quick")
def quick(ref: str) -> str:
    note(f"quick-{ref}")
    return ref


@task(path="stories.nothing")
def nothing() -> None:
    pass


@task(path="stories.one_at_a_time", limit=Limit("one-at-a-time", concurrency=1))
def one_at_a_time() -> None:
    pass


@task(path="stories.charge_once")
def charge_once(ref: str) -> None:
    charged(ref)


@task(path="stories.quick_async")
async def quick_async(ref: str) -> str:
    await charge_async(ref)
    return ref


@step
async def charge_async(ref: str) -> int:
    return (await Charge.objects.acreate(order_ref=ref)).pk


@step
def effect_then_gate(ref: str) -> str:
    """Its effect is outside any transaction of the engine's, then it stops."""
    key = current_step().idempotency_key
    charged(f"{ref}:{key}")
    pass_gate(f"inside-{ref}")
    return key


@task(path="stories.inside_plain")
def inside_plain(ref: str) -> str:
    return effect_then_gate(ref)


@step(at_most_once=True)
def letter(ref: str) -> str:
    charged(f"{ref}:letter")
    pass_gate(f"inside-{ref}")
    return "sent"


@task(path="stories.inside_at_most_once")
def inside_at_most_once(ref: str) -> str:
    return letter(ref)


@step(atomic=True)
def reserve(ref: str) -> int:
    pass_gate(f"begun-{ref}")
    pk = charged(f"{ref}:reserved")
    pass_gate(f"written-{ref}")
    return pk


@task(path="stories.inside_atomic")
def inside_atomic(ref: str) -> int:
    pk = reserve(ref)
    pass_gate(f"after-{ref}")
    return pk


@task(path="stories.atomic_task", atomic=True)
def atomic_task(ref: str) -> int:
    pk = charged(f"{ref}:atomic")
    pass_gate(f"written-{ref}")
    return pk


@step(atomic=True)
def debit(name: str) -> int:
    account = Account.objects.select_for_update().get(name=name)
    account.balance -= 1
    account.save()
    pass_gate(f"debited-{name}")
    return account.balance


@task(path="stories.debit_account")
def debit_account(name: str) -> int:
    return debit(name)


@task(path="stories.parent")
def parent(ref: str) -> str:
    """Enqueues between its steps, then stops."""
    first(ref)
    child = enqueue(quick, f"{ref}-child")
    pass_gate(f"enqueued-{ref}")
    second(ref)
    return str(child.pk)


@task(path="stories.killer")
def killer(ref: str) -> None:
    note(f"killer-{ref}")
    os.kill(os.getpid(), signal.SIGKILL)


@task(path="stories.gated")
def gated(ref: str) -> str:
    """A long body without steps."""
    pass_gate(f"body-{ref}")
    return ref


@step(timeout=timedelta(seconds=0.5))
def slow(ref: str) -> str:
    pass_gate(f"slow-{ref}")
    return "late"


@task(path="stories.times_out")
def times_out(ref: str) -> str:
    try:
        return slow(ref)
    except StepTimeoutError as error:
        return f"given up: {error.step}"


@step(retry=RetryPolicy(max_attempts=3, initial_delay=timedelta(seconds=0.2), jitter=False))
def flaky(ref: str) -> int:
    note(f"try-{ref}")
    if current_step().attempt < 3:
        raise ConnectionError("not yet")
    return current_step().attempt


@task(path="stories.retries")
def retries(ref: str) -> int:
    return flaky(ref)


@task(path="stories.steps_in_a_row")
def steps_in_a_row(ref: str, count: int) -> int:
    for _ in range(count):
        row_step(ref)
    return count


@step(atomic=True)
def row_step(ref: str) -> int:
    return charged(ref)


@task(path="stories.tells_progress")
def tells_progress(ref: str) -> int:
    """Stops after its second step, having told of two at once: the bar lags behind."""
    for number in (1, 2, 3, 4):
        row_step(f"{ref}:{number}")
        set_progress(number, 4, f"row {number}")
        set_value("row", number)
        if number == 2:
            pass_gate(f"told-{ref}")
    return 4


@task(path="stories.waits_forever")
async def waits_forever(ref: str) -> None:
    note(f"waiting-{ref}")
    await asyncio.Event().wait()


@task(path="stories.reports_attempt")
def reports_attempt(ref: str) -> int:
    job = current_job()
    assert job is not None
    with transaction.atomic():
        charged(f"{ref}:{job.attempt}")
    return job.attempt


@task(path="stories.tells_context")
def tells_context() -> list[str | None]:
    """Stops with what is in force where it runs."""
    user = current_user()
    pass_gate("context")
    return [get_language(), get_current_timezone_name(), user and user.get_username()]


@step(atomic=True)
def charge_together(ref: str) -> int:
    return charged(ref)


@task(path="stories.branches_query")
def branches_query(ref: str) -> list[int]:
    """Its own code has queried when its branches, in threads of their own, do."""
    Charge.objects.count()
    pass_gate("queried")
    return gather(*[lambda n=n: charge_together(f"{ref}:{n}") for n in range(3)])


_hoard: list[bytes] = []


@task(path="stories.hoards")
def hoards(ref: str, megabytes: int) -> str:
    """Keeps memory for ever."""
    _hoard.append(os.urandom(1_000_000) * megabytes)
    note(f"hoard-{ref}")
    return ref
