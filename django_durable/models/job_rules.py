"""The indexes of a job, each for a question the engine asks, and what is always true of a row."""

from datetime import UTC, datetime

from django.db import models
from django.db.models import ExpressionWrapper, F, Q

from django_durable.engine.states import JobState

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)

INDEXES: list[models.Index] = [
    models.Index(
        "queue_name",
        F("priority").desc(),
        "due_at",
        "id",
        name="job_claim",
        condition=Q(state="READY", limit_name__isnull=True),
    ),
    # Under a limit: by key, so that a key without room is passed over at once; in a key
    # what has begun comes first.
    models.Index(
        "queue_name",
        "limit_name",
        "limit_key",
        ExpressionWrapper(Q(started_at__isnull=True), models.BooleanField()),
        F("priority").desc(),
        "due_at",
        "id",
        name="job_claim_limited",
        condition=Q(state="READY", limit_name__isnull=False),
    ),
    # What may hold a place under a limit: what has begun, and is not finished.
    models.Index(
        fields=["limit_name", "limit_key", "state"],
        name="job_limit_places",
        condition=Q(limit_name__isnull=False, started_at__isnull=False, finished_at__isnull=True),
    ),
    models.Index(
        fields=["schedule_name"],
        name="job_of_schedule",
        condition=Q(schedule_name__isnull=False, finished_at__isnull=True),
    ),
    models.Index(
        fields=["due_at"], name="job_due", condition=Q(state__in=["SCHEDULED", "WAITING"])
    ),
    # By worker, not by state: a fence that names the state must never be tempted by it.
    models.Index(fields=["worker_id"], name="job_running", condition=Q(worker_id__isnull=False)),
    models.Index(
        fields=["state", "finished_at"],
        name="job_finished",
        condition=Q(finished_at__isnull=False),
    ),
    models.Index(
        fields=["subject_type", "subject_key"],
        name="job_subject",
        condition=Q(subject_type__isnull=False),
    ),
    # What a parent waits for, by what has become of it; "limit" apart, next in turn first.
    models.Index(
        fields=["parent_id", "awaited_as", "state", "wait_kind", "id"],
        name="job_awaited",
        condition=Q(awaited_as__isnull=False),
    ),
    models.Index(
        fields=["parent_id", "on_parent_end"],
        name="job_live_children",
        condition=Q(parent_id__isnull=False, finished_at__isnull=True),
    ),
    models.Index(fields=["id"], name="job_cancels_children", condition=Q(cancels_children=True)),
    models.Index(
        fields=["deadline_at"],
        name="job_deadline",
        condition=Q(deadline_at__isnull=False, finished_at__isnull=True),
    ),
]

CONSTRAINTS: list[models.BaseConstraint] = [
    models.UniqueConstraint(
        fields=["parent_id", "origin"],
        name="job_origin_once",
        condition=Q(origin__isnull=False),
    ),
    # What starts or ends a job need not know of it: the row leaves the index by itself. It comes
    # back by a retry only, which looks first.
    models.UniqueConstraint(
        fields=["unique_key"],
        name="job_unique_once",
        condition=Q(unique_key__isnull=False)
        & (
            Q(unique_while="period")
            | Q(unique_while="unfinished", finished_at__isnull=True)
            | Q(unique_while="queued", lease_token=0, finished_at__isnull=True)
        ),
    ),
    models.CheckConstraint(name="job_state_is_known", condition=Q(state__in=JobState.values)),
    models.CheckConstraint(
        name="job_running_has_worker",
        condition=Q(state="RUNNING", worker_id__isnull=False, lease_token__gt=0)
        | (~Q(state="RUNNING") & Q(worker_id__isnull=True)),
    ),
    models.CheckConstraint(
        name="job_finished_has_finished_at",
        condition=Q(state__in=["SUCCESSFUL", "FAILED", "CANCELLED"], finished_at__isnull=False)
        | (~Q(state__in=["SUCCESSFUL", "FAILED", "CANCELLED"]) & Q(finished_at__isnull=True)),
    ),
    models.CheckConstraint(
        name="job_waiting_says_for_what",
        condition=Q(state="WAITING", wait_kind__isnull=False)
        | (~Q(state="WAITING") & Q(wait_kind__isnull=True)),
    ),
    models.CheckConstraint(
        name="job_due_at_is_a_date",
        condition=Q(
            due_at__range=(
                _EARLIEST,
                _LATEST,
            )
        ),
    ),
    models.CheckConstraint(name="job_priority_in_range", condition=Q(priority__range=(-100, 100))),
    models.CheckConstraint(
        name="job_attempt_grows_from_base", condition=Q(attempt__gt=F("attempt_base"))
    ),
    models.CheckConstraint(
        name="job_ends_as_is_an_end",
        condition=Q(ends_as__isnull=True) | Q(ends_as__in=["FAILED", "CANCELLED"]),
    ),
    models.CheckConstraint(
        name="job_on_parent_end_is_known",
        condition=Q(on_parent_end__isnull=True) | Q(on_parent_end="cancel"),
    ),
    models.CheckConstraint(
        name="job_limit_has_key",
        condition=Q(limit_name__isnull=True, limit_key__isnull=True)
        | Q(limit_name__isnull=False, limit_key__isnull=False),
    ),
    models.CheckConstraint(
        name="job_unique_while_is_known",
        condition=Q(unique_key__isnull=True)
        | Q(unique_while__in=["queued", "unfinished"], unique_until__isnull=True)
        | Q(unique_while="period", unique_until__isnull=False),
    ),
    models.CheckConstraint(
        name="job_names_not_blank",
        condition=~Q(task_path="") & ~Q(queue_name="") & ~Q(origin=""),
    ),
]
