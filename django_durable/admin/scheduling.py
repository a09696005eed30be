"""What can be done to schedules in the admin: the form of one, and the verbs, each recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext, gettext_lazy, ngettext

from django_durable import schedules
from django_durable.admin import display
from django_durable.admin.verbs import log
from django_durable.conf import get_settings
from django_durable.cron import LONGEST_NAME, Overlap, check_schedule_name
from django_durable.engine import declaring, intake, registry
from django_durable.engine.schedules import ScheduleValues
from django_durable.engine.ticks import LONGEST_EXPRESSION
from django_durable.exceptions import DurableError, InvalidOptionError
from django_durable.models import Schedule

if TYPE_CHECKING:
    _ScheduleModelForm = forms.ModelForm[Schedule]
else:
    _ScheduleModelForm = forms.ModelForm

_FIELDS = {"tz": "timezone"}
"""The fields of the form by the option that a refusal names, where they differ."""
_MISSED = {
    "one": gettext_lazy("the latest is made up"),
    "none": gettext_lazy("none is made up"),
    "all": gettext_lazy("all are made up, the latest hundred at most"),
}
_OVERLAP = {
    "skip": gettext_lazy("nothing is enqueued"),
    "queue": gettext_lazy("another job is enqueued"),
    "cancel": gettext_lazy("that job is cancelled for a new one"),
}


def _known_tasks() -> list[tuple[str, str]]:
    return [(task.path, task.path) for task in registry.iter_tasks()]


class ScheduleForm(_ScheduleModelForm):
    """A schedule, checked as everywhere: by the rule, the task's signature and the codec."""

    name = forms.CharField(
        max_length=LONGEST_NAME,
        label=gettext_lazy("Name"),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    task_path = forms.ChoiceField(choices=_known_tasks, label=gettext_lazy("Task"))
    cron = forms.CharField(
        max_length=LONGEST_EXPRESSION,
        label=gettext_lazy("Cron expression"),
        help_text=gettext_lazy(
            "Minute, hour, day, month, weekday, such as 0 6 * * 1-5; or six, seconds first."
        ),
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
    )
    timezone = forms.CharField(
        max_length=100,
        label=gettext_lazy("Time zone"),
        help_text=gettext_lazy("Such as Europe/Berlin."),
        initial=declaring.default_zone,
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
    )
    arguments = forms.CharField(
        label=gettext_lazy("Arguments"),
        help_text=gettext_lazy("What the task is called with, as it is stored."),
        initial='{"args": [], "kwargs": {}}',
        widget=forms.Textarea(attrs={"rows": 4, "cols": 80, "spellcheck": "false"}),
    )
    missed = forms.ChoiceField(
        choices=[(name, _MISSED[name]) for name in ("one", "none", "all")],
        label=gettext_lazy("Of missed ticks"),
        help_text=gettext_lazy("Those that passed while no worker was alive."),
    )
    overlap = forms.ChoiceField(
        choices=[(name, _OVERLAP[name]) for name in get_args(Overlap)],
        label=gettext_lazy("While an earlier job is unfinished"),
    )
    jitter = forms.DurationField(
        required=False,
        label=gettext_lazy("Jitter"),
        help_text=gettext_lazy("Each job is due up to so much later, such as 00:00:30."),
    )

    class Meta:
        model = Schedule
        fields: ClassVar = [
            "name", "task_path", "cron", "timezone", "jitter", "arguments", "missed", "overlap",
        ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["arguments"] = display.pretty(self.instance.arguments)
            self.initial["jitter"] = self.instance.jitter

    def clean_jitter(self) -> timedelta | None:
        return self.cleaned_data["jitter"] or None

    def clean(self) -> dict[str, Any]:
        """Check all values together. The arguments become text as the codec writes it."""
        found = self.cleaned_data
        if self.errors:
            return found
        try:
            values = self._values(found)
            if "name" in found:
                _check_name(found["name"])
            declaring.check(values)
        except DurableError as error:
            self.add_error(_field_of(error, self.fields), getattr(error, "reason", str(error)))
        else:
            found["arguments"] = values.arguments
        return found

    def _values(self, found: dict[str, Any]) -> ScheduleValues:
        path = found.get("task_path", self.instance.task_path)
        call = declaring.read_call(path, found["arguments"])
        args, kwargs = tuple(call.args), call.kwargs
        return ScheduleValues(
            task_path=path,
            cron=found["cron"],
            timezone=found["timezone"],
            arguments=intake.encode_call(registry.get_task(path), args, kwargs),
            missed=found["missed"],
            overlap=found["overlap"],
            jitter=found["jitter"],
        )

    def _post_clean(self) -> None:
        """Nothing: rows are checked above, and written by the engine."""

    @property
    def changes(self) -> dict[str, Any]:
        """The columns that were edited."""
        return {name: self.cleaned_data[name] for name in self.changed_data}

    @property
    def values(self) -> ScheduleValues:
        return ScheduleValues(**{n: self.cleaned_data[n] for n in ScheduleValues.__slots__})


def _check_name(name: str) -> None:
    check_schedule_name(name)
    if Schedule.objects.using(get_settings().DATABASE).filter(pk=name).exists():
        reason = gettext("There is a schedule of that name already.")
        raise InvalidOptionError(option="name", value=name, reason=reason)


def _field_of(error: DurableError, fields: Any) -> str:
    option = str(getattr(error, "option", "arguments"))
    field = _FIELDS.get(option, option)
    return field if field in fields else "arguments"


class BackfillForm(forms.Form):
    """The range whose ticks are made up."""

    since = forms.DateTimeField(
        label=gettext_lazy("From"),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}),
    )
    until = forms.DateTimeField(
        label=gettext_lazy("To"),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}),
    )
    again = forms.BooleanField(required=False, label=gettext_lazy("also ticks that have a job"))
    dry_run = forms.BooleanField(
        required=False, initial=True, label=gettext_lazy("only say what would be done")
    )


