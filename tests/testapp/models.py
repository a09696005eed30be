"""Business data for tests: rows that show how often something happened."""

from django.db import models


class Account(models.Model):
    """Somebody's money."""

    name = models.CharField(max_length=100)
    balance = models.IntegerField(default=0)


class Charge(models.Model):
    """One call to a bank that keeps no idempotency keys: a charge made twice is two rows."""

    order_ref = models.CharField(max_length=100, db_index=True)
    amount = models.IntegerField(default=0)


class Item(models.Model):
    """Something to work through, once."""

    name = models.CharField(max_length=100)
    done = models.BooleanField(default=False)


class BankCall(models.Model):
    """One call to a bank that keeps idempotency keys: what it did is how many keys it saw."""

    ref = models.CharField(max_length=100, db_index=True)
    what = models.CharField(max_length=100)
    key = models.CharField(max_length=36)


class Stay(models.Model):
    """One time that a body was inside, on the database's clock; ``ended_at`` is null if it died."""

    place = models.CharField(max_length=100)
    key = models.CharField(max_length=100)
    number = models.IntegerField()
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
