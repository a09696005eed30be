"""What is on the shelf when the shop opens."""

from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction

from example_project.shop.models import Product, StockMovement

OPENING_STOCK = 500


@dataclass(frozen=True, slots=True)
class Ware:
    slug: str
    name: str
    kind: Product.Kind
    price: str
    description: str


WARES = (
    Ware(
        "first-flush",
        "First Flush Darjeeling",
        Product.Kind.TEA,
        "14.50",
        "Light and flowery, from the first picking in March. 100 g.",
    ),
    Ware(
        "smoky-pine",
        "Smoky Pine Lapsang",
        Product.Kind.TEA,
        "11.00",
        "Dried over pine fires, for cold evenings. 100 g.",
    ),
    Ware(
        "spring-sencha",
        "Spring Sencha",
        Product.Kind.TEA,
        "12.75",
        "Steamed green tea with a taste of fresh peas. 80 g.",
    ),
    Ware(
        "little-pot",
        "Little Clay Pot",
        Product.Kind.POT,
        "38.00",
        "Unglazed red clay, thrown by hand. Holds 0.3 litres.",
    ),
    Ware(
        "family-pot",
        "Family Pot",
        Product.Kind.POT,
        "52.00",
        "Stoneware with a strainer that cannot get lost. Holds 1.2 litres.",
    ),
    Ware(
        "rain-cup",
        "Rain Cup",
        Product.Kind.CUP,
        "16.00",
        "A grey-blue glaze that came out differently on each one.",
    ),
    Ware(
        "sand-cup",
        "Sand Cup",
        Product.Kind.CUP,
        "16.00",
        "Rough outside, smooth inside, warm in the hand.",
    ),
    Ware(
        "tea-tin",
        "Tea Tin",
        Product.Kind.TIN,
        "9.50",
        "Keeps light and air away from 150 g of leaves.",
    ),
)


@transaction.atomic
def stock_the_shelves() -> int:
    """Create the wares that are not there yet, each with its opening stock; how many were new."""
    new = 0
    for ware in WARES:
        product, is_new = Product.objects.get_or_create(
            slug=ware.slug,
            defaults={
                "name": ware.name,
                "kind": ware.kind,
                "price": Decimal(ware.price),
                "description": ware.description,
            },
        )
        if is_new:
            StockMovement.record(product, OPENING_STOCK)
            new += 1
    return new
