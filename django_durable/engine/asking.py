"""Asking people: checked before anything is written, then a row that they find, then a wait for it.

The row holds the question, its deadline and later the answer. The event it belongs to carries
nothing: it is what the wait and whoever answers lock, and what wakes the job.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from django.apps import apps
from django.contrib.auth import get_backends
from django.utils.functional import Promise

from django_durable.engine import approvals, forms, instances, waiting
from django_durable.engine.approvals import Asked, Question
from django_durable.engine.decisions import Decision, decode_decision
from django_durable.engine.options import LONGEST, check_moment
from django_durable.engine.replay import Recorded
from django_durable.engine.states import WaitKind
from django_durable.engine.threads import release_connections
from django_durable.engine.waiting import Point, WaitRule
from django_durable.exceptions import ApprovalRequestError

CALL = "wait_for_approval()"
TIMED_OUT = '{"timed_out":true}'
LONGEST_TITLE = 200  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A question in the shape of its row; exactly one of group and permission is there."""

    title: str
    form_path: str | None
    group_name: str | None
    permission: str | None
    subject_type: str | None
    subject_key: str | None
    deadline_at: datetime | None
    deadline: timedelta | None

    @property
    def fingerprint(self) -> str | None:
        """What a replay must ask about as well: the subject. Words and rights may change."""
        return f"{self.subject_type}:{self.subject_key}" if self.subject_type else None


def check(
    title: Any, *, form: Any, group: Any, permission: Any, deadline: Any, subject: Any
) -> Wanted:
    """The question, without asking the database. Raises: ApprovalRequestError."""
    subject_type, subject_key = _check_subject(subject)
    if (group is None) == (permission is None):
        reason = "who may answer? Give one of group= and permission=, and not both."
        refuse("group", group, reason)
    return Wanted(
        title=_check_title(title),
        form_path=_check_form(form),
        group_name=None if group is None else _check_group(group),
        permission=None if permission is None else _check_permission(permission),
        subject_type=subject_type,
        subject_key=subject_key,
        deadline_at=_check_time(deadline) if isinstance(deadline, datetime) else None,
        deadline=None if isinstance(deadline, datetime) else _check_span(deadline),
    )


def refuse(option: str, value: Any, reason: str) -> NoReturn:
    raise ApprovalRequestError(option=option, value=value, reason=reason)


def _check_title(title: Any) -> str:
    if not isinstance(title, str | Promise) or not str(title).strip():
        refuse("title", title, "it must be the question, in a line of text.")
    text = str(title).strip()
    if len(text) > LONGEST_TITLE or len(text.splitlines()) > 1:
        reason = f"it must be one line of {LONGEST_TITLE} characters at most; details belong to "
        refuse("title", text, f"{reason}the subject or the form.")
    if text != instances.storable(text):
        refuse("title", text, "it holds a NUL character or half of a surrogate pair.")
    return text


def _check_form(form: Any) -> str | None:
    if form is None:
        return None
    if problem := forms.problem_of(form):
        refuse("form", form, problem)
    return forms.path_of(form)


def _check_group(group: Any) -> str:
    name = group if isinstance(group, str) else getattr(group, "name", None)
    if not isinstance(name, str) or not _is_text(name):
        refuse("group", group, "it must be a Group, or the name of one.")
    return str(name)


def _check_permission(permission: Any) -> str:
    app_label, _, codename = str(permission).partition(".")
    if not (isinstance(permission, str) and _is_text(permission) and app_label and codename):
        refuse("permission", permission, 'it must look like "app_label.codename".')
    return str(permission)


def _is_text(text: str) -> bool:
    return bool(text.strip()) and text == instances.storable(text)


def _check_subject(subject: Any) -> tuple[str | None, str | None]:
    if subject is None:
        return None, None
    try:
        found = instances.model_key(subject)
    except ValueError as error:
        refuse("subject", subject, str(error))
    if found is None:
        refuse("subject", subject, "it must be a model instance.")
    return found[0], str(found[1])


