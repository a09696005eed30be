"""What travels with a job arrives in another process, and in the next one after that died."""

from django.contrib.auth.models import User
from django.utils import timezone, translation

from django_durable import acting_as, enqueue
from tests.scenarios.harness import Gates, Workers, job_is
from tests.testapp import durable_stories as stories


def test_language_time_zone_and_user_arrive_with_the_job(workers: Workers, gates: Gates) -> None:
    plain = enqueue(stories.tells_context)
    with (
        translation.override("de"),
        timezone.override("Asia/Tokyo"),
        acting_as(User.objects.create_user("anna")),
    ):
        job = enqueue(stories.tells_context)
    victim = workers.start("--lease", "3").has_lock()
    gates.reached("context")

    victim.kill()
    gates.open("context")
    workers.start("--lease", "3")

    assert job_is(job, "SUCCESSFUL").return_value == ["de", "Asia/Tokyo", "anna"]
    assert job_is(plain, "SUCCESSFUL").return_value == ["en-us", "UTC", None]
