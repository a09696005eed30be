"""What a person sees."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from example_project.demo.display import Display, describe
from example_project.demo.evidence import Boot, Snapshot
from example_project.demo.proof import Finding
from tests.example_project.demo.conftest import StartSleeper


class DisplayTests:
    def make(self, *, is_terminal: bool) -> Display:
        file = io.StringIO()
        return Display(4, Console(file=file, width=100, force_terminal=is_terminal))

    def printed(self, display: Display) -> str:
        file = display.console.file
        assert isinstance(file, io.StringIO)
        return file.getvalue()

    def test_prints_plain_lines_now_and_then(
        self, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("example_project.demo.display.PLAIN_INTERVAL_SECONDS", 0)
        with self.make(is_terminal=False) as display:
            display.say("It begins.")
            display.show(snapshot, [])

        first, second = self.printed(display).splitlines()
        assert first.endswith(" s  It begins.")
        assert second.endswith("3 received, 1 on their way; 2 jobs run, 0 wait")

    def test_shows_a_live_view_on_a_terminal(
        self, snapshot: Snapshot, start_sleeper: StartSleeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "xterm")
        with self.make(is_terminal=True) as display:
            display.show(snapshot, [start_sleeper()])

        assert "3 received, 1 on their way, of 4" in self.printed(display)
        assert "Sleeper" in self.printed(display)

    def test_prints_the_proof_with_its_verdicts(self) -> None:
        display = self.make(is_terminal=False)

        display.show_proof(
            [
                Finding(section="Bank", subject="calls", found="5"),
                Finding(section="Bank", subject="charges", found="5", wanted="4", holds=False),
                Finding(section="Mails", subject="rows", found="4", wanted="4", holds=True),
            ]
        )

        words = [line.split() for line in self.printed(display).splitlines()]
        assert ["Bank", "calls", "5"] in words
        assert ["charges", "5", "4", "NO"] in words
        assert ["Mails", "rows", "4", "4", "yes"] in words

    def test_describes_what_became_of_a_worker(
        self, snapshot: Snapshot, start_sleeper: StartSleeper
    ) -> None:
        child = start_sleeper()
        boot = Boot(worker_id=1, pid=child.pid, is_lost=False, running=2)
        now = replace(snapshot, boots=[boot])
        lost = replace(snapshot, boots=[replace(boot, is_lost=True, running=0)])

        assert describe(child, snapshot).plain == "starting"
        assert describe(child, now).plain == "at work, runs 2 jobs"
        child.freeze()
        assert describe(child, now).plain == "frozen, holds 2 jobs"
        assert describe(child, lost).plain == "frozen, declared lost"
        child.kill()
        assert describe(child, lost).plain == "killed, declared lost"
