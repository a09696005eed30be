"""Questions to people: asked under a job's lease, answered once, closed when nobody waits any more.

Who answers, and the wait that times out, take turns on the row of the wait's event, which is locked
first; then comes the question's own row. What decides is read in a statement after that.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce

from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.options import ENGINE_KEYS
from django_durable.engine.rows import approvals as rows
from django_durable.engine.rows import checkpoints, jobs
from django_durable.engine.sql import Connection, execute, fetch_one, load
from django_durable.engine.states import CheckpointState

ASK_APPROVAL = load("ask_approval")
READ_APPROVAL = load("read_approval")
LOCK_APPROVAL = load("lock_approval")
ANSWER_APPROVAL = load("answer_approval")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a job asks. The deadline is a time, or counts from the first asking, or is not there."""

    job_id: UUID
    lease_token: int
    identity: str
    title: str
    form_path: str | None
    group_name: str | None
    permission: str | None
    subject_type: str | None
    subject_key: str | None
    deadline_at: datetime | None
    deadline: timedelta | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it stands in its row. The deadline is that of the first asking."""

    deadline_at: datetime | None
    is_closed: bool
    """Closed without an answer."""
    decision: str | None
    """The answer, as the wait's checkpoint keeps it."""


def event_key(job_id: UUID, identity: str) -> str:
    """The event that a wait ends with. Users cannot emit it: see ``check_event_key``."""
    return f"{ENGINE_KEYS}approval/{job_id}/{identity}"


def find_question(connection: Connection, job_id: UUID, identity: str) -> Asked | None:
    row = fetch_one(connection, READ_APPROVAL, {"job_id": job_id, "identity": identity})
    return None if row is None else Asked(*row)


def ask(connection: Connection, question: Question) -> Asked | None:
    """Write a question, or open it again; None: the lease is lost. Idempotent."""
    execute(connection, ASK_APPROVAL, asdict(question))
    return find_question(connection, question.job_id, question.identity)


def lock_question(connection: Connection, approval_id: int) -> bool:
    """Lock a question, after the row of its event; whether it is there. In a transaction."""
    return fetch_one(connection, LOCK_APPROVAL, {"id": approval_id}) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody says to a question. ``answer`` is an encoded value."""

    id: int
    approved: bool
    answer: str
    answered_by_key: str
    answered_by_name: str


def write_answer(connection: Connection, answer: Answer) -> None:
    """Write an answer to a question that is locked and was found open."""
    execute(connection, ANSWER_APPROVAL, asdict(answer))


def close_timed_out(alias: str, job_id: UUID, identity: str) -> None:
    """Mark a question closed whose wait times out in this transaction."""
    unanswered = rows(alias).filter(job_id=job_id, identity=identity, approved__isnull=True)
    unanswered.update(closed_at=StatementTimestamp())


def close_some(alias: str, *, limit: int) -> int:
    """Mark up to ``limit`` questions closed that nobody waits for any more; how many.

    One transaction, which locks them (skip locked), then their jobs, and looks again after that: a
    job that is retried either comes first, or finds its question closed and opens it.
    """
    with transaction.atomic(using=alias):
        dead = rows(alias).dead().order_by("requested_at")[:limit]
        locked = dead.select_for_update(skip_locked=True, no_key=True)
        found = {row.pk: row.job_id for row in locked.only("pk", "job_id")}
        if not found:
            return 0
        held = jobs(alias).filter(pk__in=found.values()).order_by("pk")
        list(held.select_for_update(no_key=True).values_list("pk"))
        return close(list(found), alias)


def close(ids: list[int], alias: str) -> int:
    """Mark those of some locked questions closed that nobody waits for any more; how many."""
    wait = checkpoints(alias).filter(job_id=OuterRef("job_id"), identity=OuterRef("identity"))
    over = wait.exclude(state=CheckpointState.STARTED)
    job = jobs(alias).filter(pk=OuterRef("job_id"))
    closed_at = Coalesce(
        Subquery(over.values("saved_at")),
        Subquery(job.values("finished_at")),
        StatementTimestamp(),
    )
    return rows(alias).dead().filter(pk__in=ids).update(closed_at=closed_at)