# --- verbs


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleVerb:
    """Something done to one schedule, which says what it did."""

    name: str
    do: Callable[[str, dict[str, Any]], str]
    """Raises: DurableError."""
    permission: str = "durable.change_schedule"
    viewing: str = "durable.view_schedule"
    form: type[forms.Form] = forms.Form


def _pause(name: str, chosen: dict[str, Any]) -> str:
    schedules.pause_schedule(name)
    return gettext("Paused.")


def _resume(name: str, chosen: dict[str, Any]) -> str:
    schedules.resume_schedule(name)
    return gettext("Resumed: it goes on with its next tick from now.")


def _run(name: str, chosen: dict[str, Any]) -> str:
    job = schedules.run_schedule(name)
    return gettext("Enqueued job %(id)s.") % {"id": job.pk}


def _backfill(name: str, chosen: dict[str, Any]) -> str:
    ticks = schedules.backfill_schedule(name, **chosen)
    count = sum(tick.is_enqueued for tick in ticks)
    numbers = {"ticks": len(ticks), "n": count}
    if chosen["dry_run"]:
        said = ngettext(
            "Of %(ticks)d ticks in the range %(n)d would be enqueued. Nothing was done.",
            "Of %(ticks)d ticks in the range %(n)d would be enqueued. Nothing was done.",
            count,
        )
    else:
        said = gettext("Of %(ticks)d ticks in the range %(n)d were enqueued.")
    return said % numbers


PAUSE = ScheduleVerb(name="pause", do=_pause)
RESUME = ScheduleVerb(name="resume", do=_resume)
RUN = ScheduleVerb(name="run", do=_run, permission="durable.run_schedule")
BACKFILL = ScheduleVerb(
    name="backfill", do=_backfill, permission="durable.run_schedule", form=BackfillForm
)
VERBS = (PAUSE, RESUME, RUN, BACKFILL)


def apply(request: HttpRequest, verb: ScheduleVerb, name: str) -> None:
    """Do it to one schedule, record it in the same transaction, and say what came of it."""
    form = verb.form(request.POST)
    if not form.is_valid():
        said = [f"{form[n].label}: {e}" for n, found in form.errors.items() for e in found]
        messages.error(request, " ".join(said))
        return
    try:
        with transaction.atomic(using=get_settings().DATABASE):
            said_of_it = verb.do(name, form.cleaned_data)
            if not form.cleaned_data.get("dry_run"):
                log(request, {said_of_it: [schedules.get_schedule(name)]})
    except DurableError as error:
        messages.error(request, f"{name}: {error}")
    else:
        messages.success(request, f"{name}: {said_of_it}")
