"""Many plain calls in one statement: COPY, whose lines are made while the server takes them in.

Plain is a call outside jobs that is not unique and has no idempotency key: nothing can be in its
way, so the clock alone decides what its row says. Calls of one kind differ in their arguments only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connections

from django_durable.conf import get_settings
from django_durable.engine import enqueueing, intake
from django_durable.engine.enqueueing import Inserted, NewJob, end_of_lines, uuids7
from django_durable.engine.inserting import as_job
from django_durable.engine.rows import like_jobs

if TYPE_CHECKING:
    from django_durable.engine.intake import Request
    from django_durable.models import Job

LEAST = 50
"""Fewer calls are inserted: to ask for the time first is then not worth it."""
LINES = 200
"""Lines handed to the driver at once."""
_NIL = UUID(int=0)


@dataclass(slots=True)
class Kind:
    """Calls that differ in their arguments only: their places among all, and the arguments."""

    row: NewJob
    places: list[int] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)


class Batch:
    """Plain calls, kind by kind."""

    def __init__(self, captured: str | None) -> None:
        self._captured = captured
        self._kinds: dict[tuple[int, str | None], Kind] = {}
        self.places: list[int] = []

    def add(self, place: int, request: Request) -> None:
        """Raises: EnqueueError."""
        task = request.task
        has_own_key = task.limit is not None and task.limit.key is not None
        kind = None if has_own_key else self._kinds.get((id(task), None))
        if kind is None:
            kind = self._kind_of(request, has_own_key=has_own_key)
        kind.arguments.append(intake.encode_call(task, request.args, request.kwargs))
        kind.places.append(place)

    def _kind_of(self, request: Request, *, has_own_key: bool) -> Kind:
        columns = intake.columns_of(request, self._captured)
        key = (id(request.task), columns["limit_key"] if has_own_key else None)
        if key not in self._kinds:
            self._kinds[key] = Kind(NewJob(id=_NIL, arguments="", **columns))
        return self._kinds[key]

    @property
    def kinds(self) -> list[Kind]:
        return [kind for kind in self._kinds.values() if kind.places]


def submit(alias: str, batch: Batch) -> dict[int, Job]:
    """Enqueue plain calls in the transaction that is open; the jobs by the places of their calls.

    Ids ascend with the places, so that calls that are due together are claimed in their order.
    """
    kinds = batch.kinds
    if not kinds:
        return {}
    queues = {kind.row.queue_name for kind in kinds}
    notified = [name for name in sorted(queues) if get_settings().notifies(name)]
    connection = connections[alias]
    decided = enqueueing.decide_jobs(connection, [kind.row for kind in kinds], notified)
    ids = iter(_ids_of(kinds))
    parts = [
        part
        for kind, one in zip(kinds, decided, strict=True)
        for part in _parts_of(alias, kind, one)
    ]
    jobs: dict[int, Job] = {}

    def lines() -> Iterator[str]:
        """The lines; the server reads some while their jobs are made."""
        for like, end, part in parts:
            own = list(islice(ids, len(part.places)))
            yield _lines_of(part, own, end)
            jobs.update(zip(part.places, like_jobs(like, own, part.arguments), strict=True))

    enqueueing.copy_jobs(connection, lines())
    return jobs


def _ids_of(kinds: Sequence[Kind]) -> list[UUID]:
    """An id for each call, kind by kind."""
    places = [place for kind in kinds for place in kind.places]
    ids = uuids7(len(places))
    if len(kinds) == 1:
        return ids
    known = dict(zip(sorted(places), ids, strict=True))
    return [known[place] for place in places]


Part = tuple["Job", str, Kind]
"""A row like those of a kind, the end of its lines, and some of its calls."""


def _parts_of(alias: str, kind: Kind, decided: Inserted) -> Iterator[Part]:
    like, end = as_job(alias, kind.row, decided), end_of_lines(kind.row, decided)
    for start in range(0, len(kind.places), LINES):
        some = slice(start, start + LINES)
        yield like, end, Kind(kind.row, kind.places[some], kind.arguments[some])


def _lines_of(part: Kind, ids: Sequence[UUID], end: str) -> str:
    return "".join(
        [
            f"{job_id.int:032x}\t{_escaped(text)}{end}"
            for job_id, text in zip(ids, part.arguments, strict=True)
        ]
    )


def _escaped(text: str) -> str:
    """Of what COPY reads otherwise JSON has the backslash alone."""
    return text.replace("\\", r"\\") if "\\" in text else text
