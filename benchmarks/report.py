"""The figures as a table for people, as JSON, and in the documentation."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from typing import Any

import django
import psycopg
from django.db import connection
from rich.console import Console
from rich.table import Table

from benchmarks.database import ROOT
from benchmarks.measuring import Figure, Row

PAGE = ROOT / "docs" / "benchmarks.md"
FOLDER = ROOT / "docs" / "benchmarks"
BEGIN, END = "<!-- results: written by `make bench` -->", "<!-- end of results -->"
HEADINGS = ("what", "ours", "raw limit", "ours / raw", "target", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A row with its figure."""

    benchmark: str
    row: Row
    figure: Figure

    @property
    def verdict(self) -> str:
        return "ok" if self.row.target.is_met(self.figure) else "MISS"

    def cells(self) -> tuple[str, ...]:
        figure, unit = self.figure, self.row.unit
        return (
            self.row.title,
            show(figure.ours, unit),
            "" if figure.raw is None else show(figure.raw, unit),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            str(self.row.target),
            self.verdict,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "what": self.row.title,
            "unit": self.row.unit,
            "ours": round(self.figure.ours, 3),
            "raw": self.figure.raw and round(self.figure.raw, 3),
            "ratio": self.figure.ratio and round(self.figure.ratio, 3),
            "target": str(self.row.target),
            "verdict": self.verdict,
            "runs": [round(value, 3) for value in self.figure.samples],
        }


def show(value: float, unit: str) -> str:
    """A value as people read it: `3 120 /s`, `1.84 ms`."""
    digits = 0 if value >= 100 or value == int(value) else 2
    return f"{value:,.{digits}f} {unit}".replace(",", " ").strip()


def circumstances() -> dict[str, Any]:
    """Where and with what the figures were measured."""
    version = connection.pg_version
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cpus": cpu_count(),
        "postgresql": f"{version // 10000}.{version % 10000}",
        "python": platform.python_version(),
        "django": django.get_version(),
        "psycopg": psycopg.__version__,
    }


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def print_table(results: Sequence[Result]) -> None:
    table = Table(*HEADINGS, title="Benchmarks")
    for result in results:
        table.add_row(*result.cells(), style="" if result.verdict == "ok" else "bold red")
    Console().print(table)


def publish(results: Sequence[Result], where: dict[str, Any]) -> None:
    """Write the JSON file, and the table between its marks in the documentation's page."""
    FOLDER.mkdir(exist_ok=True)
    content = {"measured": where, "results": [result.as_json() for result in results]}
    (FOLDER / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    table = f"{BEGIN}\n{as_markdown(results, where)}\n{END}"
    PAGE.write_text(f"{before}{table}{after}", encoding="utf-8")


def as_markdown(results: Sequence[Result], where: dict[str, Any]) -> str:
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(result.cells() for result in results)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n{summary(where)}"


def summary(where: dict[str, Any]) -> str:
    return (
        f"Measured on {where['date']}: {where['machine']}, {where['cpus']} x {where['cpu']}, "
        f"PostgreSQL {where['postgresql']}, Python {where['python']}, Django {where['django']}, "
        f"psycopg {where['psycopg']}."
    )
