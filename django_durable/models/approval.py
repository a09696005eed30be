"""What a job asks people: may this go on?"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.db import models
from django.db.models import (
    BooleanField,
    Case,
    Exists,
    F,
    Func,
    OuterRef,
    Q,
    Subquery,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce, Concat, StrIndex
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.states import FINISHED, ApprovalState, CheckpointState, JobState
from django_durable.models.base import JsonTextField, ReadOnlyRow, means
from django_durable.models.checkpoint import Checkpoint
from django_durable.models.job import Job

LIVE = "LIVE"


class StartsWith(Func):
    """Whether a text begins with another, both of them expressions."""

    function = "starts_with"
    arity = 2
    output_field = BooleanField()


def text(value: str) -> Value:
    """The type of all columns here, which a ``Value`` alone would not have."""
    return Value(value, output_field=TextField())


_LIFE = Case(
    When(continued_count=0, then=text("")),
    default=Concat(text("continued"), Cast("continued_count", TextField()), text("/")),
    output_field=TextField(),
)
"""What identities of a job's present life begin with."""
_JOB_END = Case(
    When(state__in=FINISHED, then=F("state")),
    When(ends_as__isnull=False, then=F("ends_as")),
    When(cancel_requested_at__isnull=False, then=text(JobState.CANCELLED.value)),
    When(~StartsWith(OuterRef("identity"), _LIFE), then=text(JobState.SUCCESSFUL.value)),
    default=text(LIVE),
    output_field=TextField(),
)
"""How a job ends, or its life did in which it asked; of a live one LIVE."""
_STATE = Case(
    When(approved=True, then=text(ApprovalState.APPROVED.value)),
    When(approved=False, then=text(ApprovalState.REJECTED.value)),
    When(is_over=True, then=text(ApprovalState.TIMED_OUT.value)),
    When(Q(is_outrun=True) | ~Q(job_end=LIVE), then=text(ApprovalState.WITHDRAWN.value)),
    When(deadline_at__lte=StatementTimestamp(), then=text(ApprovalState.TIMED_OUT.value)),
    default=text(ApprovalState.OPEN.value),
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
        saved = Checkpoint._base_manager.using(self.db).filter(job_id=OuterRef("job_id"))
        over = saved.exclude(state=CheckpointState.STARTED)
        judgement: dict[str, Any] = {
            "now": StatementTimestamp(),
            "is_over": Exists(over.filter(identity=OuterRef("identity"))),
            "is_outrun": Exists(_outrunning(over)),
            "job_end": Coalesce(Subquery(job.values(end=_JOB_END)), text("")),
            "state": _STATE,
        }
        return self.annotate(**judgement)

    def open(self) -> ApprovalQuerySet:
        """Those that can be answered now, each with its ``state``."""
        in_time = Q(deadline_at__isnull=True) | Q(deadline_at__gt=StatementTimestamp())
        return self._unmarked().filter(in_time, Q(is_over=False, is_outrun=False, job_end=LIVE))

    def dead(self) -> ApprovalQuerySet:
        """Those that are not marked closed, but that nobody waits for any more."""
        waits = Q(is_over=False, is_outrun=False, job_end=LIVE)
        return self._unmarked().filter(~waits)

    def _unmarked(self) -> ApprovalQuerySet:
        return self.filter(closed_at__isnull=True, approved__isnull=True).judged()


def _outrunning(over: Any) -> Any:
    """Of a job's ended checkpoints that of a ``first()`` around the question: another branch won.

    The branch that won has ended, and its waits with it.
    """
    is_in_a_branch = StrIndex(OuterRef("identity"), text("first"))
    begins_so = StartsWith(OuterRef("identity"), Concat(F("identity"), text("/")))
    inside = over.alias(branch=is_in_a_branch, inside=begins_so)
    return inside.filter(branch__gt=0, kind="first", inside=True)


class Approval(ReadOnlyRow):
    """A question to people that a job waits for, and its answer."""

    objects = ApprovalQuerySet.as_manager()
    state: str
    """An ``ApprovalState``; on rows that were ``judged()``, as are the next two."""
    job_end: str
    """How the job ends: LIVE if it does not, empty if it is gone."""
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
