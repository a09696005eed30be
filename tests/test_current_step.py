"""Where code is: the current step, the current job, and threads that carry none."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Thread
from typing import Any

import pytest

from django_durable import current_job, current_step, step, task
from django_durable.engine.run import mark_worker_process
from django_durable.exceptions import StepOutsideJobError
from django_durable.models import Job
from tests.builders import HOUR, checkpoints_of, ended_job, error_of, policy, resumed_job
from tests.testapp.models import Charge
from tests.testapp.tasks import charge, fulfil

pytestmark = pytest.mark.django_db


class CurrentStepTests:
    def test_its_key_is_the_same_over_every_try_and_differs_by_call_and_job(self) -> None:
        keys: list[str] = []

        @step(retry=policy(2, give_up_on=(KeyError,)))
        def reveal() -> None:
            keys.append(current_step().idempotency_key)
            if current_step().attempt == 1:
                raise ValueError

        @task(path="revealing")
        def revealing() -> None:
            reveal()
            reveal()

        for job in (revealing.enqueue(), revealing.enqueue()):
            for _ in range(3):
                resumed_job(job, ahead=HOUR)
            assert job.state == "SUCCESSFUL"

        assert {len(key) for key in keys} == {36}
        assert sorted(keys.count(key) for key in set(keys)) == [2, 2, 2, 2]

    def test_it_tells_name_and_attempt(self) -> None:
        seen: list[tuple[str, str, int]] = []

        @step
        def tell() -> None:
            active = current_step()
            seen.append((active.name, active.identity, active.attempt))

        @task(path="telling")
        def telling() -> None:
            tell()
            tell()

        ended_job(telling)

        assert seen == [("tell", "tell", 1), ("tell", "tell#2", 1)]

    def test_between_steps_there_is_none(self) -> None:
        job = ended_job(task(path="between")(lambda: current_step()))

        assert job.state == "FAILED"
        assert "NoCurrentStepError" in error_of(job)["type"]

    def test_the_job_itself_can_be_asked_for(self) -> None:
        job = ended_job(task(path="who")(lambda: str(current_job() and current_job().pk)))  # type: ignore[union-attr]  # asked for before

        assert job.return_value == str(job.pk)
        assert current_job() is None


class LostLeaseTests:
    def test_refreshing_the_current_job_does_not_renew_a_lost_lease(self) -> None:
        """``run.job`` is the object users get; ``refresh()`` gives it the successor's token."""

        @task(path="refreshing")
        def refreshing() -> None:
            job = current_job()
            assert job is not None
            Job.objects.filter(pk=job.pk).update(lease_token=job.lease_token + 1)
            job.refresh()
            charge("o", 1)

        job = ended_job(refreshing)

        assert checkpoints_of(job) == {}
        assert job.state == "RUNNING"


class WorkerThreadTests:
    @pytest.fixture(autouse=True)
    def _in_worker(self) -> Iterator[None]:
        mark_worker_process()
        yield
        mark_worker_process(on=False)

    @pytest.mark.parametrize("call", [lambda: charge("o", 1), lambda: fulfil.enqueue("o")])
    def test_a_thread_without_a_job_is_refused(self, call: Callable[[], Any]) -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(StepOutsideJobError) as caught:
            pool.submit(call).result()

        assert "in a thread that carries no job" in str(caught.value)
        assert (Charge.objects.count(), Job.objects.count()) == (0, 0)

    def test_a_thread_that_is_given_the_context_carries_the_job(self) -> None:
        seen: list[Any] = []

        @task(path="threaded")
        def threaded() -> None:
            context = copy_context()
            thread = Thread(target=lambda: seen.append(context.run(current_job)))
            thread.start()
            thread.join()

        mark_worker_process(on=False)
        job = threaded.enqueue()
        mark_worker_process()
        resumed_job(job)

        assert seen == [job]
