"""What is known of a job's runs: its bad attempts, and the saved outcomes of its steps."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Case, F, Func, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.engine.replay import COMPENSATION
from django_durable.engine.states import AttemptOutcome, CheckpointState
from django_durable.models.base import JsonTextField, ReadOnlyRow, means
from django_durable.models.job import Job


class Attempt(ReadOnlyRow):
    """One run of a job that ended badly or lost its worker; not unique per job and attempt."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(
        Job,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="attempt_rows",
        **means(_("The job.")),
    )
    attempt = models.IntegerField(**means(_("The job's attempt number during this run.")))
    outcome = models.TextField(
        choices=AttemptOutcome.choices, **means(_("How the run ended, in one word."))
    )
    lease_token = models.BigIntegerField(**means(_("The claim under which it ran.")))
    worker_id = models.BigIntegerField(null=True, **means(_("The worker that ran it.")))
    code_version = models.TextField(null=True, **means(_("Fingerprint of that worker's code.")))
    error = JsonTextField(
        null=True, **means(_("Type, message and traceback. Null when the worker was lost."))
    )
    claimed_at = models.DateTimeField(null=True, **means(_("When the run was claimed.")))
    ended_at = models.DateTimeField(**means(_("When the end, or the loss, was recorded.")))

    class Meta:
        verbose_name = gettext_lazy("attempt")
        verbose_name_plural = gettext_lazy("attempts")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.outcome} {self.attempt}"


class CheckpointQuerySet(models.QuerySet["Checkpoint"]):
    def in_order(self) -> CheckpointQuerySet:
        """In the order of the calls; what undoes a step stands behind it."""
        undone = Func(
            OuterRef("identity"),
            Value(f"^{COMPENSATION}[0-9]+/"),
            Value(""),
            function="regexp_replace",
        )
        step = Checkpoint._base_manager.filter(job_id=OuterRef("job_id"), identity=undone)
        place = Case(
            When(identity__startswith=COMPENSATION, then=Subquery(step.values("seq"))),
            default=F("seq"),
        )
        return self.order_by(Coalesce(place, F("seq")), "seq", "identity")


class Checkpoint(ReadOnlyRow):
    """The saved outcome of a step or wait. Final rows change to COMPENSATED only."""

    pk = models.CompositePrimaryKey("job_id", "identity")
    job_id = models.UUIDField(**means(_("The job; no database-level foreign key, for speed.")))
    identity = models.TextField(**means(_("scope/name#n: the n-th call of the name in its scope.")))
    seq = models.IntegerField(**means(_("Order of the calls within the job, from 1.")))
    kind = models.TextField(**means(_("The kind of step, or of wait; compared on replay.")))
    state = models.TextField(
        choices=CheckpointState.choices,
        **means(_("STARTED, RETRYING, SUCCESSFUL, FAILED (these two are final) or COMPENSATED.")),
    )
    function = models.TextField(**means(_("Path of the step's function, for people.")))
    fingerprint = models.TextField(
        null=True,
        **means(_("Its arguments, canonical and shortened; of a child, the scope that awaits it.")),
    )
    attempt = models.IntegerField(default=1, **means(_("The step's tries so far.")))
    next_attempt_at = models.DateTimeField(
        null=True, **means(_("When a RETRYING step is tried again, or a STARTED wait is over."))
    )
    wait_key = models.TextField(
        null=True, **means(_("What ends a STARTED wait, such as event/NAME. Null: only time."))
    )
    value = JsonTextField(null=True, **means(_("What the step returned, encoded.")))
    error = JsonTextField(null=True, **means(_("Type, message and traceback of its last failure.")))
    compensation = JsonTextField(
        null=True, **means(_("The call that undoes this step, encoded. Null: none."))
    )
    lease_token = models.BigIntegerField(**means(_("The claim that saved this row.")))
    started_at = models.DateTimeField(**means(_("When its first try began.")))
    saved_at = models.DateTimeField(**means(_("When this row was last written.")))

    objects = CheckpointQuerySet.as_manager()

    class Meta:
        verbose_name = gettext_lazy("checkpoint")
        verbose_name_plural = gettext_lazy("checkpoints")
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(
                fields=["wait_key"],
                name="checkpoint_waiting",
                condition=Q(wait_key__isnull=False),
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="checkpoint_state_is_known", condition=Q(state__in=CheckpointState.values)
            ),
        ]

    def __str__(self) -> str:
        return self.identity
