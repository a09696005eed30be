"""The proof is a function of the evidence: one piece that does not fit, and it does not hold."""

from dataclasses import replace

import pytest

from example_project.demo.books import Books, Invoices, Refunds, Sales, Stock, Waits
from example_project.demo.evidence import Loss
from example_project.demo.proof import Evidence, Finding, Wanted, failures, prove

BOOKS = Books(
    sales=Sales(
        orders=200,
        shipped=192,
        undone=8,
        at_their_price=200,
        jobs=200,
        jobs_successful=192,
        jobs_failed=8,
        claims=240,
        attempts=200,
        charge_calls=207,
        charges=200,
        charged_once=200,
        shipments=192,
        mails=200,
        mailed_once=200,
    ),
    stock=Stock(movements=208, moved_once=200, opening=4000, sold=400, left=3600, wrong_shelves=0),
    waits=Waits(notices=12, paid=8, events_taken=8, decided=6, granted=3, discounted=3),
    refunds=Refunds(calls=10, refunds=8, refunded_once=8),
    invoices=Invoices(invoices=38, right=38, missed=0, failed=2, summaries=1),
)
LOSS = Loss(is_lost=True, jobs=8, seconds_to_resume=0.9, late_writes=0)
EVIDENCE = Evidence(
    wanted=Wanted(orders=200, undone=8, paid=8, decided=6, invoices=38, failed_invoices=2),
    clicks=220,
    pages=200,
    manager_clicks=12,
    accepted=6,
    books=BOOKS,
    killed=LOSS,
    frozen=LOSS,
    killed_undoing=LOSS,
    survivors=2,
    stopped_well=2,
)


def find(findings: list[Finding], subject: str) -> Finding:
    (found,) = (finding for finding in findings if finding.subject == subject)
    return found


class ProveTests:
    def test_holds_when_everything_happened_once(self) -> None:
        assert failures(prove(EVIDENCE)) == []

    @pytest.mark.parametrize(
        ("book", "column", "value", "subjects"),
        [
            ("sales", "orders", 199, ["rows"]),
            ("sales", "shipped", 191, ["on their way"]),
            ("sales", "undone", 7, ["not possible, undone"]),
            ("sales", "at_their_price", 199, ["orders at their price"]),
            ("sales", "jobs", 201, ["rows"]),
            ("sales", "jobs_successful", 191, ["SUCCESSFUL"]),
            ("sales", "jobs_failed", 9, ["FAILED"]),
            ("sales", "attempts", 201, ["attempts"]),
            ("sales", "charges", 201, ["charges"]),
            ("sales", "charged_once", 199, ["orders charged exactly once"]),
            ("sales", "shipments", 191, ["shipments"]),
            ("sales", "mails", 201, ["about orders"]),
            ("sales", "mailed_once", 199, ["orders with exactly one"]),
            ("stock", "movements", 207, ["movements"]),
            ("stock", "moved_once", 199, ["orders that moved it once"]),
            ("stock", "left", 3599, ["left on the shelves"]),
            ("stock", "sold", 401, ["left on the shelves"]),
            ("stock", "wrong_shelves", 1, ["products that miscount it"]),
            ("waits", "paid", 7, ["orders paid by it"]),
            ("waits", "events_taken", 9, ["events that jobs took"]),
            ("waits", "decided", 5, ["decided"]),
            ("waits", "discounted", 4, ["discounts given"]),
            ("refunds", "refunds", 9, ["made"]),
            ("refunds", "refunded_once", 7, ["orders refunded exactly once"]),
            ("invoices", "invoices", 37, ["made"]),
            ("invoices", "right", 37, ["right, and mailed once"]),
            ("invoices", "missed", 1, ["orders forgotten"]),
            ("invoices", "failed", 3, ["failed, tolerated"]),
            ("invoices", "summaries", 2, ["summaries mailed"]),
        ],
    )
    def test_fails_when_the_books_differ(
        self, book: str, column: str, value: int, subjects: list[str]
    ) -> None:
        changed = replace(getattr(BOOKS, book), **{column: value})
        books = replace(BOOKS, **{book: changed})

        failed = failures(prove(replace(EVIDENCE, books=books)))

        assert [finding.subject for finding in failed] == subjects

    @pytest.mark.parametrize(
        ("worker", "section"),
        [
            ("killed", "Killed worker"),
            ("frozen", "Frozen worker"),
            ("killed_undoing", "Killed, undoing"),
        ],
    )
    @pytest.mark.parametrize(
        ("change", "subject"),
        [
            ({"is_lost": False}, "declared lost"),
            ({"jobs": 0}, "jobs taken back from it"),
            ({"seconds_to_resume": None}, "until one of them went on"),
            ({"late_writes": 1}, "late writes let in"),
        ],
    )
    def test_fails_when_a_worker_was_not_replaced(
        self, worker: str, section: str, change: dict[str, object], subject: str
    ) -> None:
        evidence = replace(EVIDENCE, **{worker: replace(LOSS, **change)})

        (failed,) = failures(prove(evidence))

        assert (failed.section, failed.subject) == (section, subject)

    def test_fails_when_a_double_click_made_another_order(self) -> None:
        (failed,) = failures(prove(replace(EVIDENCE, pages=201)))

        assert failed.subject == "pages the clicks led to"

    def test_fails_when_two_clicks_of_the_manager_counted(self) -> None:
        (failed,) = failures(prove(replace(EVIDENCE, accepted=7)))

        assert failed.subject == "clicks that counted"

    def test_fails_when_a_worker_did_not_stop(self) -> None:
        (failed,) = failures(prove(replace(EVIDENCE, stopped_well=1)))

        assert failed.section == "Other workers"

    def test_tells_repeated_calls_and_claims_without_judging_them(self) -> None:
        findings = prove(EVIDENCE)

        for subject, found in {
            "calls to charge a card": "207",
            "times one was claimed": "240",
            "times the bank told of one": "12",
            "calls to give money back": "10",
            "clicks of the manager": "12",
        }.items():
            finding = find(findings, subject)
            assert (finding.found, finding.holds) == (found, None)

    def test_says_how_long_it_took_to_go_on(self) -> None:
        found = [f.found for f in prove(EVIDENCE) if f.subject == "until one of them went on"]

        assert found == ["0.90 s"] * 3
