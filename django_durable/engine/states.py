"""The words for where a job, an attempt or a checkpoint stands, free of models."""

from datetime import UTC, datetime

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy


class JobState(TextChoices):
    READY = "READY", gettext_lazy("ready")
    SCHEDULED = "SCHEDULED", gettext_lazy("scheduled")
    RUNNING = "RUNNING", gettext_lazy("running")
    WAITING = "WAITING", gettext_lazy("waiting")
    SUCCESSFUL = "SUCCESSFUL", gettext_lazy("successful")
    FAILED = "FAILED", gettext_lazy("failed")
    CANCELLED = "CANCELLED", gettext_lazy("cancelled")


FINISHED = (JobState.SUCCESSFUL, JobState.FAILED, JobState.CANCELLED)
DELAYED = (JobState.SCHEDULED, JobState.WAITING)
BLOCKED = "blocked"
"""The ``wait_kind`` of a job whose code and checkpoints differ."""
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
"""The ``due_at`` of a job that waits without a timeout."""


class WaitKind(TextChoices):
    """What a WAITING job waits for; ``several``: branches that wait for different things."""

    TIMER = "timer", gettext_lazy("timer")
    EVENT = "event", gettext_lazy("event")
    CHILDREN = "children", gettext_lazy("children")
    APPROVAL = "approval", gettext_lazy("approval")
    CONDITION = "condition", gettext_lazy("condition")
    LIMIT = "limit", gettext_lazy("limit")
    BLOCKED = "blocked", gettext_lazy("blocked")
    SEVERAL = "several", gettext_lazy("several")


class AttemptOutcome(TextChoices):
    FAILED = "FAILED", gettext_lazy("failed")
    RETRYING = "RETRYING", gettext_lazy("failed, tried again")
    CANCELLED = "CANCELLED", gettext_lazy("cancelled")
    LOST = "LOST", gettext_lazy("worker lost")
    BLOCKED = "BLOCKED", gettext_lazy("blocked by a replay mismatch")
    STEP_RETRYING = "STEP_RETRYING", gettext_lazy("a step failed, tried again")


class CheckpointState(TextChoices):
    STARTED = "STARTED", gettext_lazy("started")
    RETRYING = "RETRYING", gettext_lazy("tried again later")
    SUCCESSFUL = "SUCCESSFUL", gettext_lazy("successful")
    FAILED = "FAILED", gettext_lazy("failed")
    COMPENSATED = "COMPENSATED", gettext_lazy("undone by its compensation")


class ApprovalState(TextChoices):
    """Where a question to people stands, as its answer, its wait and its job tell together."""

    OPEN = "OPEN", gettext_lazy("open")
    APPROVED = "APPROVED", gettext_lazy("approved")
    REJECTED = "REJECTED", gettext_lazy("rejected")
    TIMED_OUT = "TIMED_OUT", gettext_lazy("timed out")
    WITHDRAWN = "WITHDRAWN", gettext_lazy("withdrawn")


class TickOutcome(TextChoices):
    """What was made of one time that a schedule came due."""

    ENQUEUED = "ENQUEUED", gettext_lazy("enqueued")
    SKIPPED = "SKIPPED", gettext_lazy("skipped")
    MISSED = "MISSED", gettext_lazy("missed")
