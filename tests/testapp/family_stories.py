"""Tasks that start others, wait for them, and end before, with or after them."""

from datetime import timedelta

from django_durable import enqueue, map_task, run_step, sleep, task
from tests.scenarios.harness import note, pass_gate
from tests.testapp.durable_stories import gated, quick
from tests.testapp.models import Charge

HOUR = timedelta(hours=1)


@task(path="families.sleeper")
def sleeper(ref: str) -> str:
    note(f"asleep-{ref}")
    sleep(HOUR)
    note(f"awake-{ref}")
    return ref


@task(path="families.all_kinds")
def all_kinds(ref: str) -> None:
    """Children that are pending, run, wait and have ended, and one that comes late."""
    quick.start(f"{ref}-done").result()
    gated.start(f"{ref}-running")
    sleeper.start(f"{ref}-waiting")
    enqueue(quick.using(delay=HOUR), f"{ref}-pending")
    middle.start(ref)
    run_step("late", enqueue_late, ref)
    sleep(HOUR)


def enqueue_late(ref: str) -> None:
    pass_gate(f"begun-{ref}")
    enqueue(sleeper, f"{ref}-late")


@task(path="families.middle")
def middle(ref: str) -> None:
    """A child with a child."""
    sleeper.start(f"{ref}-grandchild").result()


@task(path="families.maps")
def maps(ref: str, count: int) -> list[str]:
    return list(map_task(quick, [f"{ref}{n}" for n in range(count)], max_concurrency=3))


@task(path="families.tolerant_maps")
def tolerant_maps(ref: str, count: int) -> int:
    items = [f"{ref}{n}" for n in range(count)]
    return len(map_task(quick, items, max_concurrency=3, max_failures=count))


@task(path="families.waits_for_all")
def waits_for_all(ref: str) -> None:
    """One child that sleeps, one that never gets to begin."""
    one = sleeper.start(ref)
    other = quick.using(queue_name="nobody").start(f"{ref}-unserved")
    one.result()
    other.result()


@task(path="families.leaves")
def leaves(ref: str) -> None:
    """Ends before its children: one shall end with it, the other runs on."""
    sleeper.using(on_parent_end="cancel").start(f"{ref}-bound")
    sleeper.start(f"{ref}-free")


@task(path="families.fails_once")
def fails_once(ref: str) -> str:
    """Waits for a child that fails until there is bread."""
    return str(first_fails.start(ref).result())


@task(path="families.first_fails")
def first_fails(ref: str) -> str:
    note(f"try-{ref}")
    return run_step("look", look_for_bread, ref)


def look_for_bread(ref: str) -> str:
    if not Charge.objects.filter(order_ref=ref).exists():
        raise LookupError("no bread")
    return "bread"
