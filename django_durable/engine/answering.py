"""Answering a question of a job: who may, with which form, and the transaction that decides.

The transaction takes the row of the wait's event first, as the wait does when it times out, so that
exactly one of answer and timeout wins. Then the question's row, so that one of two answers wins.
What has become of the question is read in a statement after that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django import forms
from django.apps import apps
from django.db import connections, transaction
from django.db.models import Model, Q
from django.forms.utils import pretty_name
from django.utils.timezone import localtime
from django.utils.translation import gettext, gettext_lazy

from django_durable.conf import get_settings
from django_durable.engine import approvals, decisions, instances, waits
from django_durable.engine.codec import UndecodableError
from django_durable.engine.forms import find_form
from django_durable.engine.rows import approvals as approval_rows
from django_durable.engine.states import ApprovalState, JobState
from django_durable.exceptions import (
    ApprovalClosedError,
    ApprovalDeniedError,
    ApprovalFormError,
    ApprovalNotFoundError,
    MissingInstanceError,
    NotSerializableError,
    PayloadTooLargeError,
    UnknownFormError,
)

if TYPE_CHECKING:
    from django_durable.models import Approval
    from django_durable.models.approval import ApprovalQuerySet

ANSWER_ALL = "durable.answer_approval"
"""The permission to answer every question."""


class ReasonForm(forms.Form):
    """What a rejection may say, and an approval that has no form of its own."""

    reason = forms.CharField(
        required=False,
        max_length=2000,
        strip=True,
        label=gettext_lazy("Reason"),
        help_text=gettext_lazy("If you like to give one."),
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def clean(self) -> dict[str, Any]:
        """Without a reason that was not given."""
        return {name: value for name, value in self.cleaned_data.items() if value}


def find(approval: Approval | int | str) -> Approval:
    """A question as it stands now, with its ``state``. Raises: ApprovalNotFoundError."""
    key: Any = getattr(approval, "pk", approval)
    rows = approval_rows(get_settings().DATABASE).judged()
    try:
        found = rows.filter(pk=key).first()
    except (ValueError, TypeError):  # no key of a row can look like this
        found = None
    if found is None:
        raise ApprovalNotFoundError(approval_id=key)
    return found


def find_subject(approval: Approval) -> Model | None:
    """What is to be approved, as it is now; None if nothing was named, or it is gone."""
    try:
        model = apps.get_model(approval.subject_type or "")
    except (LookupError, ValueError):
        return None
    return instances.find_instance(model, approval.subject_key or "")


def refuse_closed(approval: Approval) -> None:
    """Raises: ApprovalClosedError unless the question was open when it was found."""
    if approval.state != ApprovalState.OPEN:
        raise ApprovalClosedError(title=approval.title, reason=why_closed(approval))


def why_closed(approval: Approval) -> str:
    """What became of a question that is not open, in words."""
    if approval.state in (ApprovalState.APPROVED, ApprovalState.REJECTED):
        return gettext("it was %(state)s by %(name)s at %(when)s.") % {
            "state": ApprovalState(approval.state).label,
            "name": approval.answered_by_name,
            "when": _clock_time(approval.answered_at),
        }
    if approval.state == ApprovalState.TIMED_OUT:
        return gettext("it timed out at %(when)s.") % {"when": _clock_time(approval.deadline_at)}
    return str(_WITHDRAWN.get(approval.job_end, _WENT_ON))


_WENT_ON = gettext_lazy("its job went on without it.")
_WITHDRAWN = {
    JobState.FAILED.value: gettext_lazy("its job failed."),
    JobState.CANCELLED.value: gettext_lazy("its job was cancelled."),
    "": gettext_lazy("its job is gone."),
}


def _clock_time(when: Any) -> str:
    return f"{localtime(when):%Y-%m-%d %H:%M:%S %Z}"


# --- who may


def may_answer(user: Any, approval: Approval) -> bool:
    """Whether a user has the right to answer, be the question open or not."""
    if _holds(user, ANSWER_ALL):
        return True
    if approval.permission is not None:
        return _holds(user, approval.permission)
    return bool(user.is_active) and approval.group_name in groups_of(user)


def _holds(user: Any, permission: str) -> bool:
    """Active superusers hold every permission, inactive users none, whatever the backends say."""
    return bool(user.is_active) and hasattr(user, "has_perm") and bool(user.has_perm(permission))


def groups_of(user: Any) -> set[str]:
    """The names of a user's groups; none of a user model that knows no groups."""
    groups = getattr(user, "groups", None)
    return set() if groups is None else set(groups.values_list("name", flat=True))


def require(user: Any, approval: Approval) -> None:
    """Raises: ApprovalDeniedError, which is Django's PermissionDenied, too."""
    if not may_answer(user, approval):
        raise ApprovalDeniedError(
            user=user.get_username(), title=approval.title, right=right_of(approval)
        )


def right_of(approval: Approval) -> str:
    """What it takes to answer, in words."""
    if approval.permission is not None:
        return gettext("permission %(name)s") % {"name": approval.permission}
    return gettext("membership in group %(name)s") % {"name": approval.group_name}


