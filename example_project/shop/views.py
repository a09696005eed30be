"""The shop's pages for customers, and the door for the bank's webhook."""

import json
import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from django_durable import once
from example_project.shop import bank
from example_project.shop.forms import OrderForm
from example_project.shop.models import Order, Product
from example_project.shop.orders import Wish, cancel_order, place_order, record_payment
from example_project.shop.progress import find_progress


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


@require_POST
def pay_order(request: HttpRequest, key: uuid.UUID) -> HttpResponse:
    """The button on the bank's own page. What comes of it the shop hears by the webhook."""
    order = get_object_or_404(Order, key=key)
    if order.is_payable:
        webhook = request.build_absolute_uri(reverse("shop:receive_payment"))
        bank.pay(amount=order.total, reference=order.number, webhook=webhook)
    return redirect(order)


@csrf_exempt
@require_POST
def receive_payment(request: HttpRequest) -> HttpResponse:
    """The bank's webhook: each event counts once, however often and at once it comes.

    The event's id, the order's row and the message to the job are one commit. If that fails nothing
    is left, and the bank tells it again.
    """
    if not bank.is_signed(request.body, request.headers.get(bank.SIGNATURE, "")):
        return HttpResponseForbidden("The bank did not write this.")
    event = json.loads(request.body)
    once(event["id"], record_payment, event["reference"], event["charge"], scope="bank")
    return HttpResponse(status=204)


@require_POST
def cancel(request: HttpRequest, key: uuid.UUID) -> HttpResponse:
    """Who has the order's address may cancel it."""
    order = get_object_or_404(Order, key=key)
    if not cancel_order(order):
        messages.warning(request, "It is too late to cancel this order.")
    return redirect(order)
