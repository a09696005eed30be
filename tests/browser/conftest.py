"""A real browser: the system's Chromium, driven from a thread of its own.

Playwright runs an event loop in the thread that uses it, and on one Django refuses its database.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

T = TypeVar("T")
PATIENCE = 45_000.0  # milliseconds
Scheme = Literal["light", "dark"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass(frozen=True)
class Tab:
    """One page of the browser. ``do`` runs a function on it in the browser's thread."""

    thread: ThreadPoolExecutor
    page: Page
    problems: list[str] = field(default_factory=list)
    """What the browser complained about: errors of scripts, and what the page's policy forbids."""

    def do(self, work: Callable[[Page], T]) -> T:
        return self.thread.submit(work, self.page).result(100)


@pytest.fixture(scope="session")
def _browser() -> Iterator[tuple[ThreadPoolExecutor, Browser]]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise pytest.UsageError("Tests of pages need Chromium: apt-get install chromium.")
    with ThreadPoolExecutor(1) as thread:
        driver: Playwright = thread.submit(sync_playwright().start).result()
        options: dict[str, Any] = {"executable_path": program, "args": ["--no-sandbox"]}
        options["timeout"] = 90_000.0
        browser = thread.submit(driver.chromium.launch, **options).result()
        yield thread, browser
        thread.submit(browser.close).result()
        thread.submit(driver.stop).result()


@pytest.fixture
def new_tab(_browser: tuple[ThreadPoolExecutor, Browser]) -> Iterator[Callable[..., Tab]]:
    """A function that opens a page with nothing in it, in a light or a dark browser."""
    thread, browser = _browser
    tabs: list[Tab] = []

    def open_tab(scheme: Scheme = "light") -> Tab:
        options: dict[str, Any] = {
            "color_scheme": scheme,
            "viewport": {"width": 480, "height": 400},
        }
        page = thread.submit(browser.new_page, **options).result()
        tab = Tab(thread, page)
        tabs.append(tab)

        def listen(page: Page) -> None:
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: tab.problems.append(str(error)))
            page.on("console", lambda m: m.type == "error" and tab.problems.append(m.text))

        tab.do(listen)
        return tab

    yield open_tab
    for tab in tabs:
        tab.do(lambda page: page.close())
