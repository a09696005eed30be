"""The backlog: its order, that nobody waits beside a run, and how much of it is worth having."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from django_durable.engine.backlog import MOST_AHEAD, Backlog, Pace
from django_durable.engine.slots import COMPUTING, LONG_SECONDS, Slots
from tests.scenarios.harness import eventually


def run(name: Any, begun_at: float = 0.0) -> Any:
    return SimpleNamespace(name=name, begun_at=begun_at)


def taken(backlog: Backlog) -> list[Any]:
    return [backlog.get().name for _ in range(len(backlog))]


class OrderTests:
    def test_first_come_first_served(self) -> None:
        backlog = Backlog()
        for name in "abc":
            backlog.put(run(name), first=False)

        assert taken(backlog) == ["a", "b", "c"]

    def test_what_is_put_first_comes_first(self) -> None:
        backlog = Backlog()
        backlog.put(run("later"), first=False)
        backlog.put(run("now"), first=True)

        assert taken(backlog) == ["now", "later"]

    def test_what_waited_too_long_is_taken_back_and_the_rest_keeps_its_order(self) -> None:
        backlog = Backlog()
        for name, begun_at in [("a", 1.0), ("b", 5.0), ("c", 2.0), ("d", 6.0)]:
            backlog.put(run(name, begun_at), first=False)

        assert [one.name for one in backlog.take_back(2.0)] == ["a", "c"]
        assert taken(backlog) == ["b", "d"]


def test_many_threads_take_each_run_once_and_none_is_left_waiting() -> None:
    backlog = Backlog()
    seen: list[int] = []

    def work() -> None:
        while (number := backlog.get().name) is not None:
            seen.append(number)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(20_000):
        backlog.put(run(number), first=number % 7 == 0)
    for _ in threads:
        backlog.put(run(None), first=False)
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads)
    assert sorted(seen) == list(range(20_000))


class ThreadsAtWorkTests:
    """Four threads of which fewer may take runs."""

    @pytest.fixture
    def backlog(self) -> Iterator[Backlog]:
        backlog = Backlog(threads=4, at_work=4)
        self.taken: list[str] = []
        self.gates = {name: threading.Event() for name in "abcd"}
        workers = [threading.Thread(target=self._work, args=(backlog,)) for _ in range(4)]
        for worker in workers:
            worker.start()
        eventually(lambda: len(backlog._idle) == 4, "all wait")
        yield backlog
        backlog.let_work(4)
        for gate in self.gates.values():
            gate.set()
        for _ in workers:
            backlog.put(run(None), first=False)
        for worker in workers:
            worker.join(60)
            assert not worker.is_alive()

    def _work(self, backlog: Backlog) -> None:
        while (name := backlog.get().name) is not None:
            self.taken.append(name)
            if name in self.gates:
                assert self.gates[name].wait(60)

    def put(self, backlog: Backlog, names: str) -> None:
        for name in names:
            backlog.put(run(name), first=False)

    def test_the_others_rest_beside_work(self, backlog: Backlog) -> None:
        backlog.let_work(2)
        self.put(backlog, "abcd")
        eventually(lambda: len(self.taken) == 2, "two have taken one")

        assert (len(backlog), len(backlog._idle), backlog.rests) == (2, 2, True)
        self.gates["a"].set()
        eventually(lambda: "c" in self.taken, "who has ended its run takes the next")
        assert (len(backlog), len(backlog._idle)) == (1, 2)

    def test_more_are_woken_when_more_may_work(self, backlog: Backlog) -> None:
        backlog.let_work(1)
        self.put(backlog, "abcd")
        eventually(lambda: len(self.taken) == 1, "one has taken one")

        backlog.let_work(3)

        eventually(lambda: len(self.taken) == 3, "two more have")
        assert (len(backlog), backlog.rests) == (1, True)

    def test_who_is_too_many_goes_to_rest(self, backlog: Backlog) -> None:
        self.put(backlog, "abcd")
        eventually(lambda: len(self.taken) == 4, "all have taken one")
        self.put(backlog, "efgh")

        backlog.let_work(1)
        for name in "abc":
            self.gates[name].set()

        eventually(lambda: len(backlog._idle) == 3, "three rest")
        assert (len(backlog), len(self.taken)) == (4, 4)
        self.gates["d"].set()
        eventually(lambda: len(self.taken) == 8, "the last one does the rest")

    def test_the_loop_is_told_though_nobody_rests_yet(self, backlog: Backlog) -> None:
        self.put(backlog, "abcd")
        eventually(lambda: len(self.taken) == 4, "all have taken one")
        self.put(backlog, "e")

        backlog.let_work(2)

        assert (len(backlog._idle), backlog.rests) == (0, True)

    def test_that_all_go_to_rest_at_once_leaves_nothing_behind(self, backlog: Backlog) -> None:
        for count in [4, 1, 2, 1, 3] * 200:
            backlog.let_work(count)
            self.put(backlog, "xyz")

        eventually(lambda: len(self.taken) == 3000, "all are done")
        assert (len(backlog), backlog.rests) == (0, False)


class WaitingRun:
    """As much of a run as slots look at."""

    ending = None
    begun_at = 0.0

    def __init__(self) -> None:
        self.job = SimpleNamespace(task_path="a", claimed_ahead=False)


def test_runs_that_wait_get_every_slot_though_their_like_only_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[Any] = []
    gate = threading.Event()

    def execute(run: Any, finish_later: Any) -> bool:
        begun.append(run)
        return gate.wait(60)

    monkeypatch.setattr("django_durable.engine.slots.execute", execute)
    slots = Slots(6, freed=lambda: None)
    slots.start()
    for _ in range(100):
        slots.pace.note("a", 0.00003)
    slots.share_interpreter(["a"])
    runs: list[Any] = [WaitingRun() for _ in range(6)]
    slots.put_all(runs)
    eventually(lambda: len(begun) == COMPUTING, "some have begun")
    assert slots.seconds_to_share == LONG_SECONDS

    def all_have_begun() -> bool:
        slots.share_interpreter(["a"])
        return len(begun) == 6

    eventually(all_have_begun, "the loop looks again, and all have begun")
    assert slots.seconds_to_share is None
    gate.set()


class PaceTests:
    def test_nothing_is_claimed_ahead_of_what_was_never_measured(self) -> None:
        pace = Pace()
        assert pace.jobs_ahead(16, ["unknown"]) == 0
        pace.note("a", 0.001)
        assert pace.jobs_ahead(16, ["a"]) == 0  # one measurement tells nothing

    def test_as_many_as_the_slots_finish_in_a_twentieth_of_a_second(self) -> None:
        pace = Pace()
        for _ in range(100):
            pace.note("a", 0.0105)

        assert pace.jobs_ahead(4, ["a"]) == 19
        assert pace.jobs_ahead(1, ["a"]) == 4

    def test_slow_ones_are_not_claimed_ahead(self) -> None:
        pace = Pace()
        for _ in range(100):
            pace.note("slow", 2.0)

        assert pace.jobs_ahead(16, ["slow"]) == 0

    def test_a_slow_task_among_quick_ones_counts(self) -> None:
        pace = Pace()
        for _ in range(100):
            pace.note("quick", 0.0)
            pace.note("slow", 0.8)

        assert pace.jobs_ahead(16, ["quick"]) == MOST_AHEAD
        assert pace.jobs_ahead(16, ["quick", "slow"]) == 2

    def test_the_latest_measurements_count_most(self) -> None:
        pace = Pace()
        for _ in range(100):
            pace.note("a", 0.001)
        for _ in range(100):
            pace.note("a", 1.0)

        assert pace.jobs_ahead(16, ["a"]) == 0

    @pytest.mark.parametrize("lost", ["_counts", "_seconds", "_quick"])
    def test_a_sum_that_is_not_there_yet_is_no_fault(self, lost: str) -> None:
        """Slots note while the loop asks, or has measuring begin anew."""
        pace = Pace()
        for _ in range(100):
            pace.note("a", 0.00003)
        getattr(pace, lost).clear()

        assert pace.jobs_ahead(4, ["a"]) >= 0
        assert pace.only_compute(["a"]) == (lost != "_quick")

    def test_who_computes_only_is_told_from_who_waits(self) -> None:
        pace = Pace()
        assert not pace.only_compute([])
        assert not pace.only_compute(["quick"])  # never measured
        for number in range(100):
            pace.note("quick", 0.00003)
            pace.note("mostly", 0.00003 if number % 20 else 5.0)
            pace.note("often", 0.00003 if number % 5 else 0.001)

        assert pace.only_compute(["quick", "mostly"])
        assert not pace.only_compute(["quick", "often"])
        pace.forget()
        assert not pace.only_compute(["quick"])
