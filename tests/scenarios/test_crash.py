"""A worker dies; another goes on."""

from django_durable import enqueue
from tests.scenarios.harness import Gates, Workers, job_is
from tests.testapp.durable_stories import two_steps
from tests.testapp.models import Charge


def refs() -> list[str]:
    return sorted(Charge.objects.values_list("order_ref", flat=True))


def test_killed_between_two_steps_another_worker_resumes_after_the_first(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(two_steps, "a")
    victim = workers.start("--lease", "15").has_lock()
    gates.reached("between-a")

    victim.kill()
    gates.open("between-a")
    workers.start()

    job_is(job, "SUCCESSFUL")
    assert refs() == ["a:first", "a:second"]
