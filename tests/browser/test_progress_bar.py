"""The bar in a browser: it moves with its job, and stops asking when the job is finished."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Response, Route
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

import django_durable
from django_durable.models import Job, JobState, Progress
from tests.admin.rows import job_in, rewritten
from tests.browser.conftest import Tab
from tests.scenarios.harness import eventually

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.browser.urls"),
]

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
COUNT = """
    window.asked = [];
    window.isAway = false;
    const fetchReally = window.fetch;
    window.fetch = (...question) => {
        window.asked.push(Date.now());
        if (window.isAway) return Promise.reject(new TypeError("the network is away"));
        return fetchReally(...question);
    };
"""
LISTEN = """() => {
    addEventListener("durable-progress-finished", (event) => { window.end = event.detail.state });
}"""
DEFINED = "() => customElements.whenDefined('durable-progress').then(() => true)"
BAR = """(number) => {
    const bar = document.querySelectorAll("durable-progress")[number];
    const inner = bar.querySelector("progress");
    return {
        value: inner.hasAttribute("value") ? inner.value : null,
        label: inner.getAttribute("aria-label"),
        spoken: inner.getAttribute("aria-valuetext"),
        words: bar.innerText.split("\\n").filter(Boolean),
        state: bar.getAttribute("state"),
        finished: bar.hasAttribute("finished"),
    };
}"""


def told(job: Job, done: int, total: int | None = 10, note: str = "") -> Job:
    """The job after it told how far it has come."""
    columns = {"done": done, "total": total, "note": note, "saved_at": job.enqueued_at}
    Progress.objects.filter(pk=job.pk).delete()
    Progress.objects.bulk_create([Progress(job_id=job.pk, **columns)])
    return job


class Watched:
    """The page, and what it asked for."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.answers: list[int] = []
        self.files: list[str] = []

    def note(self, response: Response) -> None:
        if "/durable/progress/" in response.url:
            self.answers.append(response.status)
        else:
            self.files.append(response.url.rpartition("/")[2])

    def bar(self, number: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.tab.do(lambda page: page.evaluate(BAR, number))
        return found

    def wait(self, seconds: int = 1) -> None:
        """Let time pass in which the bar asks once more, until it has an answer."""
        before = len(self.answers)

        def ask(page: Page) -> None:
            with page.expect_response("**/durable/progress/**"):
                page.clock.run_for(seconds * 1000)

        self.tab.do(ask)
        assert len(self.answers) == before + 1

    def shows(self, number: int = 0, **expected: Any) -> None:
        """Wait until a bar looks like this."""

        def fact() -> bool:
            return self.bar(number).items() >= expected.items()

        eventually(fact, f"bar {number} shows {expected}")

    def asked(self) -> list[float]:
        """When the bars asked."""
        times: list[float] = self.tab.do(lambda page: page.evaluate("window.asked"))
        return times

    def wait_for_nothing(self, seconds: int) -> None:
        """Let time pass in which the bar asks nothing."""
        before = self.asked()
        self.tab.do(lambda page: page.clock.run_for(seconds * 1000))
        assert self.asked() == before


def stop_the_clock(page: Page) -> None:
    """In what is opened from now on time passes only when a test says so."""
    page.clock.install(time=NOON)
    page.clock.pause_at(NOON + timedelta(hours=1))


@pytest.fixture
def shown(
    settings: Settings, live_server: LiveServer, new_tab: Callable[..., Tab]
) -> Callable[..., Watched]:
    """A function that opens the page about all jobs, with a clock that a test moves."""

    settings.STATIC_ROOT = Path(django_durable.__file__).parent / "static"

    def open_page(scheme: str = "light") -> Watched:
        watched = Watched(new_tab(scheme))
        watched.tab.do(lambda page: page.on("response", watched.note))
        watched.tab.do(lambda page: page.add_init_script(COUNT))
        watched.tab.do(stop_the_clock)
        watched.tab.do(lambda page: page.goto(f"{live_server.url}/jobs/"))
        watched.tab.do(lambda page: page.evaluate(DEFINED))
        return watched

    return open_page


def test_moves_with_its_job_and_stops_when_it_is_finished(shown: Callable[..., Watched]) -> None:
    job = told(job_in("RUNNING"), 3, note="reading lines")
    page = shown()
    assert page.bar() == {
        "value": 0.3,
        "label": "Import",
        "spoken": "3 of 10",
        "words": ["reading lines", "3 of 10", "running"],
        "state": "RUNNING",
        "finished": False,
    }

    told(job, 7, note="writing <b>rows</b>")
    page.wait()
    words = ["writing <b>rows</b>", "7 of 10", "running"]
    page.shows(value=0.7, spoken="7 of 10", words=words, finished=False)

    told(job, 9, note="")
    done = {"worker_id": None, "finished_at": job.enqueued_at}
    rewritten(job, state=JobState.SUCCESSFUL, encoded_return_value="1", **done)
    page.tab.do(lambda page: page.evaluate(LISTEN))
    page.wait()
    page.shows(value=1, state="SUCCESSFUL", words=["9 of 10", "successful"], finished=True)

    assert page.tab.do(lambda page: page.evaluate("window.end")) == "SUCCESSFUL"
    page.wait_for_nothing(seconds=120)
    assert page.tab.problems == []  # the page's policy forbids inline scripts and styles


def test_a_finished_job_is_not_asked_about(shown: Callable[..., Watched]) -> None:
    told(job_in("FAILED"), 3)
    job_in("CANCELLED")
    page = shown()

    assert [page.bar(0)["value"], page.bar(1)["value"]] == [0.3, 0]
    page.wait_for_nothing(seconds=120)


def test_several_bars_share_their_files_and_ask_for_themselves(
    shown: Callable[..., Watched],
) -> None:
    first, second = told(job_in("RUNNING"), 1), job_in("WAITING")
    page = shown()
    assert page.bar(1)["value"] is None
    assert page.files.count("progress.js") == page.files.count("progress.css") == 1

    told(first, 2)
    told(second, 1200, total=None)
    page.tab.do(lambda page: page.clock.run_for(1000))

    page.shows(0, value=0.2)
    page.shows(1, value=None, words=["1,200", "waiting"])


def test_asks_less_often_while_there_is_no_answer_and_goes_on_when_there_is(
    shown: Callable[..., Watched],
) -> None:
    job = told(job_in("RUNNING"), 1)
    page = shown()
    page.tab.do(lambda page: page.evaluate("window.isAway = true"))

    page.tab.do(lambda page: page.clock.run_for(100_000))

    asked = page.asked()  # the last time 91 seconds after the beginning
    pauses = [(later - earlier) / 1000 for earlier, later in pairwise(asked)]
    assert pauses == [2, 4, 8, 16, 30, 30]

    told(job, 5)
    page.tab.do(lambda page: page.evaluate("window.isAway = false"))
    page.wait(seconds=21)
    page.shows(value=0.5)
    page.wait(seconds=1)


def test_a_pruned_job_is_asked_about_once_more(shown: Callable[..., Watched]) -> None:
    job = told(job_in("RUNNING"), 1)
    page = shown()
    Job.objects.filter(pk=job.pk).delete()

    page.wait()

    assert page.answers == [404]
    page.wait_for_nothing(seconds=120)


def test_a_bar_that_left_the_page_asks_nothing(shown: Callable[..., Watched]) -> None:
    told(job_in("RUNNING"), 1)
    page = shown()

    page.tab.do(lambda page: page.evaluate("document.querySelector('main').remove()"))

    page.wait_for_nothing(seconds=120)


def test_nor_does_one_that_left_before_it_had_its_answer(shown: Callable[..., Watched]) -> None:
    told(job_in("RUNNING"), 1)
    page = shown()

    def leave(page: Page) -> None:
        def answer_late(route: Route) -> None:
            page.evaluate("document.querySelector('main').remove()")
            route.continue_()

        page.route("**/durable/progress/**", answer_late)
        with page.expect_response("**/durable/progress/**") as answered:
            page.clock.run_for(1000)
        answered.value.finished()

    page.tab.do(leave)

    page.wait_for_nothing(seconds=120)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_bar_has_colours_of_its_own_for_each_scheme(
    shown: Callable[..., Watched], scheme: str
) -> None:
    told(job_in("RUNNING"), 1)
    name = "--durable-progress-bar"

    colour = shown(scheme).tab.do(
        lambda page: page.evaluate(
            "(name) => getComputedStyle(document.querySelector('durable-progress'))"
            ".getPropertyValue(name)",
            name,
        )
    )

    assert colour == {"light": "#2563eb", "dark": "#60a5fa"}[scheme]
