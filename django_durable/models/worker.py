"""Workers: who is alive, and since when."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.models.base import ReadOnlyRow, TextArrayField, means


class Worker(ReadOnlyRow):
    """One boot of a worker process. Rows of ended workers stay for a while, for people."""

    id = models.BigIntegerField(
        primary_key=True, **means(_("Random; the second key of its advisory lock."))
    )
    hostname = models.TextField(**means(_("Where it runs.")))
    pid = models.IntegerField(**means(_("Its process id there.")))
    queues = TextArrayField(
        **means(_("The queues it serves, by name; empty: all, or those of its patterns."))
    )
    queue_patterns = TextArrayField(
        db_default=[], **means(_("What it was told to serve, if that names queues by pattern."))
    )
    slots = models.IntegerField(**means(_("How many jobs it runs at once.")))
    code_version = models.TextField(**means(_("Fingerprint of its code.")))
    lease = models.DurationField(**means(_("How long it counts as alive after a heartbeat.")))
    started_at = models.DateTimeField(**means(_("When it registered.")))
    heartbeat_at = models.DateTimeField(**means(_("Its latest sign of life.")))
    lease_expires_at = models.DateTimeField(**means(_("From then on it is lost, unless renewed.")))
    has_lock = models.BooleanField(
        default=False, **means(_("Whether it holds its advisory lock; if not, only time tells."))
    )
    backlogged = models.BooleanField(
        default=False, **means(_("It finds full batches anyway: enqueueing need not wake it."))
    )
    stopping_at = models.DateTimeField(null=True, **means(_("When it was told to stop.")))
    stopped_at = models.DateTimeField(null=True, **means(_("When it ended in good order.")))
    lost_at = models.DateTimeField(null=True, **means(_("When it was declared lost.")))

    class Meta:
        verbose_name = gettext_lazy("worker")
        verbose_name_plural = gettext_lazy("workers")
        ordering: ClassVar = ["-started_at"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}"

    @property
    def is_live(self) -> bool:
        return self.lost_at is None and self.stopped_at is None
