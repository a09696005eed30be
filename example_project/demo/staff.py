"""The shop's staff: a manager who decides about discounts, and somebody who sends the invoices."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

from example_project.demo.errors import DemoError
from example_project.demo.pages import Browser, Page

P = ParamSpec("P")
T = TypeVar("T")

APPROVALS = "/durable/approvals/"
OFFICE = "/office/"
LOGIN = "/admin/login/"
YES = {"_approve": "1", "percent": "10"}
NO = {"_reject": "1", "reason": "We earn too little on it."}
CLICKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with a password."""

    username: str
    password: str

    def sign_in(self, port: int, page: str) -> Browser:
        """A browser that may see the page. Raises: DemoError."""
        browser = Browser(port=port)
        form = Page(browser.get(f"{LOGIN}?next={page}")).form()
        typed = {"username": self.username, "password": self.password, "next": page}
        if browser.post(LOGIN, form.hidden | typed) != page:
            raise DemoError(f"The shop did not let {self.username} in.")
        return browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a manager clicked, and what the shop said to it."""

    clicks: int
    accepted: int


def decide(port: int, manager: Person) -> Decided:
    """Answer all open questions, yes and no in turn."""
    browser = manager.sign_in(port, APPROVALS)
    links = Page(browser.get(APPROVALS)).links
    questions = [link for link in links if link.startswith(APPROVALS) and link != APPROVALS]
    accepted = sum(
        answer(browser, question, [YES, NO][number % 2])
        for number, question in enumerate(questions)
    )
    return Decided(clicks=len(questions) * CLICKS, accepted=accepted)


def answer(browser: Browser, question: str, typed: dict[str, str]) -> int:
    """Open a question and click twice at the same time; how many clicks the shop accepted."""
    form = Page(browser.get(question)).form()

    def click(_: int) -> bool:
        return browser.try_post(question, form.hidden | typed) is not None

    with ThreadPoolExecutor(CLICKS) as fingers:
        return sum(fingers.map(click, range(CLICKS)))


def send_invoices(port: int, person: Person) -> str:
    """Begin the batch in the office; its page."""
    browser = person.sign_in(port, OFFICE)
    form = Page(browser.get(OFFICE)).form("/invoices/")
    return browser.post(form.action, form.hidden)


class Errand(Generic[T]):
    """Something that one of them does in the background."""

    def __init__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        pool = ThreadPoolExecutor(1, thread_name_prefix=function.__name__)
        self._future = pool.submit(function, *args, **kwargs)
        pool.shutdown(wait=False)

    def look(self, _: object = None) -> T | None:
        """What came of it, or None while it is under way. Raises: what went wrong."""
        return self._future.result() if self._future.done() else None