def open_to(user: Any) -> ApprovalQuerySet:
    """The open questions that a user may answer, the oldest first."""
    questions = approval_rows(get_settings().DATABASE).open().order_by("requested_at", "pk")
    if not user.is_active:
        return questions.none()
    if _holds(user, ANSWER_ALL):
        return questions
    unanswered = approval_rows(questions.db).filter(closed_at=None, permission__isnull=False)
    asked = unanswered.order_by().values_list("permission", flat=True).distinct()
    held = [permission for permission in asked if permission and _holds(user, permission)]
    return questions.filter(Q(group_name__in=groups_of(user)) | Q(permission__in=held))


# --- with which form


def form_class(approval: Approval) -> type[forms.BaseForm]:
    """The form that approving takes. Raises: UnknownFormError."""
    if approval.form_path is None:
        return ReasonForm
    found = find_form(approval.form_path)
    if found is None:
        raise UnknownFormError(path=approval.form_path)
    return found


def bind(approval: Approval, *, approved: bool, data: Mapping[str, Any] | None) -> forms.BaseForm:
    """The form with an answer in it. A rejection takes nothing but a reason, if one is given."""
    cls = form_class(approval) if approved else ReasonForm
    return cls({} if data is None else data)


def shown_answer(approval: Approval) -> list[tuple[str, str]]:
    """The data of an answer as lines of label and text; as it is stored if it does not decode."""
    if approval.answer is None:
        return []
    try:
        data = instances.decode(approval.answer)
    except (MissingInstanceError, UndecodableError):
        data = json.loads(approval.answer)
    fields = _fields_of(approval)
    return [(_label(name, fields.get(name)), _shown(value)) for name, value in data.items()]


def _fields_of(approval: Approval) -> dict[str, forms.Field]:
    try:
        found: Any = form_class(approval)
    except UnknownFormError:
        return {}
    return dict(found.base_fields)


def _label(name: str, field: forms.Field | None) -> str:
    return str(field.label) if field is not None and field.label else pretty_name(name)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    return "" if value is None else str(value)


def clean(approval: Approval, form: forms.BaseForm) -> str:
    """The encoded data of a bound form. Raises: ApprovalFormError."""
    if form.is_valid():
        try:
            limit = get_settings().MAX_PAYLOAD_BYTES
            return decisions.encode_data(form.cleaned_data, limit=limit)
        except (NotSerializableError, PayloadTooLargeError) as error:
            form.add_error(None, str(error))
    errors = {name: [str(text) for text in texts] for name, texts in form.errors.items()}
    lines = [f"{name}: {' '.join(texts)}" for name, texts in errors.items()]
    raise ApprovalFormError(title=approval.title, reason="; ".join(lines), errors=errors, form=form)


# --- the transaction


def answer(
    approval: Approval | int | str, user: Any, *, approved: bool, data: Mapping[str, Any] | None
) -> Approval:
    """Record a user's answer and wake the job; the question as it stands afterwards.

    Raises: ApprovalNotFoundError, ApprovalDeniedError, ApprovalClosedError, UnknownFormError,
    ApprovalFormError; nothing is written then but that a closed question is closed.
    """
    found = find(approval)
    require(user, found)
    refuse_closed(found)
    text = clean(found, bind(found, approved=approved, data=data))
    given = approvals.Answer(
        id=found.pk,
        approved=approved,
        answer=text,
        answered_by_key=str(user.pk),
        answered_by_name=name_of(user),
    )
    refuse_closed(_record(found, given))
    return find(found.pk)


def name_of(user: Any) -> str:
    """What people call a user: the full name, or that of the account."""
    full_name = user.get_full_name() if hasattr(user, "get_full_name") else ""
    return str(full_name or user.get_username())


def _record(approval: Approval, given: approvals.Answer) -> Approval:
    """Write an answer if the question is open still; how it was found under the locks."""
    alias = get_settings().DATABASE
    key = approvals.event_key(approval.job_id, approval.identity)
    with _transaction(alias) as connection:
        waits.lock_events(connection, [key])
        approvals.lock_question(connection, given.id)
        found = find(given.id)
        if found.state != ApprovalState.OPEN:
            approvals.close([given.id], alias)
            return found
        approvals.write_answer(connection, given)
        waits.deliver(connection, [waits.NewEvent(key=key, payload="null")], sender=None)
    return found


@contextmanager
def _transaction(alias: str) -> Iterator[Any]:
    """One that sees in later statements what was committed before its locks were taken.

    Inside a transaction of the caller's that is up to its isolation level; above READ COMMITTED
    the answer may end in a serialisation failure, and then it was not recorded.
    """
    is_outermost = not connections[alias].in_atomic_block
    with transaction.atomic(using=alias):
        connection = connections[alias]
        if is_outermost:
            with connection.cursor() as cursor:
                cursor.execute("set transaction isolation level read committed")
        yield connection
