"""What a worker claims when several queues have jobs: they take turns and share its slots."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection

from django_durable import Limit, enqueue_many, task
from django_durable.engine import claims, limits, registry
from django_durable.engine.backlog import Pace
from django_durable.engine.claiming import Claimer
from django_durable.engine.listener import Hooks, Lease, Listener
from django_durable.engine.serving import Serving
from django_durable.engine.slots import Slots
from django_durable.models import Job
from tests.builders import HOUR
from tests.engine.test_claims import claimant
from tests.management.console import copies

pytestmark = pytest.mark.django_db


@task(path="claiming.work")
def work() -> None:
    pass


@task(path="claiming.one_at_a_time", limit=Limit("claiming.one-at-a-time", concurrency=1))
def one_at_a_time() -> None:
    pass


@dataclass(slots=True, eq=False)
class Worker:
    """A claimer whose slots are freed by hand."""

    claimer: Claimer
    runs: list[Job] = field(default_factory=list)

    def claim(self) -> list[str]:
        """The queues of the jobs that one claim takes."""
        jobs = self.claimer.claim()
        self.runs += jobs
        self._occupy()
        return [job.queue_name for job in jobs]

    def fill(self) -> Counter[str]:
        """How many jobs of each queue run when all slots are taken, or nothing is left."""
        while self.claim():
            assert self.claimer.must_look_again or not self.claimer.slots.free
            self.claimer.must_look_again = False
        return Counter(job.queue_name for job in self.runs)

    def free(self, count: int) -> None:
        """So many jobs end, those that were claimed first."""
        del self.runs[:count]
        self._occupy()

    def _occupy(self) -> None:
        slots: Any = self.claimer.slots
        slots._runs = slots._known = dict(enumerate(self.runs))


def worker(*serves: str, slots: int = 4) -> Worker:
    hooks = Hooks(woken=print, cancelled=print, lost=print)
    writer: Any = None
    silent = Listener(worker_id=1, lease=Lease(HOUR), alias="default", writer=writer, hooks=hooks)
    claimer = Claimer(
        claimant=claimant(),
        slots=Slots(slots, freed=lambda: None, pace=Pace()),
        listener=silent,
        serving=Serving.of(serves),
        poll_interval=3600.0,
    )
    return Worker(claimer)


def ready(queue_name: str, count: int) -> None:
    job = work.using(queue_name=queue_name).enqueue()
    copies(job, count - 1)


class TurnTests:
    @pytest.mark.parametrize("serves", [(), ("busy", "quiet"), ("*",), ("-other",)])
    def test_a_busy_queue_cannot_starve_another(self, serves: tuple[str, ...]) -> None:
        ready("busy", 3000)
        ready("quiet", 10)
        one = worker(*serves, slots=1)

        claimed = []
        for _ in range(20):
            claimed += one.claim()
            one.free(1)

        assert claimed == ["busy", "quiet"] * 10

    def test_nor_if_its_jobs_keep_coming_and_wake_the_worker(self) -> None:
        ready("quiet", 10)
        one = worker(slots=1)

        claimed = []
        for n in range(20):
            ready("busy", 5)
            if n % 2:  # a claim that was woken for the busy queue alone
                one.claimer.woken_queues = {"busy"}
            claimed += one.claim()
            one.free(1)

        assert claimed.count("quiet") >= 9

    def test_many_queues_are_served_one_after_the_other(self) -> None:
        names = [f"q{n}" for n in range(7)]
        for name in names:
            ready(name, 5)
        one = worker(slots=2)

        claimed = []
        for _ in range(14):
            claimed += one.claim()
            one.free(1)

        assert claimed[:14] == names + names

    def test_one_that_comes_later_has_the_next_free_slot(self) -> None:
        ready("busy", 100)
        one = worker(slots=4)
        assert one.fill() == {"busy": 4}

        ready("quiet", 100)
        one.free(1)
        assert one.claim() == ["quiet"]
        one.free(2)
        assert one.claim() == ["busy", "busy"]
        one.free(1)
        assert one.claim() == ["quiet"]


class HeldBackTests:
    """Of jobs that wait for a place under a limit one is claimed as soon as an end is written."""

    @pytest.fixture(autouse=True)
    def _limits(self) -> None:
        limits.declare_limits(connection, registry.declared_limits().values())

    def test_the_worker_is_told_of_each_end_as_long_as_one_waits(self) -> None:
        told: list[str] = []
        one = worker()
        one.claimer.slots.freed = lambda: told.append("freed")
        work.enqueue()
        one.claim()
        one.claimer.slots.forget([])
        assert told == []

        enqueue_many([one_at_a_time.bind(), one_at_a_time.bind()])
        assert (one.claim(), one.claim()) == (["default"], [])
        one.claimer.slots.forget([])
        assert told == ["freed"]

        Job.objects.filter(state="READY").delete()
        one.claim()
        one.claimer.slots.forget([])
        assert told == ["freed"]

    def test_an_end_that_is_written_while_it_looks_has_it_look_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = worker()
        enqueue_many([one_at_a_time.bind(), one_at_a_time.bind()])
        assert (one.claim(), one.claim()) == (["default"], [])
        assert one.claimer.seconds_to_next() is None
        claim_jobs = claims.claim_jobs

        def end_meanwhile(*args: Any, **options: Any) -> claims.Claimed:
            found = claim_jobs(*args, **options)
            one.claimer.slots.forget([])
            return found

        monkeypatch.setattr(claims, "claim_jobs", end_meanwhile)

        assert one.claim() == []
        assert one.claimer.seconds_to_next() == 0


class ShareTests:
    @pytest.mark.parametrize(
        ("counts", "slots", "shares"),
        [
            ({"a": 100, "b": 100}, 16, {"a": 8, "b": 8}),
            ({"a": 100, "b": 3}, 16, {"a": 13, "b": 3}),
            ({"a": 3, "b": 100}, 16, {"a": 3, "b": 13}),
            ({"a": 100, "b": 100, "c": 1}, 16, {"a": 9, "b": 6, "c": 1}),
            ({"a": 100}, 16, {"a": 16}),
            ({"a": 100, "b": 100}, 1, {"a": 1}),
        ],
    )
    def test_free_slots_are_shared_and_all_are_used(
        self, counts: dict[str, int], slots: int, shares: dict[str, int]
    ) -> None:
        for name, count in counts.items():
            ready(name, count)

        assert worker(slots=slots).fill() == shares

    def test_a_queue_alone_is_claimed_from_at_once(self) -> None:
        ready("a", 100)
        for serves in ((), ("a",), ("a", "empty")):
            assert worker(*serves, slots=16).claim() == ["a"] * 16

    def test_what_it_does_not_serve_has_no_share(self) -> None:
        ready("a", 100)
        ready("b", 100)

        assert worker("-b", slots=16).claim() == ["a"] * 16
        assert worker("b", slots=16).claim() == ["b"] * 16


class WokenTests:
    def test_it_looks_into_that_queue_alone(self) -> None:
        one = worker()
        assert one.claim() == []
        ready("a", 1)
        ready("b", 1)

        one.claimer.woken_queues = {"b"}

        assert one.claim() == ["b"]

    def test_but_at_all_as_often_as_it_polls(self) -> None:
        one = worker()
        one.claimer.poll_interval = 0.0
        assert one.claim() == []
        ready("a", 1)

        one.claimer.woken_queues = {"elsewhere"}

        assert one.claim() == ["a"]

    def test_not_if_it_does_not_serve_it(self) -> None:
        one = worker("a*", "b")
        assert one.claim() == []
        ready("c", 1)

        one.claimer.woken_queues = {"c"}

        assert one.claim() == []

    def test_a_look_into_one_queue_does_not_tell_that_all_are_empty(self) -> None:
        one = worker()
        assert one.claim() == []
        assert one.claimer.found_nothing
        enqueue_many([work.using(queue_name="a").bind()])

        one.claimer.woken_queues = {"b"}

        assert one.claim() == []
        assert not one.claimer.found_nothing
