"""What a job asks people: may this go on?"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.models.base import JsonTextField, ReadOnlyRow, means


class Approval(ReadOnlyRow):
    """A question to people that a job waits for, and its answer."""

    id = models.BigAutoField(primary_key=True)
    job_id = models.UUIDField(**means(_("The job that waits.")))
    identity = models.TextField(**means(_("Identity of the wait within the job.")))
    title = models.TextField(**means(_("The question, in a line.")))
    form_path = models.TextField(
        null=True, **means(_("The Django form that an answer must satisfy. Null: yes or no only."))
    )
    group_name = models.TextField(
        null=True, **means(_("The group whose members may answer. Null: see the permission."))
    )
    permission = models.TextField(
        null=True, **means(_("The permission that allows to answer. Null: see the group."))
    )
    subject_type = models.TextField(
        null=True, **means(_("Model label of what is to be approved, such as shop.order."))
    )
    subject_key = models.TextField(null=True, **means(_("Primary key of that object, as text.")))
    requested_at = models.DateTimeField(**means(_("When the job first asked.")))
    deadline_at = models.DateTimeField(
        null=True, **means(_("When the job goes on without an answer. Null: never."))
    )
    approved = models.BooleanField(
        null=True, **means(_("The answer. Null: none yet, or the job went on without."))
    )
    answer = JsonTextField(null=True, **means(_("The form's cleaned data, encoded.")))
    answered_at = models.DateTimeField(null=True, **means(_("When it was answered.")))
    answered_by_key = models.TextField(
        null=True, **means(_("Primary key of the user who answered, as text."))
    )
    answered_by_name = models.TextField(
        null=True, **means(_("That user's name at the time; it outlives the user."))
    )
    closed_at = models.DateTimeField(
        null=True, **means(_("When it was answered, timed out, or its job ended. Null: open."))
    )

    class Meta:
        verbose_name = gettext_lazy("approval")
        verbose_name_plural = gettext_lazy("approvals")
        default_permissions = ("view",)
        permissions: ClassVar = [("answer_approval", "Can answer every approval")]
        indexes: ClassVar = [
            models.Index(
                fields=["requested_at"], name="approval_open", condition=Q(closed_at__isnull=True)
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job_id", "identity"], name="approval_once"),
        ]

    def __str__(self) -> str:
        return self.title
