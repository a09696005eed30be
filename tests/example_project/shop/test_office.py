"""The office's pages, and the manager's."""

from datetime import UTC, datetime, time

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from django_durable.models import Approval, Job
from django_durable.testing import assert_enqueued, run_jobs
from example_project.shop.models import DailyReport, Invoice, Order
from example_project.shop.tasks import bill_customers, nightly_report
from tests.example_project.conftest import MakeOrder

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]


class OfficeTests:
    def test_is_for_the_staff(self, client: Client) -> None:
        assert client.get("/office/").status_code == 302
        assert client.post("/office/report/").status_code == 302
        assert client.post("/office/invoices/").status_code == 302
        assert not Job.objects.exists()

    def test_shows_orders_and_makes_reports(
        self, admin_client: Client, make_order: MakeOrder
    ) -> None:
        order = make_order()
        run_jobs()

        today = timezone.now().date()
        admin_client.post("/office/report/")
        (day,) = assert_enqueued(nightly_report).args
        assert today <= day <= timezone.now().date()
        Order.objects.update(placed_at=datetime.combine(day, time(12), UTC))
        run_jobs()

        page = admin_client.get("/office/").content.decode()
        assert order.number in page
        assert "€ 32.00" in page
        assert DailyReport.objects.get().orders == 1


class InvoicesTests:
    def test_are_made_behind_a_page_with_a_bar(
        self, admin_client: Client, make_order: MakeOrder
    ) -> None:
        make_order()
        run_jobs()

        page = admin_client.post("/office/invoices/", follow=True)
        assert_enqueued(bill_customers)
        assert "<durable-progress" in page.content.decode()
        run_jobs()

        address, _ = page.redirect_chain[0]
        assert "Invoices made: 1, over € 32.00." in admin_client.get(address).content.decode()
        assert address in admin_client.get("/office/").content.decode()
        assert Invoice.objects.count() == 1

    def test_have_a_page_for_their_own_jobs_only(
        self, admin_client: Client, make_order: MakeOrder
    ) -> None:
        make_order()
        job = Job.objects.get()

        assert admin_client.get(f"/office/invoices/{job.pk}/").status_code == 404


class ManagerTests:
    def test_decides_on_a_page_that_leads_to_the_order(
        self, client: Client, manager: User, make_order: MakeOrder
    ) -> None:
        order = make_order(discount_wish="I buy every week.")
        run_jobs()
        client.force_login(manager)

        listed = client.get("/durable/approvals/").content.decode()
        address = f"/durable/approvals/{Approval.objects.get().pk}/"
        page = client.get(address).content.decode()
        client.post(address, {"percent": "20", "_approve": "1"})
        run_jobs()

        assert address in listed
        assert "I buy every week." in listed
        assert order.get_absolute_url() in page
        shown = client.get(order.get_absolute_url()).content.decode()
        assert "20 % less, granted by mia." in shown
        assert "€ 25.60" in shown
