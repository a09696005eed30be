"""What the database says while the demo runs. Queries only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row

Session = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One registration of a worker process, and how many jobs it runs."""

    worker_id: int
    pid: int
    is_lost: bool
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far everything is."""

    orders: dict[str, int]
    """Orders by state."""
    jobs: dict[str, int]
    """Jobs of orders by state."""
    boots: list[Boot]

    def boot_of(self, pid: int) -> Boot | None:
        """The latest registration of a process."""
        found = [boot for boot in self.boots if boot.pid == pid]
        return found[-1] if found else None

    @property
    def finished(self) -> int:
        return sum(self.jobs.get(state, 0) for state in ("SUCCESSFUL", "FAILED", "CANCELLED"))


BOOTS = """
    select
        worker.id as worker_id, worker.pid, worker.lost_at is not null as is_lost,
        count(job.id) as running
    from durable_worker as worker
    left join durable_job as job on job.worker_id = worker.id and job.state = 'RUNNING'
    group by worker.id order by worker.started_at
"""


def take_snapshot(session: Session) -> Snapshot:
    orders = session.execute("select state, count(*) from shop_order group by state").fetchall()
    jobs = session.execute(
        "select state, count(*) from durable_job where queue_name = 'orders' group by state"
    ).fetchall()
    boots = session.cursor(row_factory=class_row(Boot)).execute(BOOTS).fetchall()
    return Snapshot(orders=_counts(orders), jobs=_counts(jobs), boots=boots)


def _counts(rows: list[tuple[Any, ...]]) -> dict[str, int]:
    return dict(rows)


# A job in its most delicate moment: the bank has charged, but the job has not yet written it down.
UNSAVED_CHARGES = """
    select count(*)
    from durable_job as job
    join shop_order on shop_order.id::text = job.subject_key
    join shop_charge as charge
        on charge.reference = 'LC-' || lpad(shop_order.id::text, 5, '0')
    where job.worker_id = %s and job.state = 'RUNNING' and job.subject_type = 'shop.order'
        and not exists (
            select from durable_checkpoint as saved
            where saved.job_id = job.id and saved.identity = 'charge_card'
        )
"""


def count_unsaved_charges(session: Session, worker_id: int) -> int:
    return _number(session, UNSAVED_CHARGES, worker_id)


# And the same on the way back: the bank has returned the money, and the job does not know it yet.
UNSAVED_REFUNDS = """
    select job.worker_id
    from durable_job as job
    join shop_order on shop_order.id::text = job.subject_key
    join shop_charge as charge
        on charge.reference = 'LC-' || lpad(shop_order.id::text, 5, '0')
    join shop_refund as refund on refund.charge_id = charge.id
    where job.state = 'RUNNING' and job.subject_type = 'shop.order' and job.ends_as is not null
        and exists (
            select from durable_checkpoint as charged
            where charged.job_id = job.id and charged.identity = 'charge_card'
                and charged.state = 'SUCCESSFUL'
        )
    limit 1
"""


def find_unsaved_refund(session: Session) -> int | None:
    """A worker that has undone a charge at the bank, and has not yet written that down."""
    row = session.execute(UNSAVED_REFUNDS).fetchone()
    if row is None:
        return None
    assert isinstance(row[0], int)
    return row[0]


def find_unpaid(session: Session) -> list[str]:
    """The pages of the orders that wait for a payment on the bank's page."""
    rows = session.execute("select key from shop_order where state = 'UNPAID'").fetchall()
    return [f"/orders/{key}/" for (key,) in rows]


OPEN_QUESTIONS = "select count(*) from durable_approval where closed_at is null"


def count_open_questions(session: Session) -> int:
    return _number(session, OPEN_QUESTIONS)


IS_BATCH_OVER = """
    select count(*) from durable_job
    where queue_name = 'invoices' and parent_id is null and state = 'SUCCESSFUL'
"""


def is_batch_over(session: Session) -> bool:
    """Whether the invoices are made."""
    return _number(session, IS_BATCH_OVER) == 1


def read_clock(session: Session) -> datetime:
    row = session.execute("select clock_timestamp()").fetchone()
    assert row is not None
    assert isinstance(row[0], datetime)
    return row[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What became of a worker's jobs after it was struck."""

    is_lost: bool
    """Whether it was declared lost."""
    jobs: int
    """Jobs it held, which were taken back."""
    seconds_to_resume: float | None
    """From the blow to the next claim of one of them."""
    late_writes: int
    """Rows that it wrote after it was declared lost."""


LOSS = """
    with lost as (
        select attempt.job_id, attempt.lease_token, worker.lost_at
        from durable_attempt as attempt
        join durable_worker as worker on worker.id = attempt.worker_id
        where attempt.worker_id = %(worker_id)s and attempt.outcome = 'LOST'
    ),
    -- the next claim's number is one higher; its time stands in the job, or, if that
    -- claim was lost too, in an attempt
    next_claim as (
        select job.claimed_at from durable_job as job
        join lost on lost.job_id = job.id and job.lease_token = lost.lease_token + 1
        union all
        select attempt.claimed_at from durable_attempt as attempt
        join lost on lost.job_id = attempt.job_id and attempt.lease_token = lost.lease_token + 1
    )
    select
        (select lost_at is not null from durable_worker where id = %(worker_id)s) as is_lost,
        (select count(*) from lost) as jobs,
        (
            select extract(epoch from min(claimed_at) - %(struck_at)s::timestamptz)::float8
            from next_claim
        ) as seconds_to_resume,
        (
            select count(*) from durable_checkpoint as saved
            join lost on lost.job_id = saved.job_id and lost.lease_token = saved.lease_token
            where saved.saved_at > lost.lost_at
        ) + (
            select count(*) from durable_job as job
            join lost on lost.job_id = job.id and lost.lease_token = job.lease_token
        ) as late_writes
"""


def read_loss(session: Session, worker_id: int, struck_at: datetime) -> Loss:
    """What became of a worker that was struck at a time of the database's clock."""
    cursor = session.cursor(row_factory=class_row(Loss))
    cursor.execute(LOSS, {"worker_id": worker_id, "struck_at": struck_at})
    loss = cursor.fetchone()
    assert loss is not None  # the query has one row
    return loss


def _number(session: Session, query: LiteralString, *params: object) -> int:
    row = session.execute(query, params).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]
