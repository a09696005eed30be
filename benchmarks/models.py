"""A row of somebody's business data."""

from django.db import models


class Customer(models.Model):
    """Read through the ORM by tasks that then call out."""

    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name
