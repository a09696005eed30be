"""What the shop does behind the scenes. A worker finds its tasks here."""

from example_project.shop.tasks.bookkeeping import (
    bill_customers as bill_customers,
)
from example_project.shop.tasks.bookkeeping import (
    make_invoice as make_invoice,
)
from example_project.shop.tasks.bookkeeping import (
    nightly_report as nightly_report,
)
from example_project.shop.tasks.fulfilment import (
    fulfil_order as fulfil_order,
)
from example_project.shop.tasks.fulfilment import (
    return_late_payment as return_late_payment,
)
