"""Customers with browsers: they open a page of the shop and send its form, some of them twice."""

from __future__ import annotations

import http.client
import random
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from example_project.demo.errors import DemoError

BROWSERS = 8
TIMEOUT_SECONDS = 30
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What a customer is about to order, and how often they click on the button."""

    number: int
    page: str
    quantity: int
    clicks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Where the answers to the clicks led: one order's page, however often one clicks."""

    pages: tuple[str, ...]


def plan_purchases(pages: Sequence[str], *, orders: int, double_clicks: int) -> list[Purchase]:
    """Orders spread over the products; the double clicks are spread over the orders."""
    twice = set(random.sample(range(orders), double_clicks))
    return [
        Purchase(
            number=number,
            page=pages[number % len(pages)],
            quantity=random.randint(1, 3),
            clicks=2 if number in twice else 1,
        )
        for number in range(orders)
    ]


class Form(HTMLParser):
    """The form of a page: where it is sent, and its hidden fields."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.action = ""
        self.hidden: dict[str, str] = {}
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given["action"]
        elif tag == "a":
            self.links.append(given["href"])
        elif tag == "input" and given.get("type") == "hidden":
            self.hidden[given["name"]] = given["value"]


@dataclass(slots=True, kw_only=True)
class Browser:
    """One customer's browser: it keeps the cookies it is given."""

    port: int
    cookies: SimpleCookie = field(default_factory=SimpleCookie)

    def get(self, path: str) -> str:
        status, _, body = self._ask("GET", path)
        if status != http.client.OK:
            raise DemoError(f"The shop answered GET {path} with {status}:\n{body[:500]}")
        return body

    def post(self, path: str, fields: dict[str, str]) -> str:
        """Send a form; where the answer leads."""
        status, location, body = self._ask("POST", path, urlencode(fields))
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


def buy(port: int, purchase: Purchase) -> Receipt:
    """Open the product's page and send its form, the clicks at the same time."""
    browser = Browser(port=port)
    form = Form(browser.get(purchase.page))
    fields = form.hidden | {
        "quantity": str(purchase.quantity),
        "email": f"customer{purchase.number}@example.com",
        "card": "card_good",
    }
    with ThreadPoolExecutor(purchase.clicks) as fingers:
        pages = fingers.map(lambda _: browser.post(form.action, fields), range(purchase.clicks))
        return Receipt(pages=tuple(pages))


def find_products(port: int) -> list[str]:
    """The products' pages, as the shop's first page links to them."""
    links = Form(Browser(port=port).get("/")).links
    return sorted({link for link in links if link.startswith("/products/")})


class Crowd:
    """Customers who buy at the same time, in the background; leaving sends the rest home."""

    def __init__(self, port: int, purchases: Sequence[Purchase]) -> None:
        self._pool = ThreadPoolExecutor(BROWSERS, thread_name_prefix="customer")
        self._futures: list[Future[Receipt]] = [
            self._pool.submit(buy, port, purchase) for purchase in purchases
        ]

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def receipts(self) -> list[Receipt] | None:
        """All receipts, or None while somebody is still buying. Raises: what went wrong."""
        for future in self._futures:
            if future.done():
                future.result()
        if all(future.done() for future in self._futures):
            return [future.result() for future in self._futures]
        return None
