"""The post that the documentation speaks of; its examples import it as ``shop.post``."""

from tests.docs_app.models import Mail


def send(to: str, text: str) -> None:
    """Send a mail. Asked twice, it sends two."""
    Mail.objects.create(to=to, text=text)


arrivals: dict[int, str] = {}
"""When the parcels of orders arrived, as far as the courier knows."""


def find_arrival(order_number: int) -> str | None:
    """Ask the courier when an order's parcel arrived. None: not yet."""
    return arrivals.get(order_number)
