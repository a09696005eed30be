from django.urls import path

from example_project.shop import views

app_name = "shop"
urlpatterns = [
    path("", views.show_products, name="products"),
    path("products/<slug:slug>/", views.show_product, name="product"),
    path("products/<slug:slug>/order/", views.order_product, name="order_product"),
    path("orders/<uuid:key>/", views.show_order, name="order"),
    path("orders/<uuid:key>/progress/", views.show_progress, name="progress"),
    path("office/", views.show_office, name="office"),
    path("office/report/", views.make_report, name="make_report"),
]
