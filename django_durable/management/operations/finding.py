"""What an operation found out, with the cure."""

from __future__ import annotations

from dataclasses import dataclass

from django_durable.management.operations.output import Output, printable

OK, WARN, FAIL = "OK", "WARN", "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact worth telling. ``code`` is for programs and stays; the words are for people.

    ``level`` is the doctor's: whether something is in order, worth a look, or wrong.
    """

    code: str
    says: str
    cure: str | None = None
    level: str = OK


def say_cure(output: Output, finding: Finding, *, indent: str) -> None:
    if finding.cure:
        output.line(f"{indent}Cure: {printable(finding.cure)}")
