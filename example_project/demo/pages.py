"""A browser, as far as it is needed: it reads pages, sends their forms and keeps its cookies."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from example_project.demo.errors import DemoError

TIMEOUT_SECONDS = 30
FORM = "application/x-www-form-urlencoded"


@dataclass(slots=True, kw_only=True)
class Form:
    """A form of a page: where it is sent, and its hidden fields."""

    action: str
    hidden: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """The links and forms of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(action=given.get("action", "")))
        elif tag == "a":
            self.links.append(given.get("href", ""))
        elif tag == "input" and given.get("type") == "hidden" and self.forms:
            self.forms[-1].hidden[given["name"]] = given["value"]

    def form(self, ending: str = "") -> Form:
        """The form whose address ends so. Raises: DemoError if there is none."""
        for form in self.forms:
            if form.action.endswith(ending):
                return form
        raise DemoError(f"The page has no form for {ending}, only {self.forms}.")


@dataclass(slots=True, kw_only=True)
class Browser:
    """One person's browser: it keeps the cookies it is given."""

    port: int
    cookies: SimpleCookie = field(default_factory=SimpleCookie)

    def get(self, path: str) -> str:
        status, _, body = self._ask("GET", path)
        if status != http.client.OK:
            raise DemoError(f"The shop answered GET {path} with {status}:\n{body[:500]}")
        return body

    def post(self, path: str, fields: dict[str, str]) -> str:
        """Send a form; where the answer leads."""
        location = self.try_post(path, fields)
        if location is None:
            raise DemoError(f"The shop answered POST {path} with {http.client.CONFLICT}.")
        return location

    def try_post(self, path: str, fields: dict[str, str]) -> str | None:
        """Send a form; where the answer leads, or None if the shop says that it came too late."""
        status, location, body = self._ask("POST", path, urlencode(fields))
        if status == http.client.CONFLICT:
            return None
        if status != http.client.FOUND:
            raise DemoError(f"The shop answered POST {path} with {status}:\n{body[:500]}")
        return location

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str, str]:
        headers = {"Content-Type": FORM} if body else {}
        if self.cookies:
            cookies = (f"{name}={morsel.value}" for name, morsel in self.cookies.items())
            headers["Cookie"] = "; ".join(cookies)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        for header in answer.headers.get_all("Set-Cookie", []):
            self.cookies.load(header)
        return answer.status, answer.headers.get("Location", ""), text
