"""A shop whose network is instant, with something on the shelf."""

import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from example_project.shop import network
from example_project.shop.bank import Card
from example_project.shop.models import Order, Product, StockMovement
from example_project.shop.orders import Wish, place_order
from example_project.shop.tasks.fulfilment import MANAGERS

MakeOrder = Callable[..., Order]


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
