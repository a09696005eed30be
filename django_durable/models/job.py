"""The job: one enqueued call of a task."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy

from django_durable.engine import registry
from django_durable.engine.instances import Arguments, TaskError, decode_arguments, decode_result
from django_durable.engine.published import JobProgress, read_progress, read_values
from django_durable.engine.states import BLOCKED, DELAYED, FINISHED, JobState
from django_durable.exceptions import JobStateError
from django_durable.models.job_columns import JobColumns

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_DJANGO_STATUS = {state: state for state in ("RUNNING", "SUCCESSFUL", "FAILED")} | {
    "CANCELLED": "FAILED"
}


class JobQuerySet(models.QuerySet["Job"]):
    """The vocabulary for jobs by state."""

    def ready(self) -> JobQuerySet:
        return self.filter(state=JobState.READY)

    def running(self) -> JobQuerySet:
        return self.filter(state=JobState.RUNNING)

    def delayed(self) -> JobQuerySet:
        return self.filter(state__in=DELAYED)

    def finished(self) -> JobQuerySet:
        return self.filter(state__in=FINISHED)

    def live(self) -> JobQuerySet:
        return self.exclude(state__in=FINISHED)

    def blocked(self) -> JobQuerySet:
        return self.filter(state=JobState.WAITING, wait_kind=BLOCKED)

    def retryable(self) -> JobQuerySet:
        blocked = Q(state=JobState.WAITING, wait_kind=BLOCKED)
        return self.filter(Q(state__in=[JobState.FAILED, JobState.CANCELLED]) | blocked)


class Job(JobColumns):
    """One enqueued call of a task.

    Has the attributes and verbs of Django's ``TaskResult``; ``status`` speaks its four words,
    ``state`` our seven. As fresh as when it was loaded: ``refresh()`` looks again.
    """

    objects = JobQuerySet.as_manager()
    is_duplicate = False
    """True on what ``enqueue`` returned if an idempotency key had named this job before."""

    class Meta:
        verbose_name = gettext_lazy("job")
        verbose_name_plural = gettext_lazy("jobs")
        ordering: ClassVar = ["-id"]
        permissions: ClassVar = [
            ("retry_job", "Can retry jobs"),
            ("cancel_job", "Can cancel jobs"),
            ("fork_job", "Can fork and restart jobs"),
            ("send_event", "Can send events to jobs and wake them"),
        ]
        default_permissions = ("view",)
        indexes: ClassVar = [
            models.Index(
                "queue_name",
                F("priority").desc(),
                "due_at",
                "id",
                name="job_claim",
                condition=Q(state="READY"),
            ),
            models.Index(
                fields=["due_at"], name="job_due", condition=Q(state__in=["SCHEDULED", "WAITING"])
            ),
            # By worker, not by state: a fence that names the state must never be tempted by it.
            models.Index(
                fields=["worker_id"], name="job_running", condition=Q(worker_id__isnull=False)
            ),
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
            models.Index(
                fields=["id"], name="job_cancels_children", condition=Q(cancels_children=True)
            ),
            models.Index(
                fields=["deadline_at"],
                name="job_deadline",
                condition=Q(deadline_at__isnull=False, finished_at__isnull=True),
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["parent_id", "origin"],
                name="job_origin_once",
                condition=Q(origin__isnull=False),
            ),
            models.CheckConstraint(
                name="job_state_is_known", condition=Q(state__in=JobState.values)
            ),
            models.CheckConstraint(
                name="job_running_has_worker",
                condition=Q(state="RUNNING", worker_id__isnull=False, lease_token__gt=0)
                | (~Q(state="RUNNING") & Q(worker_id__isnull=True)),
            ),
            models.CheckConstraint(
                name="job_finished_has_finished_at",
                condition=Q(
                    state__in=["SUCCESSFUL", "FAILED", "CANCELLED"], finished_at__isnull=False
                )
                | (
                    ~Q(state__in=["SUCCESSFUL", "FAILED", "CANCELLED"])
                    & Q(finished_at__isnull=True)
                ),
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
                        datetime(1970, 1, 1, tzinfo=UTC),
                        datetime(9999, 1, 1, tzinfo=UTC),
                    )
                ),
            ),
            models.CheckConstraint(
                name="job_priority_in_range", condition=Q(priority__range=(-100, 100))
            ),
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
                name="job_names_not_blank",
                condition=~Q(task_path="") & ~Q(queue_name="") & ~Q(origin=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_path} {self.id}"

    # --- what Django's TaskResult has

    @property
    def status(self) -> str:
        """One of Django's four words: READY, RUNNING, SUCCESSFUL, FAILED."""
        return _DJANGO_STATUS.get(self.state, "READY")

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    @property
    def attempts(self) -> int:
        """Attempts begun so far."""
        return self.attempt if self.started_at is not None else 0

    @property
    def last_attempted_at(self) -> Any:
        return self.claimed_at

    @property
    def backend(self) -> str:
        return "default"

    @property
    def task(self) -> Any:
        """The task. Raises UnknownTaskError if this process does not know its path."""
        return registry.get_task(self.task_path)

    @cached_property
    def _decoded_arguments(self) -> Arguments:
        return decode_arguments(self.arguments, self.task_path, self.id)

    @property
    def args(self) -> list[Any]:
        """The positional arguments, model instances fetched fresh (one query for each model)."""
        return self._decoded_arguments.args

    @property
    def kwargs(self) -> dict[str, Any]:
        return self._decoded_arguments.kwargs

    @property
    def return_value(self) -> Any:
        """What the task returned. Raises JobStateError unless SUCCESSFUL."""
        if self.state != JobState.SUCCESSFUL or self.encoded_return_value is None:
            raise JobStateError(
                job_id=self.id,
                task_path=self.task_path,
                state=self.state,
                verb="asked for its return value",
                cure="Call refresh(), or look at errors.",
            )
        return decode_result(self.encoded_return_value, self.task_path)

    @cached_property
    def errors(self) -> list[TaskError]:
        """One for each attempt that failed, oldest first (one query)."""
        texts = self._attempts().filter(error__isnull=False).values_list("error", flat=True)
        return [TaskError.from_text(text) for text in texts]

    @cached_property
    def worker_ids(self) -> list[str]:
        """The workers known to have held the job (one query)."""
        rows = self._attempts().filter(worker_id__isnull=False)
        known = [*rows.values_list("worker_id", flat=True), self.worker_id]
        return list(dict.fromkeys(str(worker) for worker in known if worker is not None))

    @cached_property
    def progress(self) -> JobProgress | None:
        """How far the job has come, by what it said last; None: nothing yet (one query)."""
        return read_progress(self._state.db, self.pk)

    @cached_property
    def values(self) -> dict[str, Any]:
        """What the job has published by ``set_value()``, by name (one query)."""
        return read_values(self._state.db, self.pk)

    def _attempts(self) -> models.QuerySet[Any]:
        attempts = apps.get_model("durable", "Attempt")._base_manager.using(self._state.db)
        return attempts.filter(job_id=self.id).order_by("id")

    def refresh(self) -> None:
        """Load the row again (one query)."""
        for name in ("_decoded_arguments", "errors", "worker_ids", "progress", "values"):
            self.__dict__.pop(name, None)
        self.refresh_from_db(using=self._state.db)

    async def arefresh(self) -> None:
        await sync_to_async(self.refresh)()
