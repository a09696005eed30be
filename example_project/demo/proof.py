"""What has to hold, and whether it does: a function of the evidence alone."""

from __future__ import annotations

from dataclasses import dataclass

from example_project.demo.evidence import Books, Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the proof looks at."""

    orders_wanted: int
    clicks: int
    """Answers to the customers' clicks: more than orders, since some clicked twice."""
    pages: int
    """Different order pages that those answers led to."""
    books: Books
    killed: Loss
    frozen: Loss
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
    books, wanted = evidence.books, evidence.orders_wanted
    return [
        *_orders(evidence),
        *_jobs(books, wanted),
        *_effects(books, wanted),
        *_stock(books),
        *_loss("Killed worker", evidence.killed),
        *_loss("Frozen worker", evidence.frozen),
        _exactly("Other workers", "stopped when told", evidence.stopped_well, evidence.survivors),
    ]


def failures(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.holds is False]


def _orders(evidence: Evidence) -> list[Finding]:
    books, wanted = evidence.books, evidence.orders_wanted
    return [
        _tell("Orders", "clicks on the button", f"{evidence.clicks}"),
        _exactly("Orders", "pages the clicks led to", evidence.pages, wanted),
        _exactly("Orders", "rows", books.orders, wanted),
        _exactly("Orders", "on their way", books.orders_shipped, wanted),
    ]


def _jobs(books: Books, wanted: int) -> list[Finding]:
    return [
        _exactly("Jobs", "rows", books.jobs, wanted),
        _exactly("Jobs", "SUCCESSFUL", books.jobs_successful, wanted),
        _exactly("Jobs", "attempts", books.attempts, wanted),
        _tell("Jobs", "times one was claimed", f"{books.claims}"),
    ]


def _effects(books: Books, wanted: int) -> list[Finding]:
    return [
        _tell("Bank", "calls it received", f"{books.bank_calls}"),
        _exactly("Bank", "charges", books.charges, wanted),
        _exactly("Bank", "orders charged exactly once", books.orders_charged_once, wanted),
        _exactly("Parcels", "shipments", books.shipments, wanted),
        _exactly("Mails", "rows", books.mails, wanted),
        _exactly("Mails", "orders with exactly one", books.orders_mailed_once, wanted),
    ]


def _stock(books: Books) -> list[Finding]:
    expected = books.stock_opening - books.stock_sold
    return [
        _exactly("Stock", "movements", books.stock_movements, books.orders),
        _exactly("Stock", "orders with exactly one", books.orders_moved_once, books.orders),
        _exactly("Stock", "left on the shelves", books.stock_left, expected),
        _exactly("Stock", "products that miscount it", books.wrong_shelves, 0),
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


def _tell(section: str, subject: str, found: str) -> Finding:
    return Finding(section=section, subject=subject, found=found)


def _exactly(section: str, subject: str, found: int, wanted: int) -> Finding:
    return Finding(
        section=section,
        subject=subject,
        found=f"{found}",
        wanted=f"{wanted}",
        holds=found == wanted,
    )
