"""Read by mypy, never run: lines that end in ``# refused`` must be errors, all others none."""

from datetime import timedelta
from typing import assert_type

from django_durable import (
    ReceivedEvent,
    aenqueue,
    amap_task,
    cancel_job,
    enqueue,
    enqueue_many,
    map_task,
    once,
    retry_job,
    run_step,
    step,
    task,
    wait_for_event,
    wait_until,
)
from django_durable.composing import MapResult
from django_durable.models import Job
from django_durable.tasks import TaskContext


@task
def bare(name: str, *, loudly: bool = False) -> int:
    return 1


@task(queue_name="mail", priority=5)
def called(name: str, *, loudly: bool = False) -> int:
    return 1


@task
async def bare_async(name: str, *, loudly: bool = False) -> int:
    return 1


@task(atomic=False)
async def called_async(name: str, *, loudly: bool = False) -> int:
    return 1


@task(takes_context=True)
def with_context(context: TaskContext, name: str, *, loudly: bool = False) -> int:
    return context.attempt


@task(takes_context=True, queue_name="mail")
async def with_context_async(context: TaskContext, name: str, *, loudly: bool = False) -> int:
    return context.attempt


@step
def plain(n: int) -> str:
    return ""


@step(atomic=True, raises=(ValueError,))
def atomic(n: int) -> str:
    return ""


@step
async def plain_async(n: int) -> str:
    return ""


@step(timeout=timedelta(seconds=5))
async def timed_async(n: int) -> str:
    return ""


def right_calls() -> None:
    for job in (
        enqueue(bare, "a", loudly=True),
        enqueue(called, "a"),
        enqueue(bare_async, name="a"),
        enqueue(called_async, "a"),
        enqueue(with_context, "a", loudly=True),
        enqueue(with_context_async, "a"),
        enqueue(called.using(priority=5, delay=timedelta(hours=1)), "a"),
        bare.enqueue("a"),
        with_context.using(queue_name="b").enqueue("a"),
    ):
        assert_type(job, Job)
    enqueue_many([bare.bind("a"), called_async.bind("b"), with_context.bind("c", loudly=True)])
    cancel_job(retry_job("id", allow_new_steps=["a"]))


def right_results() -> None:
    assert_type(bare.call("a"), int)
    assert_type(called.call("a"), int)
    assert_type(bare_async.call("a"), int)
    assert_type(called_async.call("a"), int)
    assert_type(plain(1), str)
    assert_type(atomic(n=1), str)
    assert_type(run_step("length", len, "abc"), int)
    assert_type(once("key", len, "abc", scope="lengths"), int)


async def right_awaits() -> None:
    assert_type(await plain_async(1), str)
    assert_type(await timed_async(1), str)
    assert_type(await bare.acall("a"), int)
    assert_type(await bare_async.acall("a"), int)
    assert_type(await run_step("inline", plain_async.__call__, 1), str)
    await plain.acall(1)
    await aenqueue(called_async, "a", loudly=True)


def wrong_calls() -> None:
    enqueue(bare)  # refused
    enqueue(bare, 5)  # refused
    enqueue(bare, "a", quietly=True)  # refused
    enqueue(called, "a", 5)  # refused
    enqueue(bare_async, b"a")  # refused
    enqueue(called_async, 5)  # refused
    enqueue(with_context, 5)  # refused
    enqueue(with_context_async, "a", "b")  # refused
    enqueue(called.using(priority=5), 5)  # refused
    enqueue(right_calls)  # refused
    bare.enqueue()  # refused
    called.enqueue(5)  # refused
    bare_async.enqueue("a", loudly="very")  # refused
    with_context.enqueue()  # refused
    called.bind(5)  # refused
    with_context.bind("a", 5)  # refused
    bare.call()  # refused
    enqueue_many([bare])  # refused


def wrong_steps() -> None:
    plain("a")  # refused
    atomic()  # refused
    run_step("length", len, 5)  # refused
    run_step(len, "abc")  # refused


async def wrong_awaits() -> None:
    await plain_async("a")  # refused
    await timed_async()  # refused
    await plain.acall("a")  # refused
    await aenqueue(bare, 5)  # refused


task(queue="mail")  # type: ignore[call-overload]  # no such option
step(atomic="yes")  # type: ignore[call-overload]  # not a bool


@task
def single(n: int) -> str:
    return ""


@task
def double(n: int, name: str) -> str:
    return ""


async def composing() -> None:
    assert_type(single.start(1).result(), str)
    single.start("a")  # refused
    assert_type(map_task(single, [1, 2]), MapResult[str])
    assert_type(await amap_task(single, [1, 2]), MapResult[str])
    assert_type(map_task(double, [double.bind(1, "a")]), MapResult[str])
    assert_type(await amap_task(double, [double.bind(1, "a")], max_failures=1), MapResult[str])
    map_task(single, ["a"])  # refused
    map_task(double, [1])  # refused
    map_task(single, [1], max_failures="a")  # refused
    map_task(double, [double.bind(1)])  # refused


def waiting() -> None:
    assert_type(wait_for_event("paid"), ReceivedEvent | None)
    assert_type(wait_until(lambda: 5, every=timedelta(hours=1)), int | None)
    wait_until(lambda: 5, every=3)  # refused
