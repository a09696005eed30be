"""Little programs of durable calls: what they are made of, how they read, and a task that runs one.

A program is a list of operations, some of which hold programs. It is the argument of the task
``run_program``, whose return value tells what each operation gave. Times are counted in ages, each
so much longer than a test that nothing but waiting takes any; and each wait is longer or shorter by
a bit of its own, so that no two things are due at the same moment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

from django_durable import (
    RetryPolicy,
    current_job,
    current_step,
    emit_event,
    enqueue,
    send_event,
    sleep,
    step,
    task,
    wait_for_event,
    wait_until,
)
from django_durable.exceptions import DurableError, JobStateError, StepInterrupted
from tests.testapp.models import BankCall, Charge

AGE = timedelta(seconds=1_000_000)
BITS = random.Random(7).sample(range(1_000, 40_000), 100)
REF = "program"

# --- what programs are made of


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """An operation; ``n`` numbers it within the whole program."""

    n: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Op):
    """A step that fails so many times; what it does inside is done before it fails."""

    kind: str = "plain"
    fails: int = 0
    tries: int = 1
    pause: int = 0
    inside: tuple[Op, ...] = ()


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
class Outside(Op):
    """What comes from outside, so many ages after the beginning: emit, send, or a row."""

    kind: str
    ages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The first job's operations, and what comes from outside."""

    body: tuple[Op, ...]
    outside: tuple[Outside, ...] = ()

    def numbered(self) -> Program:
        """With a number for each operation, in the order in which they are read."""
        numbers = iter(range(1000))
        body = tuple(_numbered(op, numbers) for op in self.body)
        return Program(body=body, outside=tuple(_numbered(op, numbers) for op in self.outside))

    @property
    def sources(self) -> list[Op]:
        """Those that say something, in the order of their numbers."""
        said = [op for op in walk(self.body) if isinstance(op, Say)]
        return sorted([*said, *self.outside], key=lambda op: op.n)

    def __repr__(self) -> str:
        """As it is read by people; the numbers are those that names are made of."""
        program = self.numbered()
        lines = [*_lines(program.body, program, "    ")]
        lines += [
            f"    {_bit(op.n, op.ages)} after the beginning: {_said(op)}" for op in program.outside
        ]
        return "\n".join(["", *lines])


def _numbered(op: Any, numbers: Iterator[int]) -> Any:
    op = replace(op, n=next(numbers))
    for name in ("body", "inside"):
        if inner := getattr(op, name, None):
            op = replace(op, **{name: tuple(_numbered(one, numbers) for one in inner)})
    return op


def walk(ops: Sequence[Op]) -> Iterator[Op]:
    for op in ops:
        yield op
        yield from walk(getattr(op, "inside", ()))
        yield from walk(getattr(op, "body", ()))


# --- how they read


def _lines(ops: Sequence[Op], program: Program, indent: str) -> Iterator[str]:
    for op in ops:
        yield indent + _line(op, program)
        inner = [*getattr(op, "inside", ()), *getattr(op, "body", ())]
        yield from _lines(inner, program, indent + "    ")


def _line(op: Any, program: Program) -> str:
    match op:
        case Step():
            fails = f", fails {op.fails} of {op.tries} times" if op.fails else ""
            pause = f", {op.pause} ages between" if op.pause else ""
            return f"{op.kind} step {op.n}{fails}{pause}" + ":" * bool(op.inside)
        case Try():
            return "try:"
        case Sleep():
            return f"sleep {_bit(op.n, op.ages)}"
        case Wait() | Until():
            limit = f", at most {_bit(op.n, op.ages)}" if op.ages is not None else ""
            source = source_of(op, program)
            return f"wait for {_said(source) if source else 'nothing'}{limit}"
        case Say():
            return _said(op)
        case Enqueue():
            return "enqueue:"
    raise AssertionError(op)


def _bit(n: int, ages: int) -> str:
    return f"{ages}.{BITS[n]:05d} ages"


def _said(op: Any) -> str:
    return f"{op.kind} {op.n}"


def source_of(op: Wait | Until, program: Program) -> Op | None:
    rows = isinstance(op, Until)
    fit = [one for one in program.sources if (one.kind == "row") == rows]
    return fit[op.source % len(fit)] if fit else None


