from typing import TYPE_CHECKING, Any

from django.contrib import admin

from example_project.shop.models import (
    Charge,
    DailyReport,
    Mail,
    Order,
    Product,
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
    list_display = ("number", "product", "quantity", "total", "state", "placed_at")
    list_filter = ("state",)
    list_select_related = ("product",)


@admin.register(StockMovement)
class StockMovementAdmin(ModelAdmin):
    list_display = ("product", "quantity", "order", "moved_at")
    list_select_related = ("product", "order")


@admin.register(Shipment)
class ShipmentAdmin(ModelAdmin):
    list_display = ("tracking", "order")
    list_select_related = ("order",)


@admin.register(Mail)
class MailAdmin(ModelAdmin):
    list_display = ("subject", "recipient", "written_at")


@admin.register(Charge)
class ChargeAdmin(ModelAdmin):
    list_display = ("number", "reference", "amount", "made_at", "refunded_at")


@admin.register(DailyReport)
class DailyReportAdmin(ModelAdmin):
    list_display = ("day", "orders", "revenue", "made_at")
