"""A shop whose network is instant, with something on the shelf."""

from datetime import timedelta

import pytest

from example_project.shop import network
from example_project.shop.models import Product, StockMovement


@pytest.fixture(autouse=True)
def _instant_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def travel(usual: timedelta) -> None:
        assert usual > timedelta(0)

    monkeypatch.setattr(network, "travel", travel)


@pytest.fixture
def product(db: None) -> Product:
    """A cup of which there are five."""
    cup = Product.objects.create(
        name="Rain Cup", slug="rain-cup", kind=Product.Kind.CUP, description="Blue.", price="16.00"
    )
    StockMovement.record(cup, 5)
    cup.refresh_from_db()
    return cup
