"""A bar that people watch while the job runs, while its worker dies, and while it is replayed."""

from django_durable import enqueue, get_progress, get_values
from django_durable.models import Job
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.testapp import durable_stories as stories
from tests.testapp.models import Charge

LEASE = ("--lease", "3")


def done_of(job: Job) -> int:
    found = get_progress(job)
    return found.done if found else 0


def test_it_is_seen_from_outside_and_never_goes_back_when_the_worker_dies(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.tells_progress, "a")
    seen = [done_of(job)]

    def watch() -> bool:
        seen.append(done_of(job))
        job.refresh()
        return job.is_finished

    victim = workers.start(*LEASE).has_lock()
    eventually(lambda: watch() or (seen[-1], get_values(job)) == (2, {"row": 2}), "two are told")
    assert job.state == "RUNNING"
    found = get_progress(job)
    assert found is not None
    assert (found.total, found.note, found.fraction) == (4, "row 2", 0.5)

    victim.kill()
    workers.start(*LEASE)
    eventually(lambda: watch() or gates.count("told-a") == 2, "it was replayed up to the gate")
    gates.open("told-a")
    eventually(watch, "it is finished")

    job_is(job, "SUCCESSFUL")
    seen.append(done_of(job))
    assert seen == sorted(seen)
    assert seen[-1] == 4
    assert get_values(job) == {"row": 4}
    assert Charge.objects.count() == 4
