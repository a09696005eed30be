"""Tasks whose jobs end, wait and fail in every way that the admin has to show."""

from types import SimpleNamespace

from django_durable import enqueue, step, task
from tests.builders import policy

CODE = SimpleNamespace(has_new_step=False, fails=True)
"""Stands for a deploy between two runs, and for a mended world."""


class DeclinedError(Exception):
    pass


@step
def load(order_ref: str) -> dict[str, object]:
    return {"ref": order_ref, "lines": [1, 2, 3]}


@step
def charge(order_ref: str) -> int:
    if CODE.fails:
        raise DeclinedError(f"no <money> for {order_ref}")
    return 42


@step(at_most_once=True)
def post_letter(order_ref: str) -> str:
    return f"posted {order_ref}"


@step
def check_address(order_ref: str) -> bool:
    return True


@step(retry=policy(3))
def call_bank(order_ref: str) -> None:
    raise TimeoutError("the bank is closed")


@task(path="admin.succeed", queue_name="orders", priority=5)
def succeed(order_ref: str) -> dict[str, object]:
    return load(order_ref)


@task(path="admin.fail")
def fail(order_ref: str) -> int:
    load(order_ref)
    return charge(order_ref)


@task(path="admin.try_again", retry=policy(3))
def try_again(order_ref: str) -> None:
    raise DeclinedError(order_ref)


@task(path="admin.retry_step")
def retry_step(order_ref: str) -> None:
    call_bank(order_ref)


@task(path="admin.post")
def post(order_ref: str) -> None:
    post_letter(order_ref)


@task(path="admin.change")
def change(order_ref: str) -> None:
    load(order_ref)
    if CODE.has_new_step:
        check_address(order_ref)
    post_letter(order_ref)


@task(path="admin.start_children")
def start_children(count: int) -> None:
    for number in range(count):
        enqueue(succeed, f"child-{number}")


@task(path="admin.old", aliases=("admin.older",))
def renamed(order_ref: str) -> None:
    load(order_ref)
