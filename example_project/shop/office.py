"""The shop's office, for the staff."""

import uuid

from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from django_durable import enqueue
from django_durable.models import Job
from example_project.shop.models import DailyReport, Order
from example_project.shop.tasks import bill_customers, nightly_report

LATEST = 20


@staff_member_required
@require_safe
def show_office(request: HttpRequest) -> HttpResponse:
    context = {
        "orders": Order.objects.select_related("product")[:LATEST],
        "batches": Job.objects.filter(task_path=bill_customers.path)[:LATEST],
        "reports": DailyReport.objects.all()[:LATEST],
    }
    return render(request, "shop/office.html", context)


@staff_member_required
@require_POST
def make_report(request: HttpRequest) -> HttpResponse:
    enqueue(nightly_report, timezone.now().date())
    messages.success(request, "Today's report is being made.")
    return redirect("shop:office")


@staff_member_required
@require_POST
def make_invoices(request: HttpRequest) -> HttpResponse:
    job = enqueue(bill_customers)
    return redirect("shop:invoices", job_id=job.pk)


@staff_member_required
@require_safe
def show_invoices(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    """A batch of invoices under way, or what became of it."""
    job = get_object_or_404(Job, pk=job_id, task_path=bill_customers.path)
    return render(request, "shop/invoices.html", {"job": job})
