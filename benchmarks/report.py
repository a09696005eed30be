"""The figures as a table for people, as JSON, and in the documentation."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
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
from benchmarks.measuring import Figure, Rival, Row
from benchmarks.peers import TITLES, Peer

PAGE = ROOT / "docs" / "benchmarks.md"
FOLDER = ROOT / "docs" / "benchmarks"
BEGIN, END = "<!-- results: written by `make bench` -->", "<!-- end of results -->"
MET, MISSED, UNKNOWN = "ok", "MISS", "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A row with its figure, or with why there is none."""

    benchmark: str
    row: Row
    figure: Figure | None = None
    why: str = ""
    remark: str = ""

    @property
    def title(self) -> str:
        return f"{self.row.title} ({self.remark})" if self.remark else self.row.title

    @property
    def verdict(self) -> str:
        """One target missed is a miss; one that could not be judged leaves the verdict open."""
        if self.figure is None:
            return UNKNOWN
        answers = [target.is_met(self.figure) for target in self.row.targets]
        if False in answers:
            return MISSED
        return UNKNOWN if None in answers else MET

    @property
    def targets(self) -> str:
        return ", ".join(str(target) for target in self.row.targets)

    @property
    def has_peers(self) -> bool:
        return any(name in TITLES for name in self.row.rivals)

    def cell(self, name: str) -> str:
        """What another one reached, and ours over theirs."""
        if name not in self.row.rivals:
            return ""
        rival = self.figure.rivals.get(name) if self.figure else None
        return "-" if rival is None else f"{show(rival.value, '')} ({show_ratio(rival)})"

    def cells(self, peers: Sequence[str]) -> tuple[str, ...]:
        ours = show(self.figure.ours, self.row.unit) if self.figure else self.why
        others = [self.reference_cell(bare=bool(peers)), *(self.cell(name) for name in peers)]
        return (self.title, ours, *others, self.targets, self.verdict)

    def reference_cell(self, *, bare: bool) -> str:
        """What it is measured beside that is no peer; ``bare`` under a heading that names it."""
        name = self.row.reference
        if name is None:
            return ""
        return self.cell(name) if bare else f"{self.row.beside}: {self.cell(name)}"

    def as_json(self) -> dict[str, Any]:
        figure = self.figure
        return {
            "benchmark": self.benchmark,
            "what": self.title,
            "unit": self.row.unit,
            "ours": figure and round(figure.ours, 3),
            "rivals": {
                name: {"value": round(rival.value, 3), "ratio": round(rival.ratio, 3)}
                for name, rival in (figure.rivals.items() if figure else ())
            },
            "target": self.targets,
            "verdict": self.verdict,
            "why": self.why,
            "runs": [round(value, 3) for value in (figure.samples if figure else ())],
        }


def show(value: float, unit: str) -> str:
    """A value as people read it: `3 120 /s`, `1.84 ms`."""
    digits = 0 if value >= 100 or value == int(value) else 2
    return f"{value:,.{digits}f} {unit}".replace(",", " ").strip()


def show_ratio(rival: Rival) -> str:
    digits = 2 if rival.ratio < 10 else 0
    return f"{rival.ratio:.{digits}f} x"


def circumstances(peers: Iterable[Peer]) -> dict[str, Any]:
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
        "peers": {
            peer.title: peer.problem or ", ".join([*peer.versions(), *peer.programs])
            for peer in peers
        },
    }


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def tables(results: Sequence[Result]) -> list[list[tuple[str, ...]]]:
    """The rows with peers and those without, each under its headings."""
    made = []
    for peers, beside in ((list(TITLES), "raw limit"), ([], "beside")):
        chosen = [result for result in results if result.has_peers == bool(peers)]
        if chosen:
            headings = ("what", "ours", beside, *(TITLES[name] for name in peers), "target", "")
            made.append([headings, *(result.cells(peers) for result in chosen)])
    return made


def print_table(results: Sequence[Result], where: dict[str, Any]) -> None:
    table = Table("what", "ours", "others (ours / theirs)", "target", "", title="Benchmarks")
    for result in results:
        row = result.row
        what, ours, reference, targets, verdict = result.cells([])
        lines = [reference] if reference else []
        asked = [name for name in row.rivals if TITLES.get(name) in where["peers"]]
        lines += [f"{TITLES[name]}: {result.cell(name)}" for name in asked]
        style = "bold red" if verdict == MISSED else ""
        table.add_row(what, ours, "\n".join(lines), targets, verdict, style=style)
    Console().print(table)
    print(summary(where))


def publish(results: Sequence[Result], where: dict[str, Any]) -> None:
    """Write the JSON file, and the tables between their marks in the documentation's page."""
    FOLDER.mkdir(exist_ok=True)
    content = {"measured": where, "results": [result.as_json() for result in results]}
    (FOLDER / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    written = f"{BEGIN}\n{as_markdown(results, where)}\n{END}"
    PAGE.write_text(f"{before}{written}{after}", encoding="utf-8")


def as_markdown(results: Sequence[Result], where: dict[str, Any]) -> str:
    parts = []
    for headings, *lines in tables(results):
        rows = [headings, ("---",) * len(headings), *lines]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in rows))
    return "\n\n".join([*parts, summary(where)])


def summary(where: dict[str, Any]) -> str:
    peers = "; ".join(f"{title}: {what}" for title, what in where["peers"].items())
    return (
        f"Measured on {where['date']}: {where['machine']}, {where['cpus']} x {where['cpu']}, "
        f"PostgreSQL {where['postgresql']}, Python {where['python']}, Django {where['django']}, "
        f"psycopg {where['psycopg']}." + (f" {peers}." if peers else "")
    )
