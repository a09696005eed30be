"""A shop whose network is instant, with something on the shelf."""

import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from django_durable import RetryPolicy
from example_project.shop import network
from example_project.shop.bank import Card
from example_project.shop.models import Order, Product, StockMovement
from example_project.shop.orders import Wish, place_order
from example_project.shop.tasks.fulfilment import MANAGERS

MakeOrder = Callable[..., Order]
PAUSE = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _instant_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing takes time, and what is posted goes to the test client."""

    def travel(usual: timedelta) -> None:
        assert usual > timedelta(0)

    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        path = urlsplit(url).path
        answer = Client().post(path, body, content_type="application/json", headers=headers)
        return answer.status_code

    monkeypatch.setattr(network, "travel", travel)
    monkeypatch.setattr(network, "post", post)


@pytest.fixture(autouse=True)
def _long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be tried again is due in an hour: by chance it would be due at once."""
    next_delay = RetryPolicy.next_delay

    def wait(
        policy: RetryPolicy,
        error: BaseException,
        *,
        tries: int,
        elapsed: timedelta,
        now: datetime,
    ) -> timedelta | None:
        delay = next_delay(policy, error, tries=tries, elapsed=elapsed, now=now)
        return None if delay is None else PAUSE

    monkeypatch.setattr(RetryPolicy, "next_delay", wait)


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of the loopback address that is taken, so that nobody else will ever answer there."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port: int = deaf.getsockname()[1]
        yield port


@pytest.fixture
def product(db: None) -> Product:
    """A cup of which there are five."""
    cup = Product.objects.create(
        name="Rain Cup", slug="rain-cup", kind=Product.Kind.CUP, description="Blue.", price="16.00"
    )
    StockMovement.record(cup, 5)
    cup.refresh_from_db()
    return cup


@pytest.fixture
def make_order(product: Product) -> MakeOrder:
    """Places an order: of two cups, by a good card, unless asked for something else."""

    def make(**changes: object) -> Order:
        wish: dict[str, object] = {
            "key": uuid.uuid4(),
            "product": product,
            "quantity": 2,
            "email": "ada@example.com",
            "card": Card.GOOD,
        }
        return place_order(Wish(**wish | changes))

    return make


@pytest.fixture
def manager(db: None) -> User:
    """Somebody who decides about discounts."""
    user = User.objects.create_user("mia", password="secret", is_staff=True)
    user.groups.add(Group.objects.create(name=MANAGERS))
    return user
