"""New jobs made of another on its page: a fork from one of its steps, a restart with its call."""

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

from django_durable.admin import display
from django_durable.admin.verbs import is_allowed, log
from django_durable.admin.wording import is_unknown
from django_durable.conf import get_settings
from django_durable.exceptions import DurableError, JobNotFoundError
from django_durable.forks import fork_job, restart_job, restart_with_text
from django_durable.models import Job

LONGEST_CALL = 20_000
"""Characters of a call that are offered for editing."""


class ForkForm(forms.Form):
    """From where a job is forked: the buttons beside its checkpoints say it."""

    from_step = forms.CharField(max_length=1_000)


class RestartForm(forms.Form):
    """With which arguments a job is restarted."""

    arguments = forms.CharField(
        required=False,
        strip=True,
        label=gettext_lazy("Arguments of the new job"),
        help_text=gettext_lazy("As they are stored. Empty: the same again."),
        widget=forms.Textarea(attrs={"rows": 6, "cols": 80, "spellcheck": "false"}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """A way to make a new job of another. Both have one permission."""

    name: str
    form: type[forms.Form]
    make: Callable[[UUID, dict[str, Any]], Job]
    """Raises: DurableError."""
    said_of_source: Callable[[Job, dict[str, Any]], str]
    said_of_new: Callable[[UUID, dict[str, Any]], str]
    permission: str = "durable.fork_job"


def _restarted(job_id: UUID, chosen: dict[str, Any]) -> Job:
    text = chosen["arguments"]
    return restart_with_text(job_id, text) if text else restart_job(job_id)


FORK = Making(
    name="fork",
    form=ForkForm,
    make=lambda job_id, chosen: fork_job(job_id, from_step=chosen["from_step"]),
    said_of_source=lambda new, chosen: (
        gettext("Forked at %(step)s as job %(id)s.") % {"step": chosen["from_step"], "id": new.pk}
    ),
    said_of_new=lambda source_id, chosen: (
        gettext("Forked from job %(id)s at %(step)s.")
        % {"id": source_id, "step": chosen["from_step"]}
    ),
)
RESTART = Making(
    name="restart",
    form=RestartForm,
    make=_restarted,
    said_of_source=lambda new, chosen: gettext("Restarted as job %(id)s.") % {"id": new.pk},
    said_of_new=lambda source_id, chosen: gettext("A restart of job %(id)s.") % {"id": source_id},
)


def make_job(request: HttpRequest, making: Making, source_id: UUID) -> UUID:
    """Make the job, note it on both in the same transaction; the id of the job to show next."""
    form = making.form(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(str(e) for found in form.errors.values() for e in found))
        return source_id
    chosen = form.cleaned_data
    try:
        with transaction.atomic(using=get_settings().DATABASE):
            made = making.make(source_id, chosen)
            source = Job.objects.using(get_settings().DATABASE).get(pk=source_id)
            said = making.said_of_new(source_id, chosen)
            log(request, {making.said_of_source(made, chosen): [source], said: [made]})
    except JobNotFoundError:
        messages.error(request, gettext("There is no such job: it was pruned, or never was."))
    except DurableError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, said)
        return made.pk
    return source_id


def restart_form(request: HttpRequest, job: Any) -> RestartForm | None:
    """The form to restart a job; None: the user may not. Without a known task nothing to edit."""
    if not is_allowed(request, RESTART):
        return None
    text = display.pretty(job.arguments)
    form = RestartForm(initial={"arguments": text if len(text) <= LONGEST_CALL else ""})
    if is_unknown(job):
        del form.fields["arguments"]
    return form
