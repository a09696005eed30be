"""A carrier who collects parcels. Like the bank, it stands for a service elsewhere."""

import secrets
from datetime import timedelta

from django.db.models import TextChoices

from example_project.shop import network

PRINTING = timedelta(milliseconds=120)


class Address(TextChoices):
    """Addresses to test with."""

    KNOWN = "12 Orchard Lane", "12 Orchard Lane, where the carrier goes"
    UNKNOWN = "1 Nowhere Road", "1 Nowhere Road, which the carrier cannot find"


class AddressUnknown(Exception):  # noqa: N818 (an answer, not a fault)
    """The parcel cannot be delivered, and asking again will not help."""


def print_label(address: str) -> str:
    """A label with a new tracking number; it costs nothing until the parcel is handed over.

    Raises: AddressUnknown.
    """
    network.travel(PRINTING)
    if address == Address.UNKNOWN:
        raise AddressUnknown(f"The carrier cannot find {address}.")
    return f"PX{secrets.randbelow(10**10):010}"
