"""How fast steps are saved: plain and atomic ones at one slot, plain ones at sixteen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from uuid import uuid4

from benchmarks import raw
from benchmarks.lab import Lab, results_of
from benchmarks.measuring import RAW, Benchmark, Measure, Row, Sample, Times
from benchmarks.tasks import take_atomic_steps, take_steps
from django_durable import enqueue_many
from django_durable.tasks import Task

STEPS = 2000
STEPS_OF_ONE_IN_MANY = 500
STEPS_OF = {"dbos": 300, "absurd": 800}
SLOTS = 16


def steps_per_second(task: Task[[int], list[float]], *, jobs: int, steps: int) -> float:
    """Run jobs of so many steps at once: all steps, from the first one's begin to the last save."""
    spans = results_of(enqueue_many([task.bind(steps) for _ in range(jobs)]))
    return jobs * steps / (max(end for _, end in spans) - min(begin for begin, _ in spans))


def plain_inserts(connection: raw.Connection) -> float:
    insert = partial(raw.insert_checkpoint, connection, uuid4())
    return STEPS / raw.seconds_for(STEPS, insert)


def inserts_in_transactions(connection: raw.Connection) -> float:
    insert = partial(raw.insert_checkpoint_and_commit, connection, uuid4())
    return STEPS / raw.seconds_for(STEPS, insert)


def against(
    limit: Callable[[raw.Connection], float],
    task: Task[[int], list[float]],
    *,
    slots: int,
    steps: int,
    autocommit: bool = True,
    steps_of: Mapping[str, int] = {},
) -> Callable[[Lab], AbstractContextManager[Measure]]:
    """Prepare a worker of so many slots, each with a job, beside one raw connection."""

    @contextmanager
    def prepare(lab: Lab) -> Iterator[Measure]:
        peers = {name: lab.rate_of(name, "steps", steps=n) for name, n in steps_of.items()}
        with (
            lab.worker("--slots", str(slots)),
            lab.connect(autocommit=autocommit) as connection,
        ):
            ours = {
                "ours": lambda: steps_per_second(task, jobs=slots, steps=steps),
                RAW: lambda: limit(connection),
            }

            def measure() -> Sample:
                return lab.compare(ours | peers)

            lab.compare(ours)  # to warm up

            yield measure

    return prepare


def row(title: str, *targets: Times, rivals: Sequence[str] = ()) -> Row:
    return Row(title=title, unit="/s", rivals=[RAW, *rivals], targets=targets)


DURABLE_STEPS = Benchmark(
    name="steps",
    warm_up=False,
    prepare=against(plain_inserts, take_steps, slots=1, steps=STEPS, steps_of=STEPS_OF),
    rows=[
        row(
            "durable steps, one slot",
            *(Times(0.75), Times(5, "dbos"), Times(1.5, "absurd")),
            rivals=list(STEPS_OF),
        )
    ],
)
ATOMIC_STEPS = Benchmark(
    name="atomic",
    warm_up=False,
    prepare=against(
        inserts_in_transactions, take_atomic_steps, slots=1, steps=STEPS, autocommit=False
    ),
    rows=[row("atomic steps, one slot", Times(0.75))],
)
MANY_SLOTS = Benchmark(
    name="slots",
    warm_up=False,
    prepare=against(plain_inserts, take_steps, slots=SLOTS, steps=STEPS_OF_ONE_IN_MANY),
    rows=[row(f"durable steps, {SLOTS} slots in one process", Times(2))],
)
