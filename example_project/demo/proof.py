"""What has to hold, and whether it does: a function of the evidence alone."""

from __future__ import annotations

from dataclasses import dataclass

from example_project.demo.books import Books
from example_project.demo.evidence import Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the story wants to come out."""

    orders: int
    undone: int
    """Orders of those who live nowhere."""
    paid: int
    """Orders that are paid on the bank's page."""
    decided: int
    """Orders with a discount to decide about."""
    invoices: int
    failed_invoices: int

    @property
    def shipped(self) -> int:
        return self.orders - self.undone


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the proof looks at."""

    wanted: Wanted
    clicks: int
    """Answers to the customers' clicks: more than orders, since some clicked twice."""
    pages: int
    """Different order pages that those answers led to."""
    manager_clicks: int
    accepted: int
    """Clicks of the manager of which the shop said that they count."""
    books: Books
    killed: Loss
    frozen: Loss
    killed_undoing: Loss
    survivors: int
    stopped_well: int
    """Workers that were told to stop at the end, and those of them that did, with status 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the proof: what was looked at, of what section."""

    section: str
    subject: str
    found: str
    wanted: str = ""
    holds: bool | None = None
    """None: only told."""

    def __str__(self) -> str:
        return f"{self.section}: {self.subject}: {self.found} instead of {self.wanted}"


def prove(evidence: Evidence) -> list[Finding]:
    """Compare what was found with what was wanted."""
    return [
        *_orders(evidence),
        *_effects(evidence),
        *_waits(evidence),
        *_undoing(evidence),
        *_invoices(evidence),
        *_loss("Killed worker", evidence.killed),
        *_loss("Frozen worker", evidence.frozen),
        *_loss("Killed, undoing", evidence.killed_undoing),
        _exactly("Other workers", "stopped when told", evidence.stopped_well, evidence.survivors),
    ]


def failures(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.holds is False]


def _orders(evidence: Evidence) -> list[Finding]:
    sales, wanted = evidence.books.sales, evidence.wanted
    return [
        _tell("Orders", "clicks on the button", evidence.clicks),
        _exactly("Orders", "pages the clicks led to", evidence.pages, wanted.orders),
        _exactly("Orders", "rows", sales.orders, wanted.orders),
        _exactly("Orders", "on their way", sales.shipped, wanted.shipped),
        _exactly("Orders", "not possible, undone", sales.undone, wanted.undone),
        _exactly("Jobs", "rows", sales.jobs, wanted.orders),
        _exactly("Jobs", "SUCCESSFUL", sales.jobs_successful, wanted.shipped),
        _exactly("Jobs", "FAILED", sales.jobs_failed, wanted.undone),
        _exactly("Jobs", "attempts", sales.attempts, wanted.orders),
        _tell("Jobs", "times one was claimed", sales.claims),
    ]


def _effects(evidence: Evidence) -> list[Finding]:
    sales, stock, wanted = evidence.books.sales, evidence.books.stock, evidence.wanted
    movements = wanted.orders + wanted.undone
    return [
        _tell("Bank", "calls to charge a card", sales.charge_calls),
        _exactly("Bank", "charges", sales.charges, wanted.orders),
        _exactly("Bank", "orders charged exactly once", sales.charged_once, wanted.orders),
        _exactly("Parcels", "shipments", sales.shipments, wanted.shipped),
        _exactly("Mails", "about orders", sales.mails, wanted.orders),
        _exactly("Mails", "orders with exactly one", sales.mailed_once, wanted.orders),
        _exactly("Stock", "movements", stock.movements, movements),
        _exactly("Stock", "orders that moved it once", stock.moved_once, wanted.orders),
        _exactly("Stock", "left on the shelves", stock.left, stock.opening - stock.sold),
        _exactly("Stock", "products that miscount it", stock.wrong_shelves, 0),
    ]


def _waits(evidence: Evidence) -> list[Finding]:
    waits, wanted = evidence.books.waits, evidence.wanted
    priced = evidence.books.sales.at_their_price
    return [
        _tell("Webhook", "times the bank told of one", waits.notices),
        _exactly("Webhook", "orders paid by it", waits.paid, wanted.paid),
        _exactly("Webhook", "events that jobs took", waits.events_taken, wanted.paid),
        _tell("Approvals", "clicks of the manager", evidence.manager_clicks),
        _exactly("Approvals", "clicks that counted", evidence.accepted, wanted.decided),
        _exactly("Approvals", "decided", waits.decided, wanted.decided),
        _exactly("Approvals", "discounts given", waits.discounted, waits.granted),
        _exactly("Approvals", "orders at their price", priced, wanted.orders),
    ]


def _undoing(evidence: Evidence) -> list[Finding]:
    refunds, wanted = evidence.books.refunds, evidence.wanted
    return [
        _tell("Refunds", "calls to give money back", refunds.calls),
        _exactly("Refunds", "made", refunds.refunds, wanted.undone),
        _exactly("Refunds", "orders refunded exactly once", refunds.refunded_once, wanted.undone),
    ]


def _invoices(evidence: Evidence) -> list[Finding]:
    found, wanted = evidence.books.invoices, evidence.wanted
    return [
        _exactly("Invoices", "made", found.invoices, wanted.invoices),
        _exactly("Invoices", "right, and mailed once", found.right, wanted.invoices),
        _exactly("Invoices", "orders forgotten", found.missed, 0),
        _exactly("Invoices", "failed, tolerated", found.failed, wanted.failed_invoices),
        _exactly("Invoices", "summaries mailed", found.summaries, 1),
    ]


def _loss(section: str, loss: Loss) -> list[Finding]:
    seconds = loss.seconds_to_resume
    return [
        Finding(
            section=section,
            subject="declared lost",
            found="yes" if loss.is_lost else "no",
            wanted="yes",
            holds=loss.is_lost,
        ),
        Finding(
            section=section,
            subject="jobs taken back from it",
            found=f"{loss.jobs}",
            wanted="some",
            holds=loss.jobs > 0,
        ),
        Finding(
            section=section,
            subject="until one of them went on",
            found="never" if seconds is None else f"{seconds:.2f} s",
            holds=seconds is not None,
        ),
        _exactly(section, "late writes let in", loss.late_writes, 0),
    ]


def _tell(section: str, subject: str, found: int) -> Finding:
    return Finding(section=section, subject=subject, found=f"{found}")


def _exactly(section: str, subject: str, found: int, wanted: int) -> Finding:
    return Finding(
        section=section,
        subject=subject,
        found=f"{found}",
        wanted=f"{wanted}",
        holds=found == wanted,
    )
