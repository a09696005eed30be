"""Kill a worker at every durable point of a story, and compare what is left with a peaceful run.

``Killing.kill_everywhere(story)`` tells the story once in peace, then again and again: each time to
a worker process of its own that dies by SIGKILL before the first, second, .. durable point
(tests/scenarios/mortal.py), after which an heir without a bomb ends it. It stops once a worker got
through without dying. Several rounds are under way at once, each with a queue of its own.

To die after a point is, for the rows, to die before the next one, but that user code does less in
between; so only few stories are told in both ways.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, islice
from multiprocessing.process import BaseProcess
from pathlib import Path

from django.db import connection

from django_durable.engine.clock import StatementTimestamp
from django_durable.models import Job, Worker
from tests.ends import End, all_have_ended, end_of, find_differences
from tests.scenarios import mortal
from tests.scenarios.mortal import Bomb, Orders

HEIR = "heir"
"""The queue to which the jobs of a killed worker are moved."""
ROUNDS_AT_ONCE = 6
PATIENCE = 60.0
"""Seconds after which a round that has not ended fails the test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens in each round.

    ``begin(ref, queue)`` enqueues the story's jobs in this queue; their tasks enqueue in their own
    job's queue. ``ref`` names the round, and all that the story writes. ``meanwhile(jobs)`` does
    what comes from outside: a generator that yields while it waits for a fact. ``under_way`` is how
    many plain steps may be at once, and so how many may call the bank again after a kill.
    """

    begin: Callable[[str, str], list[Job]]
    meanwhile: Callable[[list[Job]], Iterator[None]] | None = None
    slots: int = 2
    under_way: int = 1


@dataclass(slots=True, kw_only=True)
class Round:
    """One telling of a story."""

    ref: str
    orders: Orders
    process: BaseProcess
    jobs: list[Job]
    until: float = field(default_factory=lambda: time.monotonic() + PATIENCE)
    end: End | None = None
    exit_code: int | None = None

    @property
    def was_killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL

    @property
    def _last_point(self) -> tuple[str, str]:
        lines = self.orders.points.read_text().splitlines() or ["0 before anything"]
        number, place = lines[-1].split(maxsplit=1)
        return number, place

    @property
    def points(self) -> int:
        """How many durable points its worker came by."""
        return int(self._last_point[0])

    def __str__(self) -> str:
        number, place = self._last_point
        fate = f"killed {place}" if self.was_killed else "not killed"
        return f"{self.ref}: {fate} (durable point {number})"


def bombs(numbers: Iterable[int], whens: Sequence[str]) -> list[Bomb]:
    return [Bomb(at=at, when=when) for at in numbers for when in whens]


def compare(story: Story, end: End, peaceful: End) -> list[str]:
    return find_differences(end, peaceful, again=story.under_way)


Differences = Callable[[Story, End, End], list[str]]


class Killing:
    """Starts workers that will die, and their heir, and compares ends. One for each test."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._folder = folder
        self._variables = variables
        self._forkserver = multiprocessing.get_context("forkserver")
        self._forkserver.set_forkserver_preload([mortal.__name__])
        self._processes: list[BaseProcess] = []
        self._numbers = count()

    # --- all rounds

    def kill_everywhere(
        self,
        story: Story,
        *,
        least: int,
        whens: Sequence[str] = ("before",),
        differences: Differences = compare,
    ) -> list[Round]:
        """Kill at every point; the rounds, the peaceful one first.

        ``differences(story, end, peaceful_end)`` says what is not as it should be; by default they
        must be alike. Raises: AssertionError, also if fewer than ``least`` rounds were killed.
        """
        self._fork(self._orders(HEIR, story))
        (peaceful,) = self._tell_all(story, [None])
        rounds = self._tell_all(story, bombs(range(1, peaceful.points + 1), whens))
        for at in count(peaceful.points + 1):
            if not all(one.was_killed for one in rounds):
                break
            rounds += self._tell_all(story, bombs([at], whens))
        for one in rounds:
            assert one.end is not None
            assert peaceful.end is not None
            if found := differences(story, one.end, peaceful.end):
                raise AssertionError("\n".join([str(one), *found, self._log_of(one)]))
        killed = [str(one) for one in rounds if one.was_killed]
        assert len(killed) >= least, f"killed only {len(killed)} times: {killed}"
        return [peaceful, *rounds]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
            process.close()

    def _tell_all(self, story: Story, to_tell: Sequence[Bomb | None]) -> list[Round]:
        """Tell rounds with these bombs, some side by side; those told."""
        rest = iter(to_tell)
        under_way: list[tuple[Round, Iterator[None]]] = []
        told: list[Round] = []
        while True:
            for bomb in islice(rest, ROUNDS_AT_ONCE - len(under_way)):
                begun = self._begin(story, bomb)
                under_way.append((begun, self._tell(story, begun)))
            if not under_way:
                return told
            for telling in list(under_way):
                one, steps = telling
                if next(steps, steps) is steps:
                    under_way.remove(telling)
                    told.append(one)
                elif time.monotonic() > one.until:
                    raise AssertionError(
                        f"{one}\nnever ended: {end_of(one.jobs, one.ref)}\n{self._log_of(one)}"
                    )
            time.sleep(0.03)

    # --- one round

    def _begin(self, story: Story, bomb: Bomb | None) -> Round:
        ref = f"r{next(self._numbers)}"
        orders = self._orders(ref, story, bomb)
        jobs = story.begin(ref, ref)
        return Round(ref=ref, orders=orders, process=self._fork(orders), jobs=jobs)

    def _tell(self, story: Story, one: Round) -> Iterator[None]:
        """Until nothing more comes from outside and all jobs have ended; if the worker has died, by
        whoever inherits them.
        """
        outside = story.meanwhile(one.jobs) if story.meanwhile else iter(())
        is_over = False
        while not is_over:
            is_left_alone = next(outside, outside) is outside
            if one.exit_code is None and one.process.exitcode is not None:
                one.exit_code = one.process.exitcode
                bury(one)
            if one.exit_code is not None:
                hand_down(one)  # again and again: the server may yet commit what it was asked to
            is_over = is_left_alone and all_have_ended(one.jobs)
            yield
        if one.exit_code is None:
            one.process.terminate()
            while one.process.exitcode is None:
                yield
            one.exit_code = one.process.exitcode
        one.end = end_of(one.jobs, one.ref)

    def _orders(self, queue: str, story: Story, bomb: Bomb | None = None) -> Orders:
        return Orders(
            queue=queue,
            slots=story.slots,
            poll=mortal.HEIRS_POLL if queue == HEIR else mortal.POLL,
            database=connection.settings_dict["NAME"],
            points=self._folder / f"{queue}.points",
            log=self._folder / f"{queue}.log",
            variables=self._variables,
            bomb=bomb,
        )

    def _fork(self, orders: Orders) -> BaseProcess:
        process = self._forkserver.Process(target=mortal.work, args=(orders,), daemon=True)
        process.start()
        self._processes.append(process)
        return process

    def _log_of(self, one: Round) -> str:
        points = one.orders.points.read_text()
        heir = (self._folder / f"{HEIR}.log").read_text().splitlines()
        ids = [str(job.pk) for job in one.jobs]
        inherited = [line for line in heir if any(job_id in line for job_id in ids)]
        return "\n".join(
            ["--- points", points, "--- heir", *inherited, "--- worker", _tail(one.orders.log)]
        )


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-60:])


def bury(one: Round) -> None:
    """Let the heir see at once that the worker is dead.

    That its death shows in the lock, too, and how soon, other tests say. The lease is shortened as
    well, since nobody is declared lost on a server younger than that.
    """
    moment = timedelta(milliseconds=1)
    Worker.objects.filter(pid=one.process.pid).update(
        lease=moment, lease_expires_at=StatementTimestamp() - moment
    )


def hand_down(one: Round) -> None:
    """Let the heir have the jobs that the worker left."""
    Job.objects.filter(queue_name=one.ref).update(queue_name=HEIR)
