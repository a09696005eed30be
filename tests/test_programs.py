"""Programs made up by hypothesis end alike, wherever the process that runs them dies.

Each is run in peace; then with wake-ups for nothing; then once for every durable point, with the
process dying before it, which is as good as after the one before; then by processes that die one
after the other. What is left must be the same: what the jobs
returned or failed with, how their checkpoints stand, rows written by atomic steps once, the bank
called under one key for each step, and the time it all took.

For longer: ``DURABLE_TEST_EXAMPLES=5000 python -m pytest tests/test_programs.py``, which makes up
other programs each time, and lets them die everywhere.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import (
    SearchStrategy,
    booleans,
    builds,
    integers,
    just,
    lists,
    none,
    one_of,
    sampled_from,
)

from django_durable.engine import waits
from django_durable.engine.states import FOREVER
from django_durable.models import DELAYED, Checkpoint, Job
from django_durable.testing.running import _move_back, run_jobs
from tests.crashing import Death, Life
from tests.ends import End, end_of, find_differences
from tests.programs import (
    REF,
    Enqueue,
    Fail,
    First,
    Gather,
    Map,
    Op,
    Outside,
    Program,
    Result,
    Say,
    Sleep,
    Start,
    Step,
    Try,
    Until,
    Wait,
    begin,
    duration,
    say,
)

EXAMPLES = int(os.environ.get("DURABLE_TEST_EXAMPLES", "20"))
IS_LONG = "DURABLE_TEST_EXAMPLES" in os.environ
MOST_DEATHS = 6
"""At how many of its durable points a program's process dies, in a short run."""
NO_TIME = timedelta(0)
REAL_TIME = timedelta(seconds=100)
"""More than a telling really takes, which is missing in the time that it counts."""

# --- making them up

AGES = integers(1, 3)
SMALL = integers(0, 3)


def bodies(of: SearchStrategy[Op], most: int = 3) -> SearchStrategy[tuple[Op, ...]]:
    return lists(of, min_size=1, max_size=most).map(tuple)


def steps(inside: SearchStrategy[Op]) -> SearchStrategy[Step]:
    return builds(
        Step,
        kind=sampled_from(["plain", "atomic"]),
        fails=sampled_from([0, 0, 0, 1, 2]),
        tries=integers(1, 3),
        pause=integers(0, 1),
        attempt=sampled_from([1, 1, 1, 1, 2]),
        undo=sampled_from([None, None, "plain", "atomic", "late", "vain"]),
        inside=lists(inside, max_size=1).map(tuple),
    )


SAYS = builds(Say, kind=sampled_from(["emit", "send"]))
WAITS = one_of(
    builds(Sleep, ages=AGES),
    builds(Wait, source=SMALL, ages=one_of(AGES, none())),
    builds(Until, source=SMALL, ages=AGES),
)
SIMPLE = one_of(steps(SAYS), SAYS, WAITS)
STARTS = builds(Start, body=bodies(SIMPLE))
ENQUEUES = builds(Enqueue, body=bodies(SIMPLE))
RESULTS = builds(Result, child=SMALL)
LEAVES = one_of(steps(one_of(SAYS, ENQUEUES)), SAYS, WAITS, ENQUEUES, STARTS, RESULTS)


def composites(of: SearchStrategy[Op]) -> SearchStrategy[Op]:
    branches = lists(bodies(of, most=2), min_size=1, max_size=3).map(tuple)
    limits = one_of(none(), integers(1, 2))
    return one_of(
        builds(Try, body=bodies(of)),
        builds(Gather, branches=branches, return_exceptions=booleans()),
        builds(First, branches=branches),
        builds(
            Map,
            branches=branches,
            max_concurrency=limits,
            min_successes=one_of(none(), just(1)),
            max_failures=one_of(none(), SMALL),
        ),
    )


ANY = one_of(LEAVES, composites(one_of(LEAVES, composites(SIMPLE))))
OUTSIDE = builds(Outside, kind=sampled_from(["emit", "send", "row"]), ages=integers(0, 4))
PROGRAMS = builds(
    Program,
    body=bodies(one_of(ANY, ANY, ANY, builds(Fail)), most=4),
    then=one_of(just(()), just(()), bodies(ANY, most=2)),
    outside=lists(OUTSIDE, max_size=2).map(tuple),
    attempts=sampled_from([1, 1, 2]),
)
WHENS = ("before", "after")
DEATHS = builds(Death, sampled_from(WHENS), integers(1, 6))


# --- running them


@contextmanager
def forgotten() -> Iterator[None]:
    """A transaction that the engine takes for a TestCase's own, rolled back at the end."""
    block = transaction.atomic()
    block._from_testcase = True
    with block:
        yield
        transaction.set_rollback(True)


def undone_in_order() -> list[list[str]]:
    """Of each job the steps that were undone, in order; which must be the reverse of theirs."""
    found = []
    for job_id in Checkpoint.objects.values_list("job_id", flat=True).distinct():
        rows = Checkpoint.objects.filter(job_id=job_id).order_by("seq")
        order = {row.identity: row.seq for row in rows}
        undone = [
            row.identity.partition("/")[2]
            for row in rows
            if row.identity.startswith("compensation@")
        ]
        places = [order[identity] for identity in undone]
        assert places == sorted(places, reverse=True), f"undone in the order {undone}"
        found.append(undone)
    return sorted(found)


