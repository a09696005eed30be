"""Little programs of durable calls: what they are made of, how they read, and a task that runs one.

A program is a list of operations, some of which hold programs. It is the argument of the task
``run_program``, whose return value tells what each operation gave. Times are counted in ages, each
so much longer than a test that nothing but waiting takes any; and each wait is longer or shorter by
a bit of its own, so that no two things are due at the same moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from functools import partial
from typing import Any

from django_durable import (
    RetryPolicy,
    continue_as,
    current_job,
    current_step,
    emit_event,
    enqueue,
    first,
    gather,
    map_task,
    send_event,
    sleep,
    step,
    task,
    wait_for_event,
    wait_until,
)
from django_durable.children import ChildHandle
from django_durable.exceptions import DurableError, JobStateError, StepInterrupted
from django_durable.models import Job
from tests.testapp.models import BankCall, Charge

AGE = timedelta(seconds=1_000_000)
AT_ONCE = timedelta(0)
BITS = random.Random(7).sample(range(1_000, 40_000), 200)
REF = "program"

# --- what programs are made of


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """An operation; ``n`` numbers it within the whole program."""

    n: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Op):
    """A step that fails so many times, or until a later attempt of the job.

    What it does inside is done before it fails. ``undo`` is the kind of step that compensates it.
    """

    kind: str = "plain"
    fails: int = 0
    tries: int = 1
    pause: int = 0
    attempt: int = 1
    undo: str | None = None
    inside: tuple[Op, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(Op):
    """Raises, outside any step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try(Op):
    """Goes on from a failure."""

    body: tuple[Op, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep(Op):
    ages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Op):
    """For what one of the program's sources says; of several, this one in order."""

    source: int
    ages: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Until(Op):
    """Until a row is there that the outside writes; asks every age."""

    source: int
    ages: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Say(Op):
    """An event for all, or to the first job; ``kind`` is emit or send."""

    kind: str = "emit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueue(Op):
    body: tuple[Op, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Op):
    """A child to be awaited, or not."""

    body: tuple[Op, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Op):
    """Of one of the children started so far."""

    child: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Op):
    branches: tuple[tuple[Op, ...], ...]
    return_exceptions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class First(Op):
    branches: tuple[tuple[Op, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Map(Op):
    """Children that sleep first, each for a time of its own, so that they end one by one."""

    branches: tuple[tuple[Op, ...], ...]
    max_concurrency: int | None = None
    min_successes: int | None = None
    max_failures: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside(Op):
    """What comes from outside, so many ages after the beginning: emit, send, or a row."""

    kind: str
    ages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The first job's operations, what comes from outside, and how often it may be attempted.

    With ``then`` it starts itself over, with these operations.
    """

    body: tuple[Op, ...]
    then: tuple[Op, ...] = ()
    outside: tuple[Outside, ...] = ()
    attempts: int = 1

    def numbered(self) -> Program:
        """With a number for each operation, in the order in which they are read."""
        numbers = iter(range(len(BITS)))
        parts = {
            part: _numbered(getattr(self, part), numbers) for part in ("body", "then", "outside")
        }
        return replace(self, **parts)

    @property
    def sources(self) -> list[Any]:
        """Those that say something, in the order of their numbers."""
        return [*(op for op in walk((self.body, self.then)) if isinstance(op, Say)), *self.outside]

    def __repr__(self) -> str:
        """As it is read by people; the numbers are those that names are made of."""
        program = self.numbered()
        lines = [f"    in {self.attempts} attempts:"] if self.attempts > 1 else []
        lines += _lines(program.body, program, "    ")
        if program.then:
            lines += ["    continue as:", *_lines(program.then, program, "        ")]
        for op in program.outside:
            lines.append(f"    {_time(op.n, op.ages)} after the beginning: {_said(op)}")
        return "\n".join(["", *lines])


def _numbered(ops: Any, numbers: Iterator[int]) -> Any:
    """The same operations, or tuples of them, with numbers."""
    if isinstance(ops, tuple):
        return tuple(_numbered(op, numbers) for op in ops)
    op = replace(ops, n=next(numbers))
    parts = {part: _numbered(getattr(op, part), numbers) for part in PARTS if hasattr(op, part)}
    return replace(op, **parts)


PARTS = ("inside", "body", "branches")
"""Attributes of operations that hold others."""


def walk(ops: Any) -> Iterator[Any]:
    if isinstance(ops, tuple):
        for op in ops:
            yield from walk(op)
    else:
        yield ops
        for part in PARTS:
            yield from walk(getattr(ops, part, ()))


# --- how they read


def _lines(ops: Sequence[Op], program: Program, indent: str) -> Iterator[str]:
    for op in ops:
        yield indent + _line(op, program)
        yield from _lines(
            [*getattr(op, "inside", ()), *getattr(op, "body", ())], program, indent + "    "
        )
        for branch in getattr(op, "branches", ()):
            yield indent + "    branch:"
            yield from _lines(branch, program, indent + "        ")


def _line(op: Any, program: Program) -> str:
    match op:
        case Step():
            fails = f", fails {op.fails} times in {op.tries} tries" if op.fails else ""
            pause = f", {op.pause} ages between" if op.fails and op.pause else ""
            attempt = f", fails before attempt {op.attempt}" if op.attempt > 1 else ""
            undo = f", undone by a {op.undo} one" if op.undo else ""
            return f"{op.kind} step {op.n}{fails}{pause}{attempt}{undo}"
        case Sleep():
            return f"sleep {_time(op.n, op.ages)}"
        case Wait() | Until():
            limit = f", at most {_time(op.n, op.ages)}" if op.ages is not None else ""
            source = source_of(op, program)
            return f"wait for {_said(source) if source else 'nothing'}{limit}"
        case Say():
            return _said(op)
        case Result():
            return f"result of child {op.child}"
        case Map() | Gather():
            options = {
                f.name: getattr(op, f.name) for f in fields(op) if f.name not in ("n", *PARTS)
            }
            shown = ", ".join(f"{name}={value}" for name, value in options.items() if value)
            return f"{type(op).__name__.lower()} {shown}"
    return type(op).__name__.lower()


def _time(n: int, ages: int) -> str:
    return f"{duration(n, ages) / AGE:.6f} ages"


def _said(op: Any) -> str:
    return f"{op.kind} {op.n}"


def source_of(op: Wait | Until, program: Program) -> Op | None:
    rows = isinstance(op, Until)
    fit = [one for one in program.sources if (one.kind == "row") == rows]
    return fit[op.source % len(fit)] if fit else None


# --- as an argument


def _encode(ops: Any, program: Program) -> Any:
    if isinstance(ops, tuple):
        return [_encode(op, program) for op in ops]
    row = {f.name: getattr(ops, f.name) for f in fields(ops) if f.name not in PARTS}
    row |= {part: _encode(getattr(ops, part), program) for part in PARTS if hasattr(ops, part)}
    if isinstance(ops, Wait | Until):
        source = source_of(ops, program)
        row["source"] = [source.kind, source.n] if source else ["emit", -1]
    return row | {"op": type(ops).__name__}


# --- running one


@task(path="tests.run_program")
def run_program(
    ops: list[Any], first_job: str | None, then: list[Any] | None = None, seen: Any = None
) -> list[Any]:
    """Perform each operation; what each gave."""
    return run(ops, first_job, then, seen)


@task(path="tests.run_stubborn_program", retry=RetryPolicy(max_attempts=2, initial_delay=AT_ONCE))
def run_stubborn_program(
    ops: list[Any], first_job: str | None, then: list[Any] | None = None, seen: Any = None
) -> list[Any]:
    return run(ops, first_job, then, seen)


def run(ops: list[Any], first_job: str | None, then: list[Any] | None, seen: Any) -> list[Any]:
    job = current_job()
    assert job is not None
    gave = Performance(first_job or str(job.pk)).perform(ops)
    if then:
        continue_as(then, first_job, seen=gave)
    return [seen, gave] if seen else gave


@task(path="tests.run_item")
def run_item(item: list[Any]) -> list[Any]:
    """One child of a map."""
    n, ops, first_job = item
    sleep(duration(n, 1))
    return Performance(first_job).perform(ops)


def begin(program: Program) -> Job:
    program = program.numbered()
    called = run_stubborn_program if program.attempts > 1 else run_program
    return called.enqueue(_encode(program.body, program), None, _encode(program.then, program))


class RefusedError(Exception):
    """What failing steps raise."""


@dataclass(slots=True)
class Performance:
    """One run of a list of operations; a branch has one of its own."""

    first_job: str
    children: list[ChildHandle[Any]] = field(default_factory=list)

    def perform(self, ops: list[dict[str, Any]]) -> list[Any]:
        return [getattr(self, f"_{row['op'].lower()}")(row) for row in ops]

    def _branches(self, row: dict[str, Any]) -> list[Callable[[], Any]]:
        return [
            partial(Performance(self.first_job, list(self.children)).perform, ops)
            for ops in row["branches"]
        ]

    def _step(self, row: dict[str, Any]) -> Any:
        def body(row: dict[str, Any]) -> str:
            seen = self.perform(row["inside"])
            return f"{row['kind']} {seen} {act(row)}"

        options: dict[str, Any] = {"at_most_once": True}
        if row["kind"] != "at most once":
            pause = duration(row["n"], row["pause"])
            policy = RetryPolicy(
                max_attempts=row["tries"], initial_delay=pause, factor=1, jitter=False
            )
            options = {"retry": policy, "atomic": row["kind"] == "atomic"}
        if row["undo"]:
            options["compensate"] = UNDO[row["undo"]]
        try:
            return step(name=f"step {row['n']}", **options)(body)(row)
        except StepInterrupted:
            return "nobody knows"

    def _fail(self, row: dict[str, Any]) -> None:
        raise RefusedError(f"at {row['n']}")

    def _try(self, row: dict[str, Any]) -> Any:
        try:
            return self.perform(row["body"])
        except (DurableError, RefusedError) as error:
            return f"caught {type(error).__name__}"

    def _sleep(self, row: dict[str, Any]) -> None:
        sleep(duration(row["n"], row["ages"]))

    def _wait(self, row: dict[str, Any]) -> str:
        kind, n = row["source"]
        name = f"{kind} {n}"
        timeout = timeout_of(row)
        if kind == "emit":
            event = wait_for_event(key=name, timeout=timeout)
        else:
            event = wait_for_event(name, timeout=timeout)
        return "timed out" if event is None else f"got {event.payload}"

    def _until(self, row: dict[str, Any]) -> Any:
        ref = f"{REF}:row {row['source'][1]}"

        def is_there() -> bool:
            return Charge.objects.filter(order_ref=ref).exists()

        every = duration(row["n"], 1)
        return wait_until(is_there, every=every, timeout=timeout_of(row), name="row")

    def _say(self, row: dict[str, Any]) -> None:
        say(row["kind"], row["n"], self.first_job)

    def _enqueue(self, row: dict[str, Any]) -> None:
        enqueue(run_program, row["body"], self.first_job)

    def _start(self, row: dict[str, Any]) -> None:
        self.children.append(run_program.start(row["body"], self.first_job))

    def _result(self, row: dict[str, Any]) -> Any:
        if not self.children:
            return "no child"
        return self.children[row["child"] % len(self.children)].result()

    def _gather(self, row: dict[str, Any]) -> list[Any]:
        seen = gather(*self._branches(row), return_exceptions=row["return_exceptions"])
        return [type(one).__name__ if isinstance(one, Exception) else one for one in seen]

    def _first(self, row: dict[str, Any]) -> list[Any]:
        winner = first(*self._branches(row))
        return [winner.index, winner.value]

    def _map(self, row: dict[str, Any]) -> Any:
        items = [[row["n"] + i + 1, ops, self.first_job] for i, ops in enumerate(row["branches"])]
        limits = {name: row[name] for name in ("max_concurrency", "min_successes", "max_failures")}
        found = map_task(run_item, items, **limits)
        failures = [(failure.index, failure.error_type) for failure in found.failures]
        return [found.values, failures, found.unfinished]


def undo_plainly(row: dict[str, Any], result: str) -> None:
    what = f"{current_step().identity} of {result}"
    BankCall.objects.create(ref=REF, what=what, key=current_step().idempotency_key)


@step(atomic=True)
def undo_atomically(row: dict[str, Any], result: str) -> None:
    Charge.objects.create(order_ref=f"{REF}:{current_step().identity} of {result}")


@step(retry=RetryPolicy(max_attempts=2, initial_delay=AGE, jitter=False))
def undo_late(row: dict[str, Any], result: str) -> None:
    if current_step().attempt == 1:
        raise RefusedError("not yet")
    undo_plainly(row, result)


@step
def undo_in_vain(row: dict[str, Any], result: str) -> None:
    raise RefusedError("never")


UNDO = {
    "plain": undo_plainly,
    "atomic": undo_atomically,
    "late": undo_late,
    "vain": undo_in_vain,
}


def act(row: dict[str, Any]) -> str:
    """What a step does, or fails to."""
    what, job, step_now = f"step {row['n']}", current_job(), current_step()
    assert job is not None
    if row["kind"] == "atomic":
        Charge.objects.create(order_ref=f"{REF}:{what}")
    if step_now.attempt <= row["fails"] or job.attempt < row["attempt"]:
        raise RefusedError(f"{what}, try {step_now.attempt}")
    if row["kind"] != "atomic":
        BankCall.objects.create(ref=REF, what=what, key=step_now.idempotency_key)
    return what


def say(kind: str, n: int, first_job: str) -> None:
    if kind == "emit":
        emit_event(f"emit {n}", n)
    elif kind == "send":
        with suppress(JobStateError):  # it may have ended
            send_event(first_job, f"send {n}", n)
    else:
        Charge.objects.create(order_ref=f"{REF}:row {n}")


def duration(n: int, ages: int) -> timedelta:
    return AGE * ages + timedelta(seconds=BITS[n]) if ages else AT_ONCE


def timeout_of(row: dict[str, Any]) -> timedelta | None:
    return None if row["ages"] is None else duration(row["n"], row["ages"])
