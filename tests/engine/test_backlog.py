"""The backlog: its order, that nobody waits beside a run, and how much of it is worth having."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from django_durable.engine.backlog import MOST_AHEAD, Backlog, Pace


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
