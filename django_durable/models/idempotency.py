"""Idempotency keys: which request was made before, and what became of it."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.models.base import JsonTextField, ReadOnlyRow, means


class IdempotencyKey(ReadOnlyRow):
    """A caller's name for "this request, once"; names a job, or a result of ``once``."""

    id = models.BigAutoField(primary_key=True)
    scope = models.TextField(**means(_("What the key is unique in: by default the task's path.")))
    key = models.TextField(**means(_("The caller's name for the request.")))
    fingerprint = models.TextField(
        **means(_("Digest of the arguments; another use of the key must match it."))
    )
    job_id = models.UUIDField(null=True, **means(_("The job it named. Null for once().")))
    value = JsonTextField(null=True, **means(_("What once() recorded. Null for jobs.")))
    created_at = models.DateTimeField(**means(_("When the key was first used.")))
    expires_at = models.DateTimeField(
        **means(_("From then on the key may name a new job, if its job is finished."))
    )

    class Meta:
        verbose_name = gettext_lazy("idempotency key")
        verbose_name_plural = gettext_lazy("idempotency keys")
        default_permissions = ("view",)
        indexes: ClassVar = [
            models.Index(
                fields=["job_id"], name="idempotencykey_job", condition=Q(job_id__isnull=False)
            ),
            models.Index(fields=["expires_at"], name="idempotencykey_expires"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["scope", "key"], name="idempotencykey_once"),
            models.CheckConstraint(name="idempotencykey_not_blank", condition=~Q(key="")),
        ]

    def __str__(self) -> str:
        return f"{self.scope}: {self.key}"
