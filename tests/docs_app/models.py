"""The shop that the documentation speaks of; its examples import it as ``shop.models``."""

from django.db import models
from django.db.models import F


class Product(models.Model):
    name = models.CharField(max_length=100)
    stock = models.IntegerField(default=10)

    def take(self, quantity: int) -> None:
        """Take something from the shelf."""
        Product.objects.filter(pk=self.pk).update(stock=F("stock") - quantity)


class Order(models.Model):
    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    quantity = models.IntegerField(default=1)
    total = models.IntegerField(default=12)
    card = models.CharField(max_length=30, default="card_good")
    email = models.EmailField(default="ann@example.com")
    state = models.CharField(max_length=20, default="placed")
    job_id = models.UUIDField(null=True)

    def get_absolute_url(self) -> str:
        return f"/orders/{self.pk}/"


class Customer(models.Model):
    email = models.EmailField()
    reminded = models.BooleanField(default=False)


class Charge(models.Model):
    """The bank's."""

    key = models.CharField(max_length=100, unique=True, null=True)
    amount = models.IntegerField()


class Mail(models.Model):
    """What was handed to the mail service."""

    to = models.EmailField()
    text = models.TextField()
