"""What a job tells about itself while it runs."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.models.base import JsonTextField, ReadOnlyRow, means


class Progress(ReadOnlyRow):
    """How far a job has come, in its own counting. Apart from the job, whose row is hot."""

    job_id = models.UUIDField(primary_key=True, **means(_("The job.")))
    done = models.BigIntegerField(**means(_("How much is done.")))
    total = models.BigIntegerField(null=True, **means(_("How much there is. Null: not known.")))
    note = models.TextField(**means(_("What it is doing, for people; may be empty.")))
    saved_at = models.DateTimeField(**means(_("When this was written.")))

    class Meta:
        verbose_name = gettext_lazy("progress")
        verbose_name_plural = gettext_lazy("progress")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.done} of {self.total}" if self.total is not None else str(self.done)


class JobValue(ReadOnlyRow):
    """A named value that a job publishes while it runs."""

    pk = models.CompositePrimaryKey("job_id", "key")
    job_id = models.UUIDField(**means(_("The job.")))
    key = models.TextField(**means(_("The value's name.")))
    value = JsonTextField(**means(_("The value, encoded.")))
    saved_at = models.DateTimeField(**means(_("When this was written.")))

    class Meta:
        verbose_name = gettext_lazy("value")
        verbose_name_plural = gettext_lazy("values")
        default_permissions = ()

    def __str__(self) -> str:
        return self.key
