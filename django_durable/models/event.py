"""Events from outside: broadcast ones, and the mailboxes of jobs."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.models.base import JsonTextField, ReadOnlyRow, means


class Event(ReadOnlyRow):
    """A broadcast event, or one that is only waited for so far. Immutable once emitted."""

    key = models.TextField(primary_key=True, **means(_("The event's name, one for all jobs.")))
    payload = JsonTextField(null=True, **means(_("What was emitted, encoded. Null: nothing yet.")))
    emitted_at = models.DateTimeField(
        null=True, **means(_("When it was emitted. Null: jobs wait for it."))
    )
    created_at = models.DateTimeField(
        **means(_("When it was first waited for or emitted; the row is what both lock."))
    )

    class Meta:
        verbose_name = gettext_lazy("event")
        verbose_name_plural = gettext_lazy("events")
        default_permissions = ("view",)
        indexes: ClassVar = [models.Index(fields=["created_at"], name="event_created")]

    def __str__(self) -> str:
        return self.key


class Mailbox(ReadOnlyRow):
    """One name under which a job is sent events; the row that senders and the waiting job lock."""

    pk = models.CompositePrimaryKey("job_id", "name")
    job_id = models.UUIDField(**means(_("The job that is sent to.")))
    name = models.TextField(**means(_("The name of its events.")))
    created_at = models.DateTimeField(**means(_("When it was first waited for or sent to.")))

    class Meta:
        verbose_name = gettext_lazy("mailbox")
        verbose_name_plural = gettext_lazy("mailboxes")
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Message(ReadOnlyRow):
    """An event sent to one job: kept until the job takes it, in the order of the sends' commits."""

    id = models.BigAutoField(primary_key=True)
    job_id = models.UUIDField(**means(_("The job that is sent to.")))
    name = models.TextField(**means(_("The event's name.")))
    payload = JsonTextField(**means(_("What was sent, encoded.")))
    idempotency_key = models.TextField(
        null=True, **means(_("The sender's name for this send, once for each job. Null: none."))
    )
    sent_at = models.DateTimeField(**means(_("When it was sent.")))
    taken_as = models.TextField(
        null=True, **means(_("Identity of the wait that took it. Null: not taken yet."))
    )

    class Meta:
        verbose_name = gettext_lazy("message")
        verbose_name_plural = gettext_lazy("messages")
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(
                fields=["job_id", "name", "id"],
                name="message_untaken",
                condition=Q(taken_as__isnull=True),
            ),
            models.Index(fields=["job_id", "id"], name="message_job"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["job_id", "idempotency_key"],
                name="message_once",
                condition=Q(idempotency_key__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name
