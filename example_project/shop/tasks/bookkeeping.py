"""What the office has done overnight: a report of the day, and the customers' invoices.

``bill_customers`` is a parent with a child for each customer: the children run side by side on all
workers, and some may fail.
"""

from datetime import date, timedelta
from decimal import Decimal

from django.db.models import Count, QuerySet, Sum
from django.utils import timezone

from django_durable import Cron, current_job, map_task, set_progress, step, task
from example_project.shop import network
from example_project.shop.models import DailyReport, Invoice, Mail, Order

OFFICE = "office@leaf-and-clay.example"
RENDERING = timedelta(milliseconds=60)
PORTION = 20
"""Customers between two moves of the bar."""
AT_ONCE = 8
"""Invoices that are made at the same time, however many workers there are."""
TOLERATED = 3
"""Invoices of a portion that may fail; with one more the batch fails."""


class NoSuchMailbox(Exception):  # noqa: N818 (an answer, not a fault)
    """An invoice cannot be mailed to this address, now or later."""


@task(queue_name="invoices")
def bill_customers() -> str:
    """Make an invoice for each customer to whom something was sent, and mail the office a summary.

    While a portion is made this job waits, and holds nothing.
    """
    emails = list_unbilled()
    amounts: list[Decimal] = []
    failures: list[str] = []
    set_progress(0, len(emails), "invoices")
    for start in range(0, len(emails), PORTION):
        portion = emails[start : start + PORTION]
        made = map_task(make_invoice, portion, max_concurrency=AT_ONCE, max_failures=TOLERATED)
        amounts += made
        failures += [f"{portion[f.index]}: {f.error_message}" for f in made.failures]
        set_progress(start + len(portion), len(emails), "invoices")
    return mail_summary(len(amounts), sum(amounts, Decimal(0)), failures)


@task(queue_name="invoices", atomic=True)
def make_invoice(email: str) -> Decimal:
    """One customer's invoice, mailed; the whole task is one transaction."""
    network.travel(RENDERING)
    if email.endswith(".invalid"):
        raise NoSuchMailbox("There is no such mailbox.")
    orders = list(
        _unbilled()
        .filter(email=email)
        .select_related("product")
        .select_for_update(of=("self",), no_key=True)
    )
    total = sum((order.total for order in orders), Decimal(0))
    if orders:  # else another batch was faster
        invoice = Invoice.objects.create(email=email, total=total)
        Order.objects.filter(pk__in=[order.pk for order in orders]).update(invoice=invoice)
        listed = "\n".join(f"{o.number}: {o.quantity} {o.product}, € {o.total}" for o in orders)
        _write_mail(email, f"Invoice {invoice.number}", f"{listed}\n\nTotal: € {total}")
    return total


@step
def list_unbilled() -> list[str]:
    """Customers with orders on no invoice. A step: a replay goes on with the same list."""
    return list(_unbilled().order_by("email").values_list("email", flat=True).distinct())


@step(atomic=True)
def mail_summary(count: int, total: Decimal, failures: list[str]) -> str:
    """The mail to the office and the checkpoint are one commit."""
    summary = f"Invoices made: {count}, over € {total}. Not made: {len(failures)}."
    text = "\n".join([summary, *failures])
    _write_mail(OFFICE, "The customers are billed", text)
    return text


def _unbilled() -> QuerySet[Order]:
    return Order.objects.filter(state=Order.State.SHIPPED, invoice=None)


def _write_mail(recipient: str, subject: str, body: str) -> None:
    Mail.objects.create(recipient=recipient, subject=subject, body=body)


@task(queue_name="reports", atomic=True, schedule=Cron("30 0 * * *", name="nightly report"))
def nightly_report(day: date | None = None) -> int:
    """Add up a day's shipped orders, by default those of the day before the tick.

    It has no steps, so the whole task is one transaction.
    """
    day = day or _day_before()
    shipped = Order.objects.filter(state=Order.State.SHIPPED, placed_at__date=day)
    sums = shipped.aggregate(orders=Count("pk"), revenue=Sum("total", default=0))
    DailyReport.objects.update_or_create(day=day, defaults=sums)
    return int(sums["orders"])


def _day_before() -> date:
    """The day before the one that the job is for, even if it runs late."""
    job = current_job()
    tick = job.tick_at if job else None
    return timezone.localdate(tick) - timedelta(days=1)
