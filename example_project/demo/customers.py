"""Customers with browsers: they open a page of the shop and send its form, some of them twice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from example_project.demo.pages import Browser, Page

BROWSERS = 8
CUSTOMERS = 40
WITHOUT_MAIL = 2
"""Customers at whose address no mail arrives."""


USUAL = {"card": "card_good", "address": "12 Orchard Lane", "discount_wish": ""}


class Way(Enum):
    """How somebody orders: the field that they fill in otherwise than most, and with what."""

    CARD = "card", "card_good"
    BANK = "card", ""
    DISCOUNT = "discount_wish", "I drink it every day."
    NOWHERE = "address", "1 Nowhere Road"

    @property
    def fields(self) -> dict[str, str]:
        name, value = self.value
        return USUAL | {name: value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What a customer is about to order, and how often they click on the button."""

    number: int
    page: str
    quantity: int
    clicks: int
    way: Way = Way.CARD

    @property
    def email(self) -> str:
        customer = self.number % CUSTOMERS
        ending = "invalid" if customer < WITHOUT_MAIL else "com"
        return f"customer{customer}@example.{ending}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Where the answers to the clicks led: one order's page, however often one clicks."""

    pages: tuple[str, ...]


def plan_purchases(
    pages: Sequence[str], *, orders: int, double_clicks: int, ways: dict[Way, int]
) -> list[Purchase]:
    """Orders spread over the products; the double clicks are spread over the orders.

    ``ways`` says how many order in a special way; these come first.
    """
    special = [way for way, count in ways.items() for _ in range(count)]
    twice = set(random.sample(range(orders), double_clicks))
    return [
        Purchase(
            number=number,
            page=pages[number % len(pages)],
            quantity=random.randint(1, 3),
            clicks=2 if number in twice else 1,
            way=special[number] if number < len(special) else Way.CARD,
        )
        for number in range(orders)
    ]


def buy(port: int, purchase: Purchase) -> Receipt:
    """Open the product's page and send its form, the clicks at the same time."""
    browser = Browser(port=port)
    form = Page(browser.get(purchase.page)).form("/order/")
    typed = {"quantity": str(purchase.quantity), "email": purchase.email}
    fields = form.hidden | typed | purchase.way.fields
    with ThreadPoolExecutor(purchase.clicks) as fingers:
        pages = fingers.map(lambda _: browser.post(form.action, fields), range(purchase.clicks))
        return Receipt(pages=tuple(pages))


def find_products(port: int) -> list[str]:
    """The products' pages, as the shop's first page links to them."""
    links = Page(Browser(port=port).get("/")).links
    return sorted({link for link in links if link.startswith("/products/")})


def pay_at_bank(port: int, pages: Sequence[str]) -> int:
    """Open the orders' pages, and pay each at the bank; how many."""
    for page in pages:
        browser = Browser(port=port)
        form = Page(browser.get(page)).form("/pay/")
        browser.post(form.action, form.hidden)
    return len(pages)


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
