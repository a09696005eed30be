"""Retry and cancel, for one job and for many: allowed, done by ``django_durable.jobs``, noted."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.http import HttpRequest
from django.utils.text import Truncator
from django.utils.translation import gettext, gettext_lazy, ngettext_lazy

from django_durable import jobs
from django_durable.conf import get_settings
from django_durable.engine.families import lock_jobs
from django_durable.exceptions import JobNotFoundError, JobStateError
from django_durable.jobs import BulkResult
from django_durable.models import Job, JobQuerySet, JobState

logger = logging.getLogger("django_durable")

FEW = 100
"""So many selected jobs have an entry each in the admin's log; more have one together."""


class RetryForm(forms.Form):
    """How one job is retried."""

    rerun_interrupted = forms.BooleanField(
        required=False,
        label=gettext_lazy("Run the interrupted step again"),
        help_text=gettext_lazy(
            "Its process died inside it, and nobody knows whether it took effect. "
            "Look first: it may then have happened twice."
        ),
    )
    allow_new_steps = forms.CharField(
        required=False,
        max_length=10_000,
        label=gettext_lazy("New steps that may run"),
        help_text=gettext_lazy("Names of steps that have no checkpoint yet, one in each line."),
        widget=forms.Textarea(attrs={"rows": 2, "cols": 40}),
    )

    def clean_allow_new_steps(self) -> list[str]:
        """The names, also where an identity such as ``charge#2`` was pasted."""
        lines = (line.strip() for line in self.cleaned_data["allow_new_steps"].splitlines())
        return [line.rpartition("/")[2].partition("#")[0] for line in lines if line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What can be done to jobs here. Texts with a number are chosen by it."""

    name: str
    one: Callable[..., Job]
    many: Callable[[JobQuerySet], BulkResult]
    fitting: Callable[[JobQuerySet], JobQuerySet]
    """The jobs of a queryset that the verb changes."""
    done: Callable[[str], str]
    """What was done to a job, by the state it had or has."""
    not_done: Any
    form: type[forms.Form] = forms.Form
    """The options of the verb for one job."""
    changed: Any
    unchanged: Any

    @property
    def permission(self) -> str:
        return f"durable.{self.name}_job"

    @property
    def action(self) -> str:
        """The name of the list's action."""
        return f"{self.name}_selected"


def _retried(state: str) -> str:
    return gettext("Retried.")


def _cancelled(state: str) -> str:
    if state == JobState.RUNNING:
        return gettext("Asked to stop: it ends at its next durable point.")
    return gettext("Cancelled.")


RETRY = Verb(
    name="retry",
    one=jobs.retry_job,
    many=jobs.retry_jobs,
    fitting=JobQuerySet.retryable,
    form=RetryForm,
    done=_retried,
    not_done=gettext_lazy("Not retried: only failed, cancelled and blocked jobs are."),
    changed=ngettext_lazy("%(n)d job was retried.", "%(n)d jobs were retried.", "n"),
    unchanged=ngettext_lazy(
        "%(n)d job was left as it was: only failed, cancelled and blocked jobs are retried.",
        "%(n)d jobs were left as they were: only failed, cancelled and blocked jobs are retried.",
        "n",
    ),
)
CANCEL = Verb(
    name="cancel",
    one=jobs.cancel_job,
    many=jobs.cancel_jobs,
    fitting=JobQuerySet.live,
    done=_cancelled,
    not_done=gettext_lazy("Not cancelled: it was finished."),
    changed=ngettext_lazy(
        "%(n)d job was cancelled; if it runs, it was asked to stop.",
        "%(n)d jobs were cancelled; those that run were asked to stop.",
        "n",
    ),
    unchanged=ngettext_lazy(
        "%(n)d job was left as it was: it is finished.",
        "%(n)d jobs were left as they were: they are finished.",
        "n",
    ),
)
VERBS = (RETRY, CANCEL)


class Permitted(Protocol):
    """Something done to jobs that needs a permission."""

    @property
    def name(self) -> str: ...
    @property
    def permission(self) -> str: ...


def is_allowed(request: HttpRequest, verb: Permitted) -> bool:
    """Whether the user may see jobs, or what else it is done to, and do this to them."""
    viewing = getattr(verb, "viewing", "durable.view_job")
    return bool(_user(request).has_perms([viewing, verb.permission]))


def _user(request: HttpRequest) -> Any:
    return request.user


def require(request: HttpRequest, verb: Permitted, target: object) -> None:
    """Raises: PermissionDenied, having recorded who tried what."""
    if not is_allowed(request, verb):
        refuse(request, verb.name, verb.permission, target)


def refuse(request: HttpRequest, name: str, permission: str, target: object) -> NoReturn:
    """Raises: PermissionDenied, having recorded who tried what."""
    logger.warning(
        "Refused: user %s may not %s %s.",
        request.user.get_username(),
        name,
        target,
        extra={"user_id": request.user.pk, "permission": permission},
    )
    raise PermissionDenied


# --- one job


def apply_to_one(request: HttpRequest, verb: Verb, job_id: UUID) -> None:
    """Do it to one job, record it in the same transaction, and say what came of it."""
    form = verb.form(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(str(e) for found in form.errors.values() for e in found))
        return
    try:
        with transaction.atomic(using=get_settings().DATABASE):
            job = verb.one(job_id, **form.cleaned_data)
            said = verb.done(job.state)
            log(request, {said + describe_options(form.cleaned_data): [job]})
    except JobNotFoundError:
        messages.error(request, gettext("There is no such job: it was pruned, or never was."))
    except JobStateError:
        messages.warning(request, verb.not_done)
    else:
        messages.success(request, said)


def describe_options(options: Mapping[str, Any]) -> str:
    parts = []
    if options.get("rerun_interrupted"):
        parts.append(gettext("The interrupted step may run again."))
    if names := options.get("allow_new_steps"):
        parts.append(gettext("New steps allowed: %(names)s.") % {"names": ", ".join(names)})
    return "".join(f" {part}" for part in parts)


# --- many jobs


def apply_to_many(request: HttpRequest, verb: Verb, selected: JobQuerySet) -> None:
    """Do it to every job of a queryset that it fits, record it, and say how many it changed.

    Jobs enqueued after the request came are not among them.
    """
    newest = selected.order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        messages.warning(request, gettext("None of the selected jobs is there any more."))
        return
    selected = selected.filter(pk__lte=newest)
    few = len(selected.values("pk")[: FEW + 1]) <= FEW
    apply = _apply_to_few if few else _apply_in_chunks
    result = apply(request, verb, selected)
    for level, said in _counts(verb, result):
        messages.add_message(request, level, said)


def _apply_to_few(request: HttpRequest, verb: Verb, selected: JobQuerySet) -> BulkResult:
    """In one transaction with an entry in the log for each job, saying what became of it."""
    with transaction.atomic(using=get_settings().DATABASE):
        # with the parents that wait for them, in one statement: ends of children lock both, too
        lock_jobs(connections[selected.db], list(selected.values_list("pk", flat=True)))
        held = {job.pk: job for job in selected.only("id", "task_path", "state").order_by("pk")}
        locked = Job.objects.using(selected.db).filter(pk__in=list(held))
        fitting = {*verb.fitting(locked).values_list("pk", flat=True)}
        result = verb.many(locked)
        entries: dict[str, list[Job]] = defaultdict(list)
        for job in held.values():
            said = verb.done(job.state) if job.pk in fitting else str(verb.not_done)
            entries[said].append(job)
        log(request, entries)
    return result


def log(request: HttpRequest, entries: Mapping[str, Sequence[Any]]) -> None:
    for message, rows in entries.items():
        LogEntry.objects.log_actions(_user(request).pk, rows, CHANGE, change_message=message)


def _apply_in_chunks(request: HttpRequest, verb: Verb, selected: JobQuerySet) -> BulkResult:
    """With one entry in the log, there from the beginning, for each chunk is a commit."""
    entry = LogEntry.objects.create(
        user_id=_user(request).pk,
        content_type=get_content_type_for_model(Job),
        object_repr=Truncator(_describe(verb, request.GET.urlencode())).chars(200),
        action_flag=CHANGE,
        change_message=gettext("Began, and did not end."),
    )
    result = verb.many(selected)
    entry.change_message = " ".join(said for _, said in _counts(verb, result))
    entry.save(update_fields=["change_message"])
    return result


def _counts(verb: Verb, result: BulkResult) -> list[tuple[int, str]]:
    """What to say of a result, each with the level of the message."""
    texts = (
        (messages.SUCCESS, verb.changed, result.changed),
        (messages.WARNING, verb.unchanged, result.unchanged),
    )
    return [(level, text % {"n": number}) for level, text, number in texts if number]


def _describe(verb: Verb, filters: str) -> str:
    if not filters:
        return gettext("%(verb)s: all jobs") % {"verb": verb.name}
    return gettext("%(verb)s: all jobs of ?%(filters)s") % {"verb": verb.name, "filters": filters}
