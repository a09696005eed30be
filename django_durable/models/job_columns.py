"""The columns of a job, each explained where it is declared."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_noop as _

from django_durable.engine.states import JobState
from django_durable.models.base import JsonTextField, ReadOnlyRow, TextArrayField, means


class JobColumns(ReadOnlyRow):
    """What is stored of a job."""

    id = models.UUIDField(
        primary_key=True, **means(_("Version 7: sorts by time of enqueueing, made by the caller."))
    )
    task_path = models.TextField(**means(_("The task's stored identity: its path or an alias.")))
    queue_name = models.TextField(**means(_("The queue that workers serve by name.")))
    priority = models.SmallIntegerField(
        default=0, **means(_("-100 to 100; higher is claimed first within its queue."))
    )
    state = models.TextField(
        choices=JobState.choices,
        **means(_("READY, SCHEDULED, RUNNING, WAITING, SUCCESSFUL, FAILED or CANCELLED.")),
    )
    due_at = models.DateTimeField(
        **means(_("When the job may be claimed, or is looked at again; never null."))
    )
    run_after = models.DateTimeField(
        null=True, **means(_("The caller's wish: not before this time. Null: at once."))
    )
    arguments = JsonTextField(**means(_('{"args": [...], "kwargs": {...}}, encoded values.')))
    encoded_return_value = JsonTextField(
        null=True,
        db_column="return_value",
        **means(_("What the task returned, encoded. Null until SUCCESSFUL.")),
    )
    error = JsonTextField(
        null=True, **means(_("The latest error: type, message, traceback. Null: none yet."))
    )
    lease_token = models.BigIntegerField(
        default=0,
        **means(_("Number of the latest claim, +1 at each, never reset; guards every write.")),
    )
    worker_id = models.BigIntegerField(
        null=True, **means(_("The worker that holds the claim. Null unless RUNNING."))
    )
    attempt = models.IntegerField(
        default=1, **means(_("The current try, from 1, only grows; losing a worker spends none."))
    )
    attempt_base = models.IntegerField(
        default=0, **means(_("Attempts before the last manual retry; the policy counts from here."))
    )
    lost_count = models.SmallIntegerField(
        default=0,
        **means(_("Workers lost in a row without a new checkpoint. From 2 on claimed alone.")),
    )
    parent_id = models.UUIDField(
        null=True, **means(_("The job that enqueued this one. Null: enqueued outside jobs."))
    )
    origin = models.TextField(
        null=True, **means(_("Identity of the enqueueing call in the parent; unique within it."))
    )
    awaited_as = models.TextField(
        null=True,
        **means(_("Under which identity the parent waits for this job. Null: it does not.")),
    )
    on_parent_end = models.TextField(
        null=True, **means(_("What the parent's end does to this job. Null: nothing."))
    )
    depth = models.SmallIntegerField(
        db_default=0, **means(_("How many parents this job has above it; bounded."))
    )
    forked_from_id = models.UUIDField(
        null=True, **means(_("The job whose checkpoints this one started with. Null: none."))
    )
    subject_type = models.TextField(
        null=True, **means(_("Model label of the object the job is about, such as shop.order."))
    )
    subject_key = models.TextField(null=True, **means(_("Primary key of that object, as text.")))
    context = JsonTextField(
        null=True,
        **means(_("Language, time zone, user and more of the enqueuer, encoded. Null: nothing.")),
    )
    wait_kind = models.TextField(
        null=True,
        **means(_("What a WAITING job waits for, such as blocked. Null unless WAITING.")),
    )
    wait_key = models.TextField(
        null=True, **means(_("Name of the event or thing waited for. Null: a time only."))
    )
    wait_reason = models.TextField(
        null=True, **means(_("The wait in words a person reads. Null unless waiting."))
    )
    wait_deadline_at = models.DateTimeField(
        null=True, **means(_("When the current wait times out, fixed by its first suspension."))
    )
    waiting_since = models.DateTimeField(
        null=True, **means(_("When the job was first suspended for what it waits for."))
    )
    blocked_count = models.SmallIntegerField(
        default=0, **means(_("Replay mismatches in a row; doubles the time to the next look."))
    )
    allowed_steps = TextArrayField(
        default=list,
        **means(_("Step names an operator allowed to run although no checkpoint is known.")),
    )
    cancel_requested_at = models.DateTimeField(
        null=True, **means(_("When cancelling was asked for; obeyed at the next durable point."))
    )
    deadline_at = models.DateTimeField(
        null=True, **means(_("Past this time the job never starts. Null: no deadline."))
    )
    ends_as = models.TextField(
        null=True,
        **means(_("The final state decided on while compensations run. Null: none is decided.")),
    )
    cancels_children = models.BooleanField(
        db_default=False, **means(_("Whether live children are still to be cancelled."))
    )
    continued_count = models.IntegerField(
        db_default=0, **means(_("How often continue_as() started this job over."))
    )
    limit_name = models.TextField(
        null=True, **means(_("The limit the job is under, besides its queue's. Null: none."))
    )
    limit_key = models.TextField(
        null=True,
        **means(_("What the limit counts apart, such as a customer; empty: all together.")),
    )
    unique_key = models.TextField(
        null=True, **means(_("No other job has it while this one is unique. Null: not, or freed."))
    )
    unique_while = models.TextField(
        null=True,
        **means(_("How long the job is unique: queued, unfinished or period. Null: never.")),
    )
    unique_until = models.DateTimeField(
        null=True, **means(_("When a period of uniqueness ends. Null: it is no period."))
    )
    schedule_name = models.TextField(
        null=True, **means(_("The schedule that enqueued the job. Null: none did."))
    )
    tick_at = models.DateTimeField(
        null=True, **means(_("The time that the schedule enqueued it for. Null: none did."))
    )
    claimed_ahead = models.BooleanField(
        db_default=False,
        **means(_("Claimed before a slot was free, and not known to have begun since.")),
    )
    code_version = models.TextField(
        null=True, **means(_("Fingerprint of the worker's code at the latest claim."))
    )
    enqueued_at = models.DateTimeField(**means(_("When the enqueueing statement ran.")))
    claimed_at = models.DateTimeField(null=True, **means(_("When the latest claim was made.")))
    started_at = models.DateTimeField(
        null=True, **means(_("When the body first began. Null: never begun."))
    )
    finished_at = models.DateTimeField(
        null=True, **means(_("When the final state was written. Null: not finished."))
    )

    class Meta:
        abstract = True
