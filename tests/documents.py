"""The documentation as tests see it: pages, their code blocks and links, and a shell that types."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Self

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PATIENCE = 90.0
ANSWER = "typed, exit status "


def pages() -> list[Path]:
    """The README and every page that is written by hand."""
    built = DOCS / "_build"
    found = [page for page in sorted(DOCS.rglob("*.md")) if built not in page.parents]
    return [ROOT / "README.md", *found]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block. ``line`` is that of its first line in the page."""

    page: Path
    language: str
    line: int
    text: str

    @property
    def code(self) -> CodeType:
        """The compiled block; errors name the page and its line."""
        return compile("\n" * (self.line - 1) + self.text, name_of(self.page), "exec")

    @property
    def file(self) -> str | None:
        """The file that a block says it is, in a comment that is its first line."""
        match = re.match(r"# ([\w./]+\.\w+)(: add at the end)?\n", self.text)
        return match and match[1]

    @property
    def is_addition(self) -> bool:
        return self.text.splitlines()[0].endswith(": add at the end")


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, in order."""
    found: list[Block] = []
    fence, start, info = "", 0, ""
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        mark = re.match(r"\s*(`{3,})(.*)", line)
        if mark is None:
            continue
        if not fence:
            fence, info, start = mark[1], mark[2].strip(), number
        elif mark[1].startswith(fence) and not mark[2].strip():
            text = "\n".join(lines[start : number - 1]) + "\n"
            found.append(Block(page, info, start + 1, text))
            fence = ""
    assert not fence, f"{name_of(page)}:{start}: a block is never closed"
    return [block for block in found if block.language in languages or not languages]


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^(`{3,}).*?^\1\s*$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> Iterator[tuple[str, str]]:
    """The target and the anchor of each link that stays within the project."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", prose_of(page)):
        if not re.match(r"\w+:", target):
            yield target, anchor


def named_tests(page: Path) -> list[str]:
    return re.findall(r"\btests/[\w/]+\.py(?:::\w+)+", page.read_text())


def anchors_of(page: Path) -> set[str]:
    """What can stand behind ``#`` in a link to a page: its headings and explicit targets."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    slugs = {
        re.sub(r"[^\w\- ]", "", h.replace("`", "").lower()).replace(" ", "-") for h in headings
    }
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", page.read_text(), re.MULTILINE))


def run_cases_in(namespace: dict[str, Any]) -> unittest.TestResult:
    """Run the test cases that a page declares."""
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(value)
        for value in namespace.values()
        if isinstance(value, type)
        and issubclass(value, unittest.TestCase)
        and value.__module__ == namespace["__name__"]
    )
    return suite.run(unittest.TestResult())


@dataclass(frozen=True, slots=True)
class Command:
    """A line typed into a console, and the lines that the page shows below it."""

    block: Block
    text: str
    shown: tuple[str, ...]


def commands_of(block: Block) -> Iterator[Command]:
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not parts[0], (
        f"{name_of(block.page)}:{block.line}: a console block begins with a command"
    )
    for part in parts[1:]:
        typed, *shown = part.splitlines()
        while typed.endswith("\\"):
            typed += "\n" + shown.pop(0)
        yield Command(block, typed, tuple(line for line in shown if line.strip()))


class Shell:
    """A shell into which a page's commands are typed, one after the other.

    After each it waits until the lines that the page shows have come, in their order. ``...`` in a
    shown line stands for anything, and so does what comes before and after it.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._answers: queue.Queue[str] = queue.Queue()
        self._seen: list[str] = []
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment | {"PATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join()
        with self._process:
            pass

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answers = self._answers if line.startswith(ANSWER) else self._lines
            answers.put(line.rstrip("\n"))

    def type(self, command: Command) -> None:
        """Type a command. Raises: AssertionError if it fails, or a shown line does not come.

        What the page has installed by pip is there already.
        """
        if command.text.startswith("pip install"):
            return
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command.text}\necho {ANSWER}$?\n")
        for line in command.shown:
            pattern = re.compile(".*".join(re.escape(part) for part in line.strip().split("...")))
            while not pattern.search(self._next(self._lines, command, line)):
                pass
        assert self._next(self._answers, command, "its end") == f"{ANSWER}0", self._told(command)

    def _next(self, lines: "queue.Queue[str]", command: Command, awaited: str) -> str:
        try:
            line = lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"Never came: {awaited}\n{self._told(command)}") from None
        self._seen.append(line)
        return line

    def _told(self, command: Command) -> str:
        where = f"{name_of(command.block.page)}:{command.block.line}"
        return "\n".join([f"{where}: $ {command.text}", *self._seen[-60:]])
