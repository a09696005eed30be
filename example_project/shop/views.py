"""The shop's pages, and its office for the staff."""

import uuid
from typing import Any

from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from django_durable import enqueue
from example_project.shop.forms import OrderForm
from example_project.shop.models import DailyReport, Order, Product
from example_project.shop.orders import Wish, find_progress, place_order
from example_project.shop.tasks import nightly_report

LATEST = 20


@require_safe
def show_products(request: HttpRequest) -> HttpResponse:
    return render(request, "shop/products.html", {"products": Product.objects.all()})


@require_safe
def show_product(request: HttpRequest, slug: str) -> HttpResponse:
    product = get_object_or_404(Product, slug=slug)
    form = OrderForm(initial={"key": uuid.uuid4()})
    return render(request, "shop/product.html", {"product": product, "form": form})


@require_POST
def order_product(request: HttpRequest, slug: str) -> HttpResponse:
    """Place an order and show it; the job begins once this request's transaction is committed."""
    product = get_object_or_404(Product, slug=slug)
    form = OrderForm(request.POST)
    if not form.is_valid():
        context = {"product": product, "form": form}
        return render(request, "shop/product.html", context, status=422)
    order = place_order(Wish(product=product, **form.cleaned_data))
    return redirect(order)


@require_safe
def show_order(request: HttpRequest, key: uuid.UUID) -> HttpResponse:
    return render(request, "shop/order.html", _order_context(key))


@require_safe
def show_progress(request: HttpRequest, key: uuid.UUID) -> HttpResponse:
    """The part of an order's page that changes; the page asks for it until the job is finished."""
    response = render(request, "shop/_progress.html", _order_context(key))
    response["Cache-Control"] = "no-store"
    return response


def _order_context(key: uuid.UUID) -> dict[str, Any]:
    order = get_object_or_404(Order.objects.select_related("product"), key=key)
    return {"order": order, "progress": find_progress(order)}


@staff_member_required
@require_safe
def show_office(request: HttpRequest) -> HttpResponse:
    orders = Order.objects.select_related("product")[:LATEST]
    context = {"orders": orders, "reports": DailyReport.objects.all()[:LATEST]}
    return render(request, "shop/office.html", context)


@staff_member_required
@require_POST
def make_report(request: HttpRequest) -> HttpResponse:
    enqueue(nightly_report, timezone.now().date())
    messages.success(request, "Today's report is being made.")
    return redirect("shop:office")
