"""Many calls at once: all are enqueued, or none, in a bounded number of statements.

Plain calls outside jobs are copied in, all in one statement; a few, and those inside a job, are
inserted, in one for each thousand. So are unique ones, in the order of their keys; those with an
idempotency key, and unique ones inside a job, go one by one in that order, so that two such
transactions rarely wait for each other in a circle. They do if a job in the way ends while its key
is looked at, or if they disagree on what becomes of it; then one of them is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, transaction

from django_durable.engine import context, copying, intake, uniqueness
from django_durable.engine.atomic import LeaseLost
from django_durable.engine.copying import Batch
from django_durable.engine.enqueueing import NewJob, Parent
from django_durable.engine.faults import is_repeatable
from django_durable.engine.inserting import as_job, insert, insert_calls, with_origin
from django_durable.engine.intake import Request, numbered
from django_durable.engine.run import ActiveStep, Ending, Run, Stop, active_step, require_run
from django_durable.exceptions import EnqueueError, InvalidOptionError, NotUniqueError

if TYPE_CHECKING:
    from django_durable.models import Job

MOST_TRIES = 5
"""How often all is enqueued anew that another transaction was in a circle with."""
CHUNK = 1000
"""Jobs in one INSERT."""

Jobs = dict[int, "Job"]
"""Jobs by the place of their calls among all."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What is to be enqueued: requests, and the rows of those that are not copied, by place."""

    alias: str
    requests: Sequence[Request]
    rows: dict[int, NewJob]
    copied: Batch

    @property
    def plain(self) -> list[int]:
        """The places of calls that nothing but a replay can meet."""
        others = {*self.keyed, *self.unique}
        return [i for i in self.rows if i not in others]

    @property
    def keyed(self) -> list[int]:
        """The places of calls with an idempotency key, in the order of the keys."""
        found = [i for i in self.rows if self.requests[i].task.idempotency_key is not None]
        return sorted(
            found, key=lambda i: (self.rows[i].task_path, self.requests[i].task.idempotency_key)
        )

    @property
    def unique(self) -> list[int]:
        """The places of unique calls, in the order of their keys."""
        found = [i for i, new in self.rows.items() if new.unique_key is not None]
        return sorted(found, key=lambda i: self.rows[i].unique_key or "")


def submit_many(requests: Sequence[Request]) -> list[Job]:
    """Enqueue many calls, all or none, and wake each queue once. Raises: BulkItemError."""
    if not requests:
        return []
    run = require_run("enqueue_many()")
    calls = _read(requests, run, copies=run is None and len(requests) >= copying.LEAST)
    jobs = _submit_outside_again(calls) if run is None else _submit_inside(run, calls)
    return [jobs[i] for i in range(len(requests))]


def _read(requests: Sequence[Request], run: Run | None, *, copies: bool) -> Calls:
    """Check and encode all calls, before anything is written. Raises: BulkItemError."""
    captured = context.capture()
    rows: dict[int, NewJob] = {}
    batch = Batch(captured)
    index = 0
    try:
        for index, request in enumerate(requests):
            if copies and is_plain(request.task):
                batch.add(index, request)
            else:
                rows[index] = intake.build_row(request, captured)
    except EnqueueError as error:
        with numbered(index, requests[index]):
            raise error from None
    return Calls(intake.database_of(requests[0].task, run), requests, rows, batch)


def is_plain(task: Any) -> bool:
    """Whether no other job can be in the way of a task's calls outside jobs."""
    return getattr(task, "unique", task) is None and task.idempotency_key is None


def _in_chunks(
    calls: Calls, places: Sequence[int], submit: Callable[[list[NewJob]], Sequence[Job]]
) -> Jobs:
    jobs: Jobs = {}
    for start in range(0, len(places), CHUNK):
        part = places[start : start + CHUNK]
        jobs |= zip(part, submit([calls.rows[i] for i in part]), strict=True)
    return jobs


# --- outside jobs


def _submit_outside_again(calls: Calls) -> Jobs:
    """All in one transaction or savepoint, so that after a deadlock it can be done anew."""
    for left in reversed(range(MOST_TRIES)):
        try:
            return _submit_outside(calls)
        except OperationalError as error:
            if not left or not is_repeatable(error):
                raise
    raise AssertionError("the last try returns or raises")


def _submit_outside(calls: Calls) -> Jobs:
    unique = calls.unique
    with transaction.atomic(using=calls.alias):
        jobs = copying.submit(calls.alias, calls.copied)
        jobs |= _in_chunks(calls, calls.plain, lambda rows: _insert(calls.alias, rows))
        for start in range(0, len(unique), CHUNK):
            jobs |= _submit_unique(calls, unique[start : start + CHUNK])
        for i in calls.keyed:
            with numbered(i, calls.requests[i]):
                jobs[i] = intake.submit_outside(calls.alias, calls.requests[i], calls.rows[i])
    return jobs


def _insert(alias: str, rows: list[NewJob]) -> list[Job]:
    inserted = insert(alias, rows, None)
    return [as_job(alias, new, inserted[new.id]) for new in rows]


def _submit_unique(calls: Calls, places: Sequence[int]) -> Jobs:
    found = uniqueness.submit_part(calls.alias, [calls.rows[i] for i in places])
    jobs: Jobs = {}
    for i, job in zip(places, found, strict=True):
        with numbered(i, calls.requests[i]):
            if isinstance(job, NotUniqueError):
                raise job
        jobs[i] = job
    return jobs


# --- inside a job


def _submit_inside(run: Run, calls: Calls) -> Jobs:
    """The same in one commit, exactly-once; repeated with the same identities if that fails."""
    step = active_step()
    placed = {i: with_origin(run, step, new) for i, new in calls.rows.items()}
    inside = replace(calls, rows={i: new for i, (_, new) in placed.items()})
    _check_refusals(run, step, inside)
    tries = count()
    try:
        jobs, answers = run.repeat(
            lambda: _submit_in_one_commit(run, step, inside, placed[0][0], again=next(tries) > 0)
        )
    except LeaseLost:
        run.stop(Ending(stop=Stop.LEASE_LOST))
    for i, answer in answers.items():
        jobs[i] = uniqueness.settle(run, inside.rows[i], answer)
    return jobs


def _check_refusals(run: Run, step: ActiveStep | None, calls: Calls) -> None:
    """Refuse what could end otherwise in a replay: that one of many was refused is kept nowhere."""
    if step is not None or run.in_task_transaction:
        return
    for i, new in calls.rows.items():
        if new.on_conflict == "reject":
            rule = calls.requests[i].task.unique
            reason = "between the steps of a job, enqueue a call one by one that may be rejected."
            with numbered(i, calls.requests[i]):
                raise InvalidOptionError(option="unique", value=rule, reason=reason)


def _submit_in_one_commit(
    run: Run, step: ActiveStep | None, calls: Calls, parent: Parent, *, again: bool
) -> tuple[Jobs, dict[int, uniqueness.Answer]]:
    answers: dict[int, uniqueness.Answer] = {}
    with transaction.atomic(using=calls.alias):
        jobs = _in_chunks(calls, calls.plain, lambda rows: insert_calls(run, step, parent, rows))
        for i in calls.unique:
            with numbered(i, calls.requests[i]):
                answers[i] = uniqueness.ask(run, step, parent, calls.rows[i], again=again)
        for i in calls.keyed:
            with numbered(i, calls.requests[i]):
                jobs[i] = intake.submit_inside(run, step, calls.requests[i], parent, calls.rows[i])
    return jobs, answers
