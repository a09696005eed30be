from django.urls import path

from example_project.shop import office, views

app_name = "shop"
urlpatterns = [
    path("", views.show_products, name="products"),
    path("products/<slug:slug>/", views.show_product, name="product"),
    path("products/<slug:slug>/order/", views.order_product, name="order_product"),
    path("orders/<uuid:key>/", views.show_order, name="order"),
    path("orders/<uuid:key>/progress/", views.show_progress, name="progress"),
    path("orders/<uuid:key>/pay/", views.pay_order, name="pay_order"),
    path("orders/<uuid:key>/cancel/", views.cancel, name="cancel"),
    path("bank/payments/", views.receive_payment, name="receive_payment"),
    path("office/", office.show_office, name="office"),
    path("office/report/", office.make_report, name="make_report"),
    path("office/invoices/", office.make_invoices, name="make_invoices"),
    path("office/invoices/<uuid:job_id>/", office.show_invoices, name="invoices"),
]
