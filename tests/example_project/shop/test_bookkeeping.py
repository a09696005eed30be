"""The nightly report, and the customers' invoices."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from django_durable import add_schedule, backfill_schedule, enqueue, get_progress
from django_durable.models import Job, JobState
from django_durable.testing import crash_after, run_jobs
from example_project.shop.bank import Card
from example_project.shop.models import DailyReport, Invoice, Mail, Order, Product, StockMovement
from example_project.shop.tasks import bill_customers, bookkeeping, make_invoice, nightly_report
from tests.example_project.conftest import MakeOrder

pytestmark = pytest.mark.django_db


class BillCustomersTests:
    @pytest.fixture
    def shipped(
        self, make_order: MakeOrder, product: Product, monkeypatch: pytest.MonkeyPatch
    ) -> list[Order]:
        """Fourteen orders of twelve customers, one of whom no mail reaches, on their way."""
        monkeypatch.setattr(bookkeeping, "PORTION", 5)
        StockMovement.record(product, 100)
        emails = [f"customer{number:02}@example.com" for number in range(11)]
        emails += ["nobody@example.invalid", *emails[:2]]
        orders = [make_order(email=email) for email in emails]
        make_order(email="declined@example.com", card=Card.DECLINED)
        run_jobs()
        Mail.objects.all().delete()
        return orders

    def bill(self) -> Job:
        job = enqueue(bill_customers)
        run_jobs()
        job.refresh()
        return job

    def test_makes_one_invoice_for_each_customer_of_all_their_orders(
        self, shipped: list[Order]
    ) -> None:
        self.bill()

        assert Invoice.objects.count() == 11
        twice = Invoice.objects.get(email="customer00@example.com")
        assert (twice.total, twice.orders.count()) == (Decimal("64.00"), 2)
        assert Mail.objects.filter(subject=f"Invoice {twice.number}").count() == 1
        assert Order.objects.filter(invoice=None, state="SHIPPED").get().email.endswith("invalid")

    def test_mails_a_summary_that_names_those_that_failed(self, shipped: list[Order]) -> None:
        job = self.bill()

        (summary,) = Mail.objects.filter(recipient=bookkeeping.OFFICE)
        assert job.return_value == summary.body
        assert summary.body.splitlines() == [
            "Invoices made: 11, over € 416.00. Not made: 1.",
            "nobody@example.invalid: There is no such mailbox.",
        ]

    def test_shows_how_far_it_is(self, shipped: list[Order]) -> None:
        progress = get_progress(self.bill())

        assert progress is not None
        assert (progress.done, progress.total) == (12, 12)

    @pytest.mark.parametrize("step", ["list_unbilled", f"map:{make_invoice.path}", "mail_summary"])
    def test_does_nothing_twice_when_it_dies(self, shipped: list[Order], step: str) -> None:
        enqueue(bill_customers)

        with crash_after(step):
            run_jobs()
        run_jobs()

        assert Invoice.objects.count() == 11
        assert Mail.objects.count() == 12

    def test_has_nothing_to_do_when_all_is_billed(self, shipped: list[Order]) -> None:
        self.bill()
        Order.objects.filter(email__endswith=".invalid").update(email="found@example.com")
        self.bill()

        job = self.bill()

        assert str(job.return_value).startswith("Invoices made: 0")
        assert Invoice.objects.count() == 12

    def test_fails_when_too_many_invoices_do(self, make_order: MakeOrder) -> None:
        for number in range(5):
            make_order(email=f"nobody{number}@example.invalid", quantity=1)
        run_jobs()

        job = self.bill()

        assert job.state == JobState.FAILED
        assert not Mail.objects.filter(recipient=bookkeeping.OFFICE).exists()

    def test_leaves_a_customer_alone_whom_another_batch_billed(self, shipped: list[Order]) -> None:
        self.bill()

        enqueue(make_invoice, "customer00@example.com")
        (job,) = run_jobs()

        assert job.return_value == 0
        assert Invoice.objects.filter(email="customer00@example.com").count() == 1


class NightlyReportTests:
    def test_adds_up_the_orders_that_were_shipped_that_day(self, make_order: MakeOrder) -> None:
        begin = datetime(2026, 1, 31, tzinfo=UTC)
        moments = [begin, begin + timedelta(hours=23), begin - timedelta(hours=1)]
        orders = [make_order(quantity=quantity) for quantity in (1, 2, 1)]
        declined = make_order(card=Card.DECLINED)
        for order, moment in zip([*orders, declined], [*moments, begin], strict=True):
            Order.objects.filter(pk=order.pk).update(placed_at=moment)
        run_jobs()

        enqueue(nightly_report, begin.date())
        run_jobs()

        report = DailyReport.objects.get()
        assert (report.orders, report.revenue) == (2, Decimal("48.00"))

    def test_is_made_anew_when_asked_again(self, product: Product) -> None:
        day = date(2026, 1, 31)

        enqueue(nightly_report, day)
        enqueue(nightly_report, day)
        run_jobs()

        assert DailyReport.objects.get().orders == 0

    def test_is_made_each_night_for_the_day_before(self) -> None:
        (cron,) = nightly_report.schedules
        add_schedule(nightly_report, cron)
        night = datetime(2026, 2, 1, tzinfo=UTC)

        (tick,) = backfill_schedule("nightly report", night, night + timedelta(hours=1))
        run_jobs()

        assert tick.tick_at == night + timedelta(minutes=30)
        assert DailyReport.objects.get().day == date(2026, 1, 31)