def _check_time(deadline: datetime) -> datetime:
    if problem := check_moment(deadline):
        refuse("deadline", deadline, problem)
    return deadline.astimezone(UTC)


def _check_span(deadline: Any) -> timedelta | None:
    if deadline is None:
        return None
    if not isinstance(deadline, timedelta):
        refuse("deadline", deadline, "it must be a timedelta, or an aware datetime.")
    if not timedelta(0) < deadline <= LONGEST:
        refuse("deadline", deadline, "it must be positive, and a hundred years at most.")
    return deadline


# --- what only the database knows


def check_answerable(wanted: Wanted) -> None:
    """Make sure that somebody could answer. Raises: ApprovalRequestError.

    Asked when the question is new, not in a replay: an open question outlives its group. Backends
    of the project's own may know permissions that have no row; then any is believed.
    """
    if not apps.is_installed("django.contrib.auth"):
        refuse("title", wanted.title, "people are users: install django.contrib.auth.")
    if wanted.group_name is not None:
        groups = apps.get_model("auth", "Group")._base_manager
        if not groups.filter(name=wanted.group_name).exists():
            refuse("group", wanted.group_name, "there is no such group; make it first.")
    elif wanted.permission is not None and _all_permissions_have_rows():
        app_label, _, codename = wanted.permission.partition(".")
        found = apps.get_model("auth", "Permission")._base_manager.filter(
            content_type__app_label=app_label, codename=codename
        )
        if not found.exists():
            refuse("permission", wanted.permission, "there is no such permission.")


def _all_permissions_have_rows() -> bool:
    return all(type(b).__module__ == "django.contrib.auth.backends" for b in get_backends())


# --- asking, and waiting


def wait(wanted: Wanted) -> Decision | None:
    """The answer, or None for a deadline that passed without. Raises: Suspension until then."""
    run = waiting.require_wait(CALL)
    scope = run.scope
    scope.enter(CALL)
    try:
        found = waiting.find(run, _rule(wanted))
        record = found if isinstance(found, Recorded) else waiting.settle(_ask(found, wanted))
    finally:
        scope.leave()
    assert record.value is not None  # the end of a wait has a value
    return None if record.value == TIMED_OUT else decode_decision(record.value)


def _rule(wanted: Wanted) -> WaitRule:
    return WaitRule(
        call=CALL,
        name="approval",
        checkpoint_kind="approval",
        kind=WaitKind.APPROVAL,
        reason=f'waits for approval: "{wanted.title}"',
        timed_out=TIMED_OUT,
        fingerprint=wanted.fingerprint,
        look=_look,
        on_timeout=_close,
    )


def _ask(point: Point, wanted: Wanted) -> Point:
    """Write the question, unless an earlier run did; the wait ends with what stands in its row.

    A row that is open is only read: whoever is answering it holds it, and must not hold this slot.
    """
    asked = _find(point)
    if asked is None:
        check_answerable(wanted)
        release_connections()
    if asked is None or asked.is_closed:
        asked = _write(point, wanted)
    key = approvals.event_key(point.run.job.id, point.identity)
    point.rule = replace(point.rule, until=asked.deadline_at, event_key=key)
    return point


def _write(point: Point, wanted: Wanted) -> Asked:
    job = point.run.job
    question = Question(
        job_id=job.id,
        lease_token=job.lease_token,
        identity=point.identity,
        **asdict(wanted),
    )
    asked = point.run.writer.call(lambda connection: approvals.ask(connection, question))
    if asked is None:
        point.run.stop(waiting.LEASE_LOST)
    return asked


def _find(point: Point) -> Asked | None:
    job_id, identity = point.run.job.id, point.identity
    return point.run.writer.call(lambda c: approvals.find_question(c, job_id, identity))


def _look(point: Point) -> Recorded | None:
    """Save the answer as the end of the wait, if there is one."""
    asked = _find(point)
    return point.save(value=asked.decision) if asked is not None and asked.decision else None


def _close(connection: Any, point: Point) -> None:
    approvals.close_timed_out(connection.alias, point.run.job.id, point.identity)