# --- as an argument


def encode(program: Program) -> list[dict[str, Any]]:
    """The first job's operations as JSON."""
    program = program.numbered()
    return [_encode(op, program) for op in program.body]


def _encode(op: Op, program: Program) -> dict[str, Any]:
    row: dict[str, Any] = {"op": type(op).__name__}
    for one in fields(op):
        value = getattr(op, one.name)
        row[one.name] = [_encode(i, program) for i in value] if isinstance(value, tuple) else value
    if isinstance(op, Wait | Until):
        source = source_of(op, program)
        row["source"] = [source.kind, source.n] if source else ["emit", -1]
    return row


# --- running one


@task(path="tests.run_program")
def run_program(ops: list[dict[str, Any]], first_job: str | None) -> list[Any]:
    """Perform each operation; what each gave."""
    job = current_job()
    assert job is not None
    return perform(ops, first_job or str(job.pk))


def perform(ops: list[dict[str, Any]], first_job: str) -> list[Any]:
    return [PERFORM[row["op"]](row, first_job) for row in ops]


class RefusedError(Exception):
    """What failing steps raise."""


def perform_step(row: dict[str, Any], first_job: str) -> Any:
    n, kind = row["n"], row["kind"]
    policy = RetryPolicy(
        max_attempts=row["tries"], initial_delay=duration(n, row["pause"]), factor=1, jitter=False
    )

    def body(row: dict[str, Any]) -> str:
        seen = perform(row["inside"], first_job)
        if kind == "atomic":
            Charge.objects.create(order_ref=f"{REF}:step {n}")
        if current_step().attempt <= row["fails"]:
            raise RefusedError(f"try {current_step().attempt}")
        if kind != "atomic":
            key = current_step().idempotency_key
            BankCall.objects.create(ref=REF, what=f"step {n}", key=key)
        return f"{kind} {n} {seen}"

    options = {"retry": policy} if kind != "at most once" else {"at_most_once": True}
    made = step(name=f"step {n}", atomic=kind == "atomic", **options)(body)
    try:
        return made(row)
    except StepInterrupted:
        return "nobody knows"


def perform_try(row: dict[str, Any], first_job: str) -> Any:
    try:
        return perform(row["body"], first_job)
    except (DurableError, RefusedError) as error:
        return f"caught {type(error).__name__}"


def perform_sleep(row: dict[str, Any], first_job: str) -> str:
    sleep(duration(row["n"], row["ages"]))
    return "slept"


def perform_wait(row: dict[str, Any], first_job: str) -> Any:
    kind, n = row["source"]
    timeout = None if row["ages"] is None else duration(row["n"], row["ages"])
    if kind == "emit":
        event = wait_for_event(key=f"event {n}", timeout=timeout)
    else:
        event = wait_for_event(f"message {n}", timeout=timeout)
    return "timed out" if event is None else f"got {event.payload}"


def perform_until(row: dict[str, Any], first_job: str) -> Any:
    _, n = row["source"]
    timeout = None if row["ages"] is None else duration(row["n"], row["ages"])

    def is_there() -> bool:
        return Charge.objects.filter(order_ref=f"{REF}:row {n}").exists()

    return wait_until(is_there, every=AGE, timeout=timeout, name=f"row {n}")


def perform_say(row: dict[str, Any], first_job: str) -> None:
    say(row["kind"], row["n"], first_job)


def say(kind: str, n: int, first_job: str) -> None:
    if kind == "emit":
        emit_event(f"event {n}", n)
    elif kind == "send":
        with suppress(JobStateError):  # it may have ended
            send_event(first_job, f"message {n}", n)
    else:
        Charge.objects.create(order_ref=f"{REF}:row {n}")


def perform_enqueue(row: dict[str, Any], first_job: str) -> None:
    enqueue(run_program, row["body"], first_job)


PERFORM = {
    "Step": perform_step,
    "Try": perform_try,
    "Sleep": perform_sleep,
    "Wait": perform_wait,
    "Until": perform_until,
    "Say": perform_say,
    "Enqueue": perform_enqueue,
}


def duration(n: int, ages: int) -> timedelta:
    return AGE * ages + timedelta(seconds=BITS[n]) if ages else timedelta(0)
