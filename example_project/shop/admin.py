from typing import TYPE_CHECKING, Any

from django.contrib import admin

from example_project.shop.models import (
    BankNotice,
    Charge,
    DailyReport,
    Invoice,
    Mail,
    Order,
    Product,
    Refund,
    Shipment,
    StockMovement,
)

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


@admin.register(Product)
class ProductAdmin(ModelAdmin):
    list_display = ("name", "kind", "price", "stock")
    readonly_fields = ("stock",)


@admin.register(Order)
class OrderAdmin(ModelAdmin):
    list_display = ("number", "product", "quantity", "total", "discount", "state", "placed_at")
    list_filter = ("state",)
    list_select_related = ("product",)


@admin.register(StockMovement)
class StockMovementAdmin(ModelAdmin):
    list_display = ("product", "quantity", "order", "moved_at")
    list_select_related = ("product", "order")


@admin.register(Shipment)
class ShipmentAdmin(ModelAdmin):
    list_display = ("tracking", "order", "recalled_at")
    list_select_related = ("order",)


@admin.register(Mail)
class MailAdmin(ModelAdmin):
    list_display = ("subject", "recipient", "written_at")


@admin.register(Charge)
class ChargeAdmin(ModelAdmin):
    list_display = ("number", "reference", "amount", "made_at")


@admin.register(Refund)
class RefundAdmin(ModelAdmin):
    list_display = ("charge", "idempotency_key", "made_at")
    list_select_related = ("charge",)


@admin.register(BankNotice)
class BankNoticeAdmin(ModelAdmin):
    list_display = ("event", "sent_at")


@admin.register(Invoice)
class InvoiceAdmin(ModelAdmin):
    list_display = ("number", "email", "total", "made_at")


@admin.register(DailyReport)
class DailyReportAdmin(ModelAdmin):
    list_display = ("day", "orders", "revenue", "made_at")
