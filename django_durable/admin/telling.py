"""Bringing one job what it waits for, on its page: an event, or the end of its sleep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext, gettext_lazy

from django_durable.admin.verbs import is_allowed, log
from django_durable.conf import get_settings
from django_durable.engine.codec import UndecodableError
from django_durable.engine.instances import decode
from django_durable.events import send_event
from django_durable.exceptions import DurableError, JobNotFoundError
from django_durable.jobs import get_job, wake_job
from django_durable.models import Checkpoint, CheckpointState, Job, JobState


class SendForm(forms.Form):
    """Which event a job is sent."""

    name = forms.CharField(max_length=200, label=gettext_lazy("Event"))
    payload = forms.CharField(
        required=False,
        label=gettext_lazy("Payload"),
        help_text=gettext_lazy("JSON, as values are stored. Empty: null."),
        widget=forms.Textarea(attrs={"rows": 2, "cols": 40, "spellcheck": "false"}),
    )

    def clean_payload(self) -> Any:
        text = self.cleaned_data["payload"].strip()
        try:
            return decode(text) if text else None
        except (ValueError, UndecodableError, DurableError) as error:
            reason = gettext("The payload is no JSON value: %(error)s") % {"error": error}
            raise forms.ValidationError(reason) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """A way to make one job go on. Both have one permission."""

    name: str
    form: type[forms.Form]
    tell: Callable[[UUID, dict[str, Any]], object]
    """Raises: DurableError."""
    said: Callable[[dict[str, Any]], str]
    permission: str = "durable.send_event"


SEND = Telling(
    name="send an event to",
    form=SendForm,
    tell=lambda job_id, chosen: send_event(job_id, chosen["name"], chosen["payload"]),
    said=lambda chosen: gettext("Sent event %(name)s.") % {"name": chosen["name"]},
)
WAKE = Telling(
    name="wake",
    form=forms.Form,
    tell=lambda job_id, chosen: wake_job(job_id),
    said=lambda chosen: gettext("Woken: it goes on at once."),
)


def tell_job(request: HttpRequest, telling: Telling, job_id: UUID) -> None:
    """Do it, record it in the same transaction, and say what came of it."""
    form = telling.form(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(str(e) for found in form.errors.values() for e in found))
        return
    try:
        with transaction.atomic(using=get_settings().DATABASE):
            telling.tell(job_id, form.cleaned_data)
            said = telling.said(form.cleaned_data)
            log(request, {said: [get_job(job_id)]})
    except JobNotFoundError:
        messages.error(request, gettext("There is no such job: it was pruned, or never was."))
    except DurableError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, said)


def send_form(request: HttpRequest, job: Job) -> SendForm | None:
    """The form to send the event a job waits for; None: it waits for none, or the user may not."""
    if job.state != JobState.WAITING or not is_allowed(request, SEND):
        return None
    prefix = f"message/{job.pk}/"
    waits = Checkpoint.objects.using(job._state.db).filter(
        job_id=job.pk, state=CheckpointState.STARTED, wait_key__startswith=prefix
    )
    first = waits.order_by("seq").first()
    if first is None:
        return None
    return SendForm(initial={"name": str(first.wait_key).removeprefix(prefix)})


def can_wake(request: HttpRequest, job: Job) -> bool:
    """Whether the user may end the job's sleep, or the time it is scheduled for."""
    if not is_allowed(request, WAKE):
        return False
    if job.state == JobState.SCHEDULED:
        return True
    sleeps = Checkpoint.objects.using(job._state.db).filter(
        job_id=job.pk, state=CheckpointState.STARTED, kind="sleep"
    )
    return job.state == JobState.WAITING and sleeps.exists()