class Telling:
    """One run of a program, in processes that die one after the other, and one that does not."""

    def __init__(
        self, program: Program, deaths: Sequence[Death] = (), *, is_nudged: bool = False
    ) -> None:
        self.program = program.numbered()
        self._deaths = iter(deaths)
        self._is_nudged = is_nudged
        self._life = Life()
        self.elapsed = NO_TIME
        self.deaths = 0

    @property
    def points(self) -> int:
        """The durable points that the last process came by."""
        return self._life.points

    def run(self) -> End:
        with forgotten():
            job = begin(self.program)
            self._life = Life(next(self._deaths, None))
            self._run_jobs()
            self._let_time_pass(job)
            end = end_of([job], REF)
            end.facts["undone"] = undone_in_order()
        return end

    def _let_time_pass(self, job: Job) -> None:
        """Go from one moment at which something happens to the next, until nothing will."""
        to_come = sorted(self.program.outside, key=lambda op: duration(op.n, op.ages))
        while (pause := self._next_pause(to_come)) is not None:
            self._nudge()
            self.elapsed += pause
            _move_back(connection.alias, pause)
            self._run_jobs()
            if to_come and duration(to_come[0].n, to_come[0].ages) <= self.elapsed:
                coming = to_come.pop(0)
                say(coming.kind, coming.n, str(job.pk))
                self._run_jobs()

    def _next_pause(self, to_come: list[Outside]) -> timedelta | None:
        """How long nothing happens; None if nothing will."""
        with connection.cursor() as cursor:
            cursor.execute(
                "select min(due_at) - statement_timestamp() from durable_job"
                " where state = any(%s) and due_at <> %s",
                [list(DELAYED), FOREVER],
            )
            (due,) = cursor.fetchone()
        pauses = [duration(op.n, op.ages) - self.elapsed for op in to_come]
        if due is not None:
            pauses.append(max(due, NO_TIME))
        return min(pauses, default=None)

    def _nudge(self) -> None:
        """Wake all who wait, for nothing: a wake-up is a hint, and they wait on."""
        if self._is_nudged:
            waiting = Job.objects.filter(state="WAITING").exclude(
                wait_kind__in=["limit", "blocked"]
            )
            waits.wake_jobs(connection, list(waiting.values_list("pk", flat=True)))
            self._run_jobs()

    def _run_jobs(self) -> None:
        """Until nothing is ready, in one process or, as they die, in several."""
        while True:
            with self._life:
                run_jobs()
            if not self._life.is_dead:
                return
            self.deaths += 1
            self._life = Life(next(self._deaths, None))


def check(program: Program, deaths: Sequence[Death]) -> None:
    """Run the program in peace, woken for nothing, and as its processes die: all ends are alike."""
    peace = Telling(program)
    peaceful = peace.run()
    points = range(1, peace.points + 1)
    if not IS_LONG and len(points) > MOST_DEATHS:
        points = random.Random(peace.points).sample(points, MOST_DEATHS)
    singly = [[Death("before", at)] for at in points]
    compare(Telling(program, is_nudged=True), peace, peaceful, "woken for nothing")
    for dies in [*singly, [Death("after", peace.points)], deaths]:
        how = f"dying {', then '.join(map(str, dies))}"
        compare(Telling(program, dies), peace, peaceful, how)


def compare(telling: Telling, peace: Telling, peaceful: End, how: str) -> None:
    end = telling.run()
    found = find_differences(end, peaceful, again=telling.deaths)
    if abs(telling.elapsed - peace.elapsed) > REAL_TIME:
        found.append(f"it took {telling.elapsed}, in peace {peace.elapsed}")
    if found:
        raise AssertionError("\n".join([f"{how}:", *found, f"of the program{telling.program}"]))


SHRINKING_SECONDS = 60.0
_failures: dict[str, AssertionError] = {}
_shrinks_until = 0.0


def check_for_a_while(program: Program, deaths: Sequence[Death]) -> None:
    """Check; but once a program has failed, make it smaller for a minute at most."""
    global _shrinks_until
    name = f"{program} {deaths}"
    if name in _failures:
        raise _failures[name]
    if _failures and time.monotonic() > _shrinks_until:
        return
    try:
        check(program, deaths)
    except AssertionError as error:
        if not _failures:
            _shrinks_until = time.monotonic() + SHRINKING_SECONDS
        _failures[name] = error
        raise


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    """Thousands of jobs fail here as they should."""
    logger = logging.getLogger("django_durable")
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.mark.django_db
@pytest.mark.timeout(0 if IS_LONG else 900)
@settings(
    max_examples=EXAMPLES,
    derandomize=not IS_LONG,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(program=PROGRAMS, deaths=lists(DEATHS, max_size=3))
def test_a_program_ends_alike_wherever_its_process_dies(
    program: Program, deaths: list[Death]
) -> None:
    check_for_a_while(program, deaths)
