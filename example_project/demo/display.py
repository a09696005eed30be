"""What a person sees: a live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from example_project.demo.evidence import Snapshot
from example_project.demo.processes import Child
from example_project.demo.proof import Finding

PLAIN_INTERVAL_SECONDS = 2.0
STATES = {
    "PLACED": "received",
    "ACCEPTED": "accepted",
    "UNPAID": "unpaid",
    "PACKING": "being packed",
    "SHIPPED": "on their way",
    "RETURNED": "undone",
}


class Display:
    """Says what happens, and shows how far it is."""

    def __init__(self, total: int = 0, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._total = total
        self._begin = time.monotonic()
        self._live: Live | None = None
        self._last_line = self._begin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_view()

    def _end_view(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begin

    def say(self, text: str) -> None:
        """Tell an event; it stays on the screen."""
        self.console.print(Text.assemble((f"{self.elapsed:5.1f} s  ", "dim"), text))

    def show(self, snapshot: Snapshot, children: Sequence[Child]) -> None:
        """Show how far it is; later calls replace it."""
        if self.console.is_terminal:
            self._show_view(self._view(snapshot, children))
        elif time.monotonic() - self._last_line >= PLAIN_INTERVAL_SECONDS:
            self._last_line = time.monotonic()
            running = sum(boot.running for boot in snapshot.boots)
            waiting = snapshot.jobs.get("WAITING", 0)
            self.say(f"       {self._counts(snapshot)}; {running} jobs run, {waiting} wait")

    def _show_view(self, view: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self.console, transient=True, refresh_per_second=10)
            self._live.start()
        self._live.update(view)

    def _counts(self, snapshot: Snapshot) -> str:
        found = ((snapshot.orders.get(state, 0), word) for state, word in STATES.items())
        return ", ".join(f"{count} {word}" for count, word in found if count) or "no orders"

    def _view(self, snapshot: Snapshot, children: Sequence[Child]) -> RenderableType:
        done = snapshot.orders.get("SHIPPED", 0) + snapshot.orders.get("RETURNED", 0)
        grid = Table.grid(padding=(0, 2))
        grid.add_row("Orders", ProgressBar(self._total, done, width=44))
        grid.add_row("", f"{self._counts(snapshot)}, of {self._total}")
        for child in children:
            grid.add_row(child.name.capitalize(), describe(child, snapshot))
        return Group("", grid)

    def show_proof(self, findings: Sequence[Finding]) -> None:
        """Print the proof as a table, section by section."""
        self._end_view()
        self.say("This is what the database holds.")
        table = Table("", "", box=SIMPLE_HEAD, pad_edge=False)
        for title in ("Found", "Wanted", "Holds"):
            table.add_column(title, justify="right", no_wrap=True)
        section = ""
        for finding in findings:
            if finding.section != section:
                table.add_section()
            title = finding.section if finding.section != section else ""
            section = finding.section
            word, style = _VERDICTS[finding.holds]
            verdict = Text(word, style=style)
            table.add_row(title, finding.subject, finding.found, finding.wanted, verdict)
        self.console.print(table)


_VERDICTS: dict[bool | None, tuple[str, str]] = {
    True: ("yes", "green"),
    False: ("NO", "bold red"),
    None: ("", ""),
}


def describe(child: Child, snapshot: Snapshot) -> Text:
    """A worker's state in a few words."""
    boot = snapshot.boot_of(child.pid)
    lost = ", declared lost" if boot and boot.is_lost else ""
    holds = f", holds {boot.running} jobs" if boot and boot.running else ""
    if child.is_killed:
        return Text(f"killed{lost}{holds}", style="red")
    if child.is_frozen:
        return Text(f"frozen{lost}{holds}", style="cyan")
    if boot is None:
        return Text("starting", style="dim")
    return Text(f"at work, runs {boot.running} jobs{lost}", style="green")
