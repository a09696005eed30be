"""What operators say about queues and limits in the admin: the forms, who may, and the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest
from django.utils.duration import duration_string
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin import verbs
from django_durable.admin.display import duration
from django_durable.conf import get_settings
from django_durable.engine.queues import BOUNDS
from django_durable.exceptions import InvalidOptionError
from django_durable.limits import HIGHEST, check_period


class BoundsForm(forms.Form):
    """How many jobs run at once, and how many start in a time. Empty: any number."""

    concurrency = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=HIGHEST,
        label=gettext_lazy("At once"),
        help_text=gettext_lazy("How many jobs run at the same time, at most. Empty: any number."),
    )
    rate = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=HIGHEST,
        label=gettext_lazy("Starts"),
        help_text=gettext_lazy("How many jobs start within any period, at most. Empty: any."),
    )
    period = forms.DurationField(
        required=False,
        label=gettext_lazy("Period"),
        help_text=gettext_lazy("Seconds, or hours:minutes:seconds. The rate needs one."),
        widget=forms.TextInput,
    )

    def clean(self) -> dict[str, Any]:
        rate, period = self.cleaned_data.get("rate"), self.cleaned_data.get("period")
        if not self.errors and (problem := check_period(rate, period)):
            self.add_error("period", problem)
        return self.cleaned_data

    @classmethod
    def of(cls, row: Any) -> BoundsForm:
        """The form as the row stands."""
        period = None if row.period is None else duration_string(row.period)
        return cls(
            initial={"concurrency": row.concurrency, "rate": row.rate, "period": period},
        )


def bounds_in_words(concurrency: int | None, rate: int | None, period: timedelta | None) -> str:
    """``5 at once, 100 in 1 min 0 s``; empty: any number."""
    parts = []
    if concurrency is not None:
        parts.append(gettext("%(n)d at once") % {"n": concurrency})
    if rate is not None and period is not None:
        numbers = {"rate": rate, "period": duration(period)}
        parts.append(gettext("%(rate)d in %(period)s") % numbers)
    return ", ".join(parts)


def bounds_of(row: Any, prefix: str = "") -> str:
    """The same of a row, or of what it says that the code declares."""
    return bounds_in_words(*(getattr(row, f"{prefix}{column}") for column in BOUNDS))


# --- who may, and the record


@dataclass(frozen=True, slots=True)
class Changing:
    """Changing rows of a kind, which needs a permission."""

    name: str
    permission: str

    def is_allowed(self, request: HttpRequest) -> bool:
        user: Any = request.user
        return bool(user.has_perm(self.permission))

    def require(self, request: HttpRequest, target: object) -> None:
        """Raises: PermissionDenied, having recorded who tried what."""
        if not self.is_allowed(request):
            verbs.refuse(request, self.name, self.permission, target)


def apply(
    request: HttpRequest,
    form: forms.Form,
    change: Callable[[dict[str, Any]], Model],
    said: Callable[[dict[str, Any]], str],
) -> bool:
    """Change a row as a form says, record it in the same transaction, tell it; whether it was done.

    What is refused becomes an error of the form.
    """
    if not form.is_valid():
        return False
    user: Any = request.user
    try:
        with transaction.atomic(using=get_settings().DATABASE):
            row = change(form.cleaned_data)
            text = said(form.cleaned_data)
            LogEntry.objects.log_actions(user.pk, [row], CHANGE, change_message=text)
    except InvalidOptionError as error:
        option, reason = str(error.option), str(vars(error)["reason"])
        form.add_error(option if option in form.fields else None, reason)
        return False
    messages.success(request, f"{row}: {text}")
    return True
