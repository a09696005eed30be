"""The job: one enqueued call of a task."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy

from django_durable.engine import registry
from django_durable.engine.instances import Arguments, TaskError, decode_arguments, decode_result
from django_durable.engine.published import JobProgress, read_progress, read_values
from django_durable.engine.states import BLOCKED, DELAYED, FINISHED, JobState
from django_durable.exceptions import JobStateError
from django_durable.models.job_columns import JobColumns
from django_durable.models.job_rules import CONSTRAINTS, INDEXES

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
        indexes: ClassVar = INDEXES
        constraints: ClassVar = CONSTRAINTS

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
