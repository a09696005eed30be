"""Schedules: rules by which jobs are enqueued again and again, and each time they did."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from django_durable.engine.states import TickOutcome
from django_durable.models.base import JsonTextField, ReadOnlyRow, means


class Schedule(ReadOnlyRow):
    """A rule, declared with a task or made by an operator."""

    name = models.TextField(primary_key=True, **means(_("Its name; a declared one's task path.")))
    task_path = models.TextField(**means(_("The task whose jobs it enqueues.")))
    cron = models.TextField(
        **means(_("The cron expression: minute hour day month weekday, or six with the second."))
    )
    timezone = models.TextField(**means(_("The time zone the expression is read in.")))
    arguments = JsonTextField(**means(_('{"args": [...], "kwargs": {...}}, encoded values.')))
    missed = models.TextField(**means(_("Ticks that passed unseen are made up: none, one or all.")))
    overlap = models.TextField(
        **means(_("While its last job is unfinished: skip, queue, or cancel the other."))
    )
    jitter = models.DurationField(null=True, **means(_("Jobs are due up to so much later.")))
    paused_at = models.DateTimeField(
        null=True, **means(_("Since when it rests. Null: it does not."))
    )
    last_tick_at = models.DateTimeField(
        null=True, **means(_("The latest tick that was decided on. Null: none yet."))
    )
    next_tick_at = models.DateTimeField(
        null=True, **means(_("The next tick to decide on. Null: it never comes."))
    )
    problem = models.TextField(
        default="", **means(_("Why a tick that is due could not be decided on. Empty: it could."))
    )
    declared = JsonTextField(
        null=True,
        **means(_("What the code said last; an operator's other values stay. Null: not declared.")),
    )
    declared_by = models.TextField(
        null=True, **means(_("The version of the code that said so. Null: not declared."))
    )
    retired_at = models.DateTimeField(
        null=True, **means(_("Since when the code declares it no more: it rests. Null: it does."))
    )
    created_at = models.DateTimeField(**means(_("When it was made.")))

    class Meta:
        verbose_name = gettext_lazy("schedule")
        verbose_name_plural = gettext_lazy("schedules")
        ordering: ClassVar = ["name"]
        default_permissions = ("add", "view", "change", "delete")
        permissions: ClassVar = [("run_schedule", "Can run schedules now, and make up their ticks")]
        indexes: ClassVar = [models.Index(fields=["next_tick_at"], name="schedule_next")]

    def __str__(self) -> str:
        return self.name


class Tick(ReadOnlyRow):
    """One time a schedule came due, and what was made of it: unique, so it is decided once."""

    id = models.BigAutoField(primary_key=True)
    schedule_name = models.TextField(**means(_("The schedule.")))
    tick_at = models.DateTimeField(**means(_("The time the rule names.")))
    outcome = models.TextField(
        choices=TickOutcome.choices, **means(_("ENQUEUED, SKIPPED or MISSED."))
    )
    reason = models.TextField(default="", **means(_("Why no job was enqueued, for people.")))
    job_id = models.UUIDField(null=True, **means(_("The job. Null: none was enqueued.")))
    decided_at = models.DateTimeField(**means(_("When a worker decided on it.")))

    class Meta:
        verbose_name = gettext_lazy("tick")
        verbose_name_plural = gettext_lazy("ticks")
        ordering: ClassVar = ["-tick_at"]
        default_permissions = ("view",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["schedule_name", "tick_at"], name="tick_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["tick_at"], name="tick_oldest")]

    def __str__(self) -> str:
        return f"{self.schedule_name} {self.tick_at:%Y-%m-%d %H:%M %Z}"
