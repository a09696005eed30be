"""What a job asks people: may this go on?"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.db import models
from django.db.models import Case, Exists, OuterRef, Q, Subquery, TextField, Value, When
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.states import ApprovalState, CheckpointState
from django_durable.models.base import JsonTextField, ReadOnlyRow, means
from django_durable.models.checkpoint import Checkpoint
from django_durable.models.job import Job

_STATE = Case(
    When(approved=True, then=Value(ApprovalState.APPROVED.value)),
    When(approved=False, then=Value(ApprovalState.REJECTED.value)),
    When(is_over=True, then=Value(ApprovalState.TIMED_OUT.value)),
    When(job_ends=True, then=Value(ApprovalState.JOB_ENDED.value)),
    When(deadline_at__lte=StatementTimestamp(), then=Value(ApprovalState.TIMED_OUT.value)),
    default=Value(ApprovalState.OPEN.value),
    output_field=TextField(),
)


class ApprovalQuerySet(models.QuerySet["Approval"]):
    """The vocabulary for questions by where they stand."""

    def judged(self) -> ApprovalQuerySet:
        """With ``state``, an ``ApprovalState``, and what it was judged by.

        The wait's checkpoint and the job decide, so that a row is never shown open that nobody can
        answer any more, whether it was marked closed or not.
        """
        job = Job.objects.using(self.db).filter(pk=OuterRef("job_id"))
        wait = Checkpoint._base_manager.using(self.db).filter(
            job_id=OuterRef("job_id"), identity=OuterRef("identity")
        )
        ending = Q(cancel_requested_at__isnull=False) | Q(ends_as__isnull=False)
        judgement: dict[str, Any] = {
            "now": StatementTimestamp(),
            "is_over": Exists(wait.exclude(state=CheckpointState.STARTED)),
            "job_ends": ~Exists(job.live().exclude(ending)),
            "job_state": Subquery(job.values("state")),
            "state": _STATE,
        }
        return self.annotate(**judgement)

    def open(self) -> ApprovalQuerySet:
        """Those that can be answered now, each with its ``state``."""
        in_time = Q(deadline_at__isnull=True) | Q(deadline_at__gt=StatementTimestamp())
        unanswered = self.filter(in_time, closed_at__isnull=True, approved__isnull=True)
        return unanswered.judged().filter(Q(is_over=False, job_ends=False))


class Approval(ReadOnlyRow):
    """A question to people that a job waits for, and its answer."""

    objects = ApprovalQuerySet.as_manager()
    state: str
    """An ``ApprovalState``; on rows that were ``judged()``. So are the next two."""
    job_state: str | None
    now: datetime

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
