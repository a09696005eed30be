"""Unique jobs, many callers in several processes: one job."""

import subprocess
import sys

from django_durable.models import Job
from tests.scenarios.harness import Gates, eventually


def test_threads_of_several_processes_enqueue_one_job(
    gates: Gates, process_environment: dict[str, str]
) -> None:
    environment = process_environment | {"DURABLE_TEST_GATES": str(gates.folder)}
    callers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.scenarios.enqueuer", "order-1", "start", "unique"],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    eventually(lambda: gates.count("start") == 4, "four callers are at the gate")

    gates.open("start")
    answers = [line for caller in callers for line in caller.communicate()[0].decode().split("\n")]

    told = sorted(answer.split() for answer in answers if answer)
    job = Job.objects.get()
    assert told == [[str(job.pk), "False"], *[[str(job.pk), "True"]] * 3]
