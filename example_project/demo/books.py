"""The shop's books and the bank's, when all is over. Queries only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString, TypeVar

from psycopg.rows import class_row

from example_project.demo.evidence import Session

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sales:
    """What became of the orders, and of what was done for them."""

    orders: int
    shipped: int
    undone: int
    at_their_price: int
    """Orders whose total is the product's price, less what the manager granted."""
    jobs: int
    jobs_successful: int
    jobs_failed: int
    claims: int
    """How often a worker took up a job: once for each, and again after a wait or a loss."""
    attempts: int
    charge_calls: int
    charges: int
    charged_once: int
    shipments: int
    mails: int
    mailed_once: int


SALES = """
    with orders as (
        select
            state, shop_order.total,
            product.price * quantity * (100 - discount) / 100 as price,
            (select count(*) from shop_charge as charge
                where charge.reference = 'LC-' || lpad(shop_order.id::text, 5, '0')
                    and charge.amount = shop_order.total) as charges,
            (select count(*) from shop_mail as mail
                where mail.order_id = shop_order.id) as mails
        from shop_order join shop_product as product on product.id = product_id
    ),
    jobs as (select * from durable_job where queue_name = 'orders')
    select
        (select count(*) from orders) as orders,
        (select count(*) from orders where state = 'SHIPPED') as shipped,
        (select count(*) from orders where state = 'RETURNED') as undone,
        (select count(*) from orders where total = round(price, 2)) as at_their_price,
        (select count(*) from jobs) as jobs,
        (select count(*) from jobs where state = 'SUCCESSFUL') as jobs_successful,
        (select count(*) from jobs where state = 'FAILED') as jobs_failed,
        (select coalesce(sum(lease_token), 0) from jobs)::int8 as claims,
        (select coalesce(sum(attempt), 0) from jobs) as attempts,
        (select count(*) from shop_bankcall where wish = 'charge') as charge_calls,
        (select count(*) from shop_charge) as charges,
        (select count(*) from orders where charges = 1) as charged_once,
        (select count(*) from shop_shipment where recalled_at is null) as shipments,
        (select count(*) from shop_mail where order_id is not null) as mails,
        (select count(*) from orders where mails = 1) as mailed_once
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What left the shelves, and what came back."""

    movements: int
    moved_once: int
    """Orders on their way that took what was ordered in one movement, and undone ones that took it
    in one and brought it back in one."""
    opening: int
    sold: int
    """The quantities of all orders on their way."""
    left: int
    wrong_shelves: int
    """Products whose stock is not the sum of its movements."""


STOCK = """
    with orders as (
        select
            state, quantity,
            array(select movement.quantity from shop_stockmovement as movement
                where movement.order_id = shop_order.id order by movement.id) as moved
        from shop_order
    ),
    shelves as (
        select
            stock, coalesce(sum(movement.quantity), 0) as moved,
            coalesce(sum(movement.quantity) filter (where order_id is null), 0) as opening
        from shop_product as product
        left join shop_stockmovement as movement on movement.product_id = product.id
        group by product.id
    )
    select
        (select count(*) from shop_stockmovement where order_id is not null) as movements,
        (
            select count(*) from orders
            where moved = case
                when state = 'RETURNED' then array[-quantity, quantity] else array[-quantity]
            end
        ) as moved_once,
        (select coalesce(sum(opening), 0) from shelves)::int8 as opening,
        (select coalesce(sum(quantity), 0) from orders where state = 'SHIPPED') as sold,
        (select coalesce(sum(stock), 0) from shelves) as left,
        (select count(*) from shelves where stock <> moved) as wrong_shelves
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What orders waited for: payments that the bank told by webhook, and a manager's answers."""

    notices: int
    """Times that the bank told of a payment: more than payments, since it tells some twice."""
    paid: int
    """Orders on their way that were paid on the bank's page."""
    events_taken: int
    decided: int
    """Questions with an answer."""
    granted: int
    discounted: int
    """Orders with a discount."""


WAITS = """
    select
        (select count(*) from shop_banknotice) as notices,
        (select count(*) from shop_order where payment <> '' and state = 'SHIPPED') as paid,
        (select count(*) from durable_message where taken_as = 'event:paid') as events_taken,
        (select count(*) from durable_approval where approved is not null) as decided,
        (select count(*) from durable_approval where approved) as granted,
        (select count(*) from shop_order where discount > 0) as discounted
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunds:
    """What the bank gave back."""

    calls: int
    refunds: int
    refunded_once: int
    """Undone orders whose charge was given back by one refund."""


REFUNDS = """
    with undone as (
        select
            (select count(*) from shop_refund as refund
                join shop_charge as charge on charge.id = refund.charge_id
                where charge.reference = 'LC-' || lpad(shop_order.id::text, 5, '0')) as refunds
        from shop_order where state = 'RETURNED'
    )
    select
        (select count(*) from shop_bankcall where wish = 'refund') as calls,
        (select count(*) from shop_refund) as refunds,
        (select count(*) from undone where refunds = 1) as refunded_once
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoices:
    """What the office sent."""

    invoices: int
    right: int
    """Invoices over what their orders cost, of which there is one mail."""
    missed: int
    """Orders on their way that are on no invoice, though a mail would arrive."""
    failed: int
    """Children of the batch that failed: it goes on without them."""
    summaries: int


INVOICES = """
    with invoices as (
        select
            invoice.total, sum(shop_order.total) as cost,
            (select count(*) from shop_mail
                where subject = 'Invoice INV-' || lpad(invoice.id::text, 5, '0')) as mails
        from shop_invoice as invoice left join shop_order on shop_order.invoice_id = invoice.id
        group by invoice.id
    )
    select
        (select count(*) from invoices) as invoices,
        (select count(*) from invoices where total = cost and mails = 1) as right,
        (
            select count(*) from shop_order
            where state = 'SHIPPED' and invoice_id is null and email not like '%.invalid'
        ) as missed,
        (
            select count(*) from durable_job
            where queue_name = 'invoices' and parent_id is not null and state = 'FAILED'
        ) as failed,
        (select count(*) from shop_mail where subject = 'The customers are billed') as summaries
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All of them."""

    sales: Sales
    stock: Stock
    waits: Waits
    refunds: Refunds
    invoices: Invoices


def read_books(session: Session) -> Books:
    return Books(
        sales=_read(session, Sales, SALES),
        stock=_read(session, Stock, STOCK),
        waits=_read(session, Waits, WAITS),
        refunds=_read(session, Refunds, REFUNDS),
        invoices=_read(session, Invoices, INVOICES),
    )


def _read(session: Session, book: type[T], query: LiteralString) -> T:
    found = session.cursor(row_factory=class_row(book)).execute(query).fetchone()
    assert found is not None  # each query has one row
    return found
