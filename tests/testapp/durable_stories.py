"""Tasks of the stories in tests/scenarios: they stop at gates, where the test kills their worker."""

from django_durable import step, task
from tests.scenarios.harness import note, pass_gate
from tests.testapp.models import Charge


@step
def first(ref: str) -> int:
    return Charge.objects.create(order_ref=f"{ref}:first").pk


@step
def second(ref: str) -> int:
    return Charge.objects.create(order_ref=f"{ref}:second").pk


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
