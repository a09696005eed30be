"""What the database says: while the demo runs, and when it is over. Queries only."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The shop's books and the bank's, when all is over."""

    orders: int
    orders_shipped: int
    jobs: int
    jobs_successful: int
    claims: int
    """How often a worker took up a job: once for each, and again for each that was taken back."""
    attempts: int
    charges: int
    orders_charged_once: int
    bank_calls: int
    stock_movements: int
    orders_moved_once: int
    mails: int
    orders_mailed_once: int
    shipments: int
    stock_opening: int
    stock_sold: int
    """The quantities of all orders."""
    stock_left: int
    wrong_shelves: int
    """Products whose stock is not the sum of its movements."""


BOOKS = """
    with orders as (
        select
            id, quantity, state,
            (select count(*) from shop_charge as charge
                where charge.reference = 'LC-' || lpad(shop_order.id::text, 5, '0')
                    and charge.amount = shop_order.total) as charges,
            (select count(*) from shop_stockmovement as movement
                where movement.order_id = shop_order.id) as movements,
            (select sum(-movement.quantity) from shop_stockmovement as movement
                where movement.order_id = shop_order.id) as moved,
            (select count(*) from shop_mail as mail
                where mail.order_id = shop_order.id) as mails
        from shop_order
    ),
    shelves as (
        select
            stock, coalesce(sum(movement.quantity), 0) as moved,
            coalesce(sum(movement.quantity) filter (where movement.quantity > 0), 0) as opening
        from shop_product as product
        left join shop_stockmovement as movement on movement.product_id = product.id
        group by product.id
    )
    select
        (select count(*) from orders) as orders,
        (select count(*) from orders where state = 'SHIPPED') as orders_shipped,
        (select count(*) from durable_job) as jobs,
        (select count(*) from durable_job where state = 'SUCCESSFUL') as jobs_successful,
        (select coalesce(sum(lease_token), 0) from durable_job)::int8 as claims,
        (select coalesce(sum(attempt), 0) from durable_job) as attempts,
        (select count(*) from shop_charge) as charges,
        (select count(*) from orders where charges = 1) as orders_charged_once,
        (select count(*) from shop_bankcall) as bank_calls,
        (select count(*) from shop_stockmovement where order_id is not null) as stock_movements,
        (select count(*) from orders where movements = 1 and moved = quantity)
            as orders_moved_once,
        (select count(*) from shop_mail) as mails,
        (select count(*) from orders where mails = 1) as orders_mailed_once,
        (select count(*) from shop_shipment) as shipments,
        (select coalesce(sum(opening), 0) from shelves)::int8 as stock_opening,
        (select coalesce(sum(quantity), 0) from orders) as stock_sold,
        (select coalesce(sum(stock), 0) from shelves) as stock_left,
        (select count(*) from shelves where stock <> moved) as wrong_shelves
"""


def read_books(session: Session) -> Books:
    books = session.cursor(row_factory=class_row(Books)).execute(BOOKS).fetchone()
    assert books is not None  # the query has one row
    return books


def _number(session: Session, query: LiteralString, *params: object) -> int:
    row = session.execute(query, params).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]
