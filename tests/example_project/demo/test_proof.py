"""The proof is a function of the evidence: one piece that does not fit, and it does not hold."""

from dataclasses import replace

import pytest

from example_project.demo.evidence import Books, Loss
from example_project.demo.proof import Evidence, Finding, failures, prove

BOOKS = Books(
    orders=200,
    orders_shipped=200,
    jobs=200,
    jobs_successful=200,
    claims=216,
    attempts=200,
    charges=200,
    orders_charged_once=200,
    bank_calls=207,
    stock_movements=200,
    orders_moved_once=200,
    mails=200,
    orders_mailed_once=200,
    shipments=200,
    stock_opening=4000,
    stock_sold=400,
    stock_left=3600,
    wrong_shelves=0,
)
LOSS = Loss(is_lost=True, jobs=8, seconds_to_resume=0.9, late_writes=0)
EVIDENCE = Evidence(
    orders_wanted=200,
    clicks=220,
    pages=200,
    books=BOOKS,
    killed=LOSS,
    frozen=LOSS,
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
        ("column", "value", "subjects"),
        [
            ("orders", 199, ["rows", "movements", "orders with exactly one"]),
            ("orders_shipped", 199, ["on their way"]),
            ("jobs", 201, ["rows"]),
            ("jobs_successful", 199, ["SUCCESSFUL"]),
            ("attempts", 201, ["attempts"]),
            ("charges", 201, ["charges"]),
            ("orders_charged_once", 199, ["orders charged exactly once"]),
            ("shipments", 199, ["shipments"]),
            ("mails", 201, ["rows"]),
            ("orders_mailed_once", 199, ["orders with exactly one"]),
            ("stock_movements", 201, ["movements"]),
            ("orders_moved_once", 199, ["orders with exactly one"]),
            ("stock_left", 3599, ["left on the shelves"]),
            ("stock_sold", 401, ["left on the shelves"]),
            ("wrong_shelves", 1, ["products that miscount it"]),
        ],
    )
    def test_fails_when_the_books_differ(
        self, column: str, value: int, subjects: list[str]
    ) -> None:
        books = replace(BOOKS, **{column: value})

        failed = failures(prove(replace(EVIDENCE, books=books)))

        assert [finding.subject for finding in failed] == subjects

    @pytest.mark.parametrize("worker", ["killed", "frozen"])
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
        self, worker: str, change: dict[str, object], subject: str
    ) -> None:
        evidence = replace(EVIDENCE, **{worker: replace(LOSS, **change)})

        (failed,) = failures(prove(evidence))

        assert (failed.section, failed.subject) == (f"{worker.capitalize()} worker", subject)

    def test_fails_when_a_double_click_made_another_order(self) -> None:
        (failed,) = failures(prove(replace(EVIDENCE, pages=201)))

        assert failed.subject == "pages the clicks led to"

    def test_fails_when_a_worker_did_not_stop(self) -> None:
        (failed,) = failures(prove(replace(EVIDENCE, stopped_well=1)))

        assert failed.section == "Other workers"

    def test_tells_repeated_calls_and_claims_without_judging_them(self) -> None:
        findings = prove(EVIDENCE)

        calls, claims = find(findings, "calls it received"), find(findings, "times one was claimed")
        assert (calls.found, calls.holds) == ("207", None)
        assert (claims.found, claims.holds) == ("216", None)

    def test_says_how_long_it_took_to_go_on(self) -> None:
        found = [f.found for f in prove(EVIDENCE) if f.subject == "until one of them went on"]

        assert found == ["0.90 s", "0.90 s"]
