"""``--processes``: a supervisor and its worker processes, which are killed, told and worn out."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from django.db import connection, transaction

from django_durable import enqueue, enqueue_many, task
from django_durable.models import Attempt, Job, Worker
from tests.scenarios.harness import Gates, Process, Workers, eventually, job_is
from tests.testapp import durable_stories as stories

LEASE = ("--lease", "3")
ROOT = Path(__file__).parent.parent.parent


class Supervise(Protocol):
    def __call__(self, processes: int, *options: str, **variables: str) -> Process: ...


def children_of(supervisor: Process) -> set[int]:
    command = ["pgrep", "-P", str(supervisor.pid)]
    return {int(line) for line in subprocess.run(command, capture_output=True).stdout.split()}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def live_workers() -> dict[int, Worker]:
    """Those registered and neither stopped nor lost, by process id."""
    return {worker.pid: worker for worker in Worker.objects.filter(stopped_at=None, lost_at=None)}


def ready_children(supervisor: Process, count: int) -> set[int]:
    """Wait until so many are registered, and others can see at once that they die."""

    def fact() -> set[int]:
        supervisor._ended()
        seen = {pid for pid, worker in live_workers().items() if worker.has_lock}
        ready = children_of(supervisor) & seen
        return ready if len(ready) == count else set()

    return eventually(fact, f"{count} worker processes are ready", 50.0 + 5 * count)


def runner_of(job: Job) -> int:
    """The process that runs a job."""
    job.refresh()
    return int(Worker.objects.get(pk=job.worker_id).pid)


def turns_by_process(gates: Gates, name: str) -> Counter[int]:
    return Counter(int(path.name.split(".")[-2]) for path in gates.folder.glob(f"{name}.reached.*"))


def two_children_of(supervisor: Process) -> set[int]:
    """Its worker processes, ready or not, once there are two."""
    found = children_of(supervisor)
    return found if len(found) == 2 else set()


@pytest.fixture
def supervise(workers: Workers) -> Iterator[Supervise]:
    """Starts a supervisor; what is left of it and of its worker processes is killed."""
    families: list[Process] = []

    def start(processes: int, *options: str, **variables: str) -> Process:
        several = ("--processes", str(processes)) if processes else ()
        started = workers.start(*several, *options, **variables)
        families.append(started)
        return started

    yield start
    left = set(live_workers())
    for started in families:
        if started.popen.poll() is None:
            started.freeze()  # so that it starts no other
            left |= children_of(started)
            started.kill()
    for pid in left:
        if is_alive(pid) and pid != os.getpid():
            os.kill(pid, signal.SIGKILL)


class TestDeaths:
    def test_a_killed_process_is_replaced_and_its_job_goes_on_elsewhere(
        self, supervise: Supervise, gates: Gates
    ) -> None:
        job = enqueue(stories.two_steps, "a")
        supervisor = supervise(2)
        before = ready_children(supervisor, 2)
        gates.reached("between-a")
        victim = runner_of(job)

        os.kill(victim, signal.SIGKILL)
        gates.open("between-a")

        job_is(job, "SUCCESSFUL")
        after = ready_children(supervisor, 2)
        assert job.attempt == 1
        assert Attempt.objects.filter(job=job, outcome="LOST").count() == 1
        assert victim not in after
        assert len(before & after) == 1
        assert f"(process {victim}, killed by SIGKILL). Starting another in 0 s." in (
            supervisor.output
        )
        assert "supervisor: Process" in supervisor.output
        assert "worker-2: Worker" in supervisor.output

    def test_one_that_kills_every_process_is_poison_and_its_neighbours_succeed(
        self, supervise: Supervise
    ) -> None:
        good = [enqueue(stories.quick, f"n{i}") for i in range(8)]
        bad = enqueue(stories.killer, "k")
        good += [enqueue(stories.quick, f"m{i}") for i in range(7)]

        supervise(2, *LEASE)

        eventually(lambda: Job.objects.get(pk=bad.pk).state == "FAILED", "it is poison", 180)
        bad.refresh()
        for job in good:
            job_is(job, "SUCCESSFUL")
        assert bad.errors[-1].exception_class_path == "django_durable.exceptions.PoisonJobError"
        assert Attempt.objects.filter(job=bad, outcome="LOST").count() == 5
        assert not Attempt.objects.exclude(job=bad).filter(outcome="FAILED").exists()

    def test_when_the_supervisor_is_killed_its_processes_stop_in_good_order(
        self, supervise: Supervise, gates: Gates
    ) -> None:
        job = enqueue(stories.gated, "a")
        supervisor = supervise(2)
        children = ready_children(supervisor, 2)
        gates.reached("body-a")

        supervisor.kill()
        runner = live_workers()[runner_of(job)]
        eventually(lambda: Worker.objects.get(pk=runner.pk).stopping_at, "it is stopping")
        gates.open("body-a")

        job_is(job, "SUCCESSFUL")
        eventually(lambda: not any(map(is_alive, children)), "all have ended")
        assert not live_workers()
        assert not Attempt.objects.exists()

    def test_when_none_can_be_started_it_says_why_and_leaves(
        self, supervise: Supervise, empty_database: dict[str, str]
    ) -> None:
        supervisor = supervise(2, DATABASE_URL=empty_database["DATABASE_URL"])

        assert supervisor.exit_code(120) == 1
        assert 4 <= supervisor.output.count("lacks migrations (0001_initial") <= 5
        assert "No worker process can be started: 4 in a row" in supervisor.output


class TestStopping:
    def test_all_stop_in_good_order_though_every_process_is_told(
        self, supervise: Supervise, gates: Gates
    ) -> None:
        """As systemd does, and Ctrl-C where process groups are shared."""
        job = enqueue(stories.gated, "a")
        supervisor = supervise(2)
        children = ready_children(supervisor, 2)
        gates.reached("body-a")
        runner = live_workers()[runner_of(job)]

        for pid in (*children, supervisor.pid):
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: Worker.objects.get(pk=runner.pk).stopping_at, "it is stopping")
        eventually(lambda: len(live_workers()) == 1, "the idle one has stopped")
        later = enqueue(stories.quick, "b")
        gates.open("body-a")

        assert supervisor.exit_code() == 0
        job_is(job, "SUCCESSFUL")
        later.refresh()
        assert later.state == "READY"
        assert not any(map(is_alive, children))
        assert not live_workers()

    def test_a_second_signal_stops_all_at_once(self, supervise: Supervise, gates: Gates) -> None:
        job = enqueue(stories.gated, "a")
        supervisor = supervise(2, "--grace", "600")
        ready_children(supervisor, 2)
        gates.reached("body-a")
        supervisor.terminate()
        eventually(lambda: len(live_workers()) == 1, "the idle one has stopped")

        supervisor.popen.send_signal(signal.SIGINT)

        assert supervisor.exit_code() == 0
        job.refresh()
        assert (job.state, job.attempt, job.lost_count) == ("READY", 1, 0)

    def test_under_load_every_job_has_ended_with_its_outcome_or_is_ready(
        self, supervise: Supervise, gates: Gates
    ) -> None:
        supervisor = supervise(2)
        ready_children(supervisor, 2)
        jobs = enqueue_many(stories.quick.bind(str(number)) for number in range(12_000))
        eventually(lambda: gates.count("quick-*") > 50, "they are at it")

        supervisor.terminate()

        assert supervisor.exit_code() == 0
        states = Counter(Job.objects.values_list("state", flat=True))
        assert set(states) <= {"SUCCESSFUL", "READY"}
        assert states["SUCCESSFUL"] == gates.count("quick-*") < len(jobs)
        assert not Attempt.objects.exists()

    def test_a_hang_up_replaces_them_one_after_the_other(self, supervise: Supervise) -> None:
        supervisor = supervise(2)
        before = ready_children(supervisor, 2)

        supervisor.popen.send_signal(signal.SIGHUP)

        def replaced() -> bool:
            living = children_of(supervisor)
            assert live_workers(), "none is at work"
            return len(living) == 2 and not living & before

        eventually(replaced, "both were replaced", 120)
        ready_children(supervisor, 2)
        supervisor.terminate()
        assert supervisor.exit_code() == 0

    def test_one_that_does_not_stop_for_its_successor_is_killed(self, supervise: Supervise) -> None:
        supervisor = supervise(2, *LEASE, "--grace", "1")
        before = ready_children(supervisor, 2)
        os.kill(min(before), signal.SIGSTOP)

        supervisor.popen.send_signal(signal.SIGHUP)

        eventually(lambda: not children_of(supervisor) & before, "both were replaced", 90)
        assert f"Process {min(before)} does not stop, and is killed." in supervisor.output

    def test_one_that_never_got_ready_does_not_hold_up_the_others(
        self, supervise: Supervise
    ) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("lock table durable_worker in access exclusive mode")  # none gets ready
            supervisor = supervise(2, *LEASE, "--grace", "0")
            before = eventually(lambda: two_children_of(supervisor), "both were started")
            os.kill(min(before), signal.SIGSTOP)
        eventually(lambda: max(before) in live_workers(), "the other one is at work")

        supervisor.popen.send_signal(signal.SIGHUP)

        eventually(lambda: not children_of(supervisor) & before, "both were replaced", 90)
        assert f"(process {min(before)}) was replaced unready." in supervisor.output
        assert "could not start" not in supervisor.output

    def test_a_grace_of_months_is_no_trouble(self, supervise: Supervise) -> None:
        supervisor = supervise(1, "--grace", "1e7")
        ready_children(supervisor, 1)

        supervisor.terminate()

        assert supervisor.exit_code() == 0


class TestWear:
    def test_after_its_jobs_a_process_is_replaced_and_none_runs_one_too_many(
        self, supervise: Supervise, gates: Gates
    ) -> None:
        for number in range(12):
            enqueue(stories.quick, f"{number}")

        supervisor = supervise(1, "--burst", "--slots", "4", "--max-jobs", "5")

        assert supervisor.exit_code(120) == 0
        assert sorted(turns_by_process(gates, "quick-*").values()) == [2, 5, 5]
        assert "5 job(s) began here, --max-jobs is 5." in supervisor.output

    def test_a_lone_worker_leaves_with_75(self, workers: Workers, gates: Gates) -> None:
        jobs = [enqueue(stories.quick, f"{number}") for number in range(5)]

        worker = workers.start("--max-jobs", "3")

        assert worker.exit_code() == 75
        states = Counter(job.state for job in jobs if job.refresh() or True)
        assert states == {"SUCCESSFUL": 3, "READY": 2}

    def test_the_last_job_of_a_worn_worker_may_take_its_time(
        self, workers: Workers, gates: Gates
    ) -> None:
        job = enqueue(stories.gated, "a")
        worker = workers.start("--max-jobs", "1", "--grace", "0").has_lock()
        gates.reached("body-a")
        eventually(lambda: "Claiming no more" in worker.output, "it is worn out")

        gates.open("body-a")

        assert worker.exit_code() == 75
        job_is(job, "SUCCESSFUL")

    def test_a_process_that_takes_too_much_memory_is_replaced(
        self, supervise: Supervise, gates: Gates
    ) -> None:
        jobs = [enqueue(stories.hoards, f"{number}", 300) for number in range(3)]

        supervisor = supervise(1, "--burst", "--slots", "1", "--max-memory", "300")

        assert supervisor.exit_code(120) == 0
        for job in jobs:
            job_is(job, "SUCCESSFUL")
        assert set(turns_by_process(gates, "hoard-*").values()) == {1}
        assert "MB, --max-memory is 300." in supervisor.output


class TestReloading:
    @pytest.fixture
    def project(self, tmp_path: Path) -> dict[str, str]:
        """Environment variables of a project with one more app, whose task is in ``answers.py``."""
        (tmp_path / "changing").mkdir()
        (tmp_path / "changing" / "__init__.py").touch()
        (tmp_path / "changing_settings.py").write_text(
            "from tests.settings import *\n"
            "INSTALLED_APPS = [*INSTALLED_APPS, 'changing']\n"
            "DURABLE = DURABLE | {'TASK_MODULES': [*DURABLE['TASK_MODULES'], 'answers']}\n"
        )
        return {
            "DJANGO_SETTINGS_MODULE": "changing_settings",
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def test_new_code_runs_and_running_jobs_are_not_lost(
        self, supervise: Supervise, gates: Gates, tmp_path: Path, project: dict[str, str]
    ) -> None:
        @task(path="changing.answers")
        def answers() -> int: ...

        code = tmp_path / "changing" / "answers.py"
        declared = (
            "from django_durable import task\n\n@task(path='changing.answers')\ndef answers():"
        )

        def deploy(body: str) -> None:
            """At once: nobody is to read the half of it."""
            draft = code.with_suffix(".draft")
            draft.write_text(f"{declared} {body}")
            draft.replace(code)

        deploy("return 1")
        supervisor = supervise(0, "--reload", **project)
        first, long = enqueue(answers), enqueue(stories.gated, "a")
        gates.reached("body-a")
        job_is(first, "SUCCESSFUL")
        runner = live_workers()[runner_of(long)]

        deploy("return 22")
        eventually(lambda: Worker.objects.get(pk=runner.pk).stopping_at, "it is stopping")
        second = enqueue(answers)
        deploy("this is no Python")
        gates.open("body-a")
        eventually(lambda: "could not start" in supervisor.output, "the code is broken")
        deploy("return 333")

        job_is(long, "SUCCESSFUL")
        job_is(second, "SUCCESSFUL")
        assert (first.return_value, second.return_value) == (1, 333)
        assert not Attempt.objects.exists()
        assert supervisor.output.count("SyntaxError") == 1


def test_eight_processes_on_one_queue_run_each_job_once(supervise: Supervise, gates: Gates) -> None:
    supervisor = supervise(8, "--slots", "4")
    ready_children(supervisor, 8)

    jobs = enqueue_many(stories.quick.bind(str(number)) for number in range(3000))

    unfinished = Job.objects.exclude(state="SUCCESSFUL")
    eventually(lambda: not unfinished.exists(), "all jobs are successful")
    turns = turns_by_process(gates, "quick-*")
    assert sum(turns.values()) == len(jobs)
    assert len(turns) > 1
    supervisor.terminate()
    assert supervisor.exit_code() == 0
    assert not Attempt.objects.exists()
    assert "deadlock" not in supervisor.output
