"""What holds jobs back: paused queues, and limits on how many run at once or start in a time."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.models.base import ReadOnlyRow, means


class LimitColumns(ReadOnlyRow):
    """How many at once, and how many in a time."""

    concurrency = models.IntegerField(
        null=True, **means(_("How many jobs run at once, at most. Null: any number."))
    )
    rate = models.IntegerField(
        null=True, **means(_("How many jobs start within any period, at most. Null: any number."))
    )
    period = models.DurationField(
        null=True, **means(_("The length of the period that the rate is for. Null: no rate."))
    )

    class Meta:
        abstract = True


class Queue(LimitColumns):
    """A queue that an operator has said something about; most queues have no row."""

    name = models.TextField(primary_key=True, **means(_("The queue's name.")))
    paused_at = models.DateTimeField(
        null=True, **means(_("Since when none of its jobs is started. Null: they are."))
    )
    resume_at = models.DateTimeField(
        null=True, **means(_("When the pause ends by itself. Null: when somebody ends it."))
    )
    reason = models.TextField(default="", **means(_("Why it is paused, for people.")))

    class Meta:
        verbose_name = gettext_lazy("queue")
        verbose_name_plural = gettext_lazy("queues")
        ordering: ClassVar = ["name"]
        default_permissions = ("view", "change")
        constraints: ClassVar = [
            models.CheckConstraint(
                name="queue_limits_are_positive",
                condition=(Q(concurrency__isnull=True) | Q(concurrency__gt=0))
                & (Q(rate__isnull=True, period__isnull=True) | Q(rate__gt=0, period__isnull=False)),
            ),
            models.CheckConstraint(
                name="queue_resumes_from_a_pause",
                condition=Q(resume_at__isnull=True) | Q(paused_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def is_paused_at(self, now: datetime) -> bool:
        """Whether it is paused at a time, by the database's clock: not before, not after it."""
        if self.paused_at is None:
            return False
        return self.resume_at is None or self.resume_at > now


class Limit(LimitColumns):
    """A limit that tasks name. Made when a worker first meets it; changed by operators since."""

    name = models.TextField(primary_key=True, **means(_("The name that tasks know it by.")))
    declared_concurrency = models.IntegerField(
        null=True, **means(_("What the code said last; an operator's other value stays."))
    )
    declared_rate = models.IntegerField(null=True, **means(_("The same of the rate.")))
    declared_period = models.DurationField(null=True, **means(_("The same of the period.")))

    class Meta:
        verbose_name = gettext_lazy("limit")
        verbose_name_plural = gettext_lazy("limits")
        ordering: ClassVar = ["name"]
        default_permissions = ("view", "change")
        constraints: ClassVar = [
            models.CheckConstraint(
                name="limit_is_positive",
                condition=(Q(concurrency__isnull=True) | Q(concurrency__gt=0))
                & (Q(rate__isnull=True, period__isnull=True) | Q(rate__gt=0, period__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class LimitStart(ReadOnlyRow):
    """Starts of one claim under a rate, kept for the length of its period."""

    id = models.BigAutoField(primary_key=True)
    scope = models.TextField(**means(_("queue/NAME, or limit/NAME.")))
    limit_key = models.TextField(**means(_("What the limit counts apart; empty: all together.")))
    started_at = models.DateTimeField(**means(_("When the jobs were claimed.")))
    jobs = models.IntegerField(**means(_("How many they were.")))

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [
            models.Index("scope", "limit_key", F("started_at").desc(), name="limitstart_latest"),
        ]
