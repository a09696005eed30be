"""Asking people: a job waits for somebody's yes or no, and for what they fill in.

>>> @task
... def refund(order: Order) -> None:
...     decision = wait_for_approval(
...         f"Refund order {order.pk}?", form=RefundForm, group="accounting", subject=order
...     )
...     if decision and decision.approved:
...         pay_back(order, decision.data["amount"])

People find the question in the admin and on the pages of ``django_durable.urls``; code answers with
``answer_approval``. While it waits, the job holds no slot and no connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.forms import BaseForm

from django_durable.engine import answering, asking
from django_durable.engine.decisions import Decision

if TYPE_CHECKING:
    from django.contrib.auth.models import Group
    from django.db.models import Model

    from django_durable.models import Approval
    from django_durable.models.approval import ApprovalQuerySet

__all__ = [
    "Decision",
    "aanswer_approval",
    "answer_approval",
    "await_for_approval",
    "open_approvals",
    "wait_for_approval",
]


def wait_for_approval(
    title: str,
    *,
    form: type[BaseForm] | None = None,
    group: str | Group | None = None,
    permission: str | None = None,
    deadline: timedelta | datetime | None = None,
    subject: Model | None = None,
) -> Decision | None:
    """Ask people, and wait for the answer of one of them; None: the deadline passed without.

    ``title`` is the question, in a line. Either the members of ``group`` may answer, or those who
    hold ``permission`` ("app_label.codename"). ``form`` is a form class at the top of a module, to
    be filled in by who approves. ``subject`` is what is to be approved, and must be the same in a
    replay. A deadline that is a timedelta counts from the first time the job asks.

    Raises: ApprovalRequestError for what nobody could answer, with nothing written; Suspension to
    wait; the errors of a misplaced durable call.
    """
    wanted = asking.check(
        title,
        form=form,
        group=group,
        permission=permission,
        deadline=deadline,
        subject=subject,
    )
    return asking.wait(wanted)


async def await_for_approval(
    title: str,
    *,
    form: type[BaseForm] | None = None,
    group: str | Group | None = None,
    permission: str | None = None,
    deadline: timedelta | datetime | None = None,
    subject: Model | None = None,
) -> Decision | None:
    return await sync_to_async(wait_for_approval, thread_sensitive=True)(
        title,
        form=form,
        group=group,
        permission=permission,
        deadline=deadline,
        subject=subject,
    )


def answer_approval(
    approval: Approval | int | str,
    user: Any,
    *,
    approved: bool,
    data: Mapping[str, Any] | None = None,
) -> Approval:
    """Answer a question in a user's name and wake its job; the question's row afterwards.

    ``data`` is what the form is given, as a request's POST is. A rejection keeps ``reason`` of it.
    One transaction, part of the caller's if there is one: exactly one answer is recorded, or the
    wait times out, and who is not told so by an error was heard.

    Raises: ApprovalNotFoundError, ApprovalDeniedError, ApprovalFormError, ApprovalClosedError,
    UnknownFormError.
    """
    return answering.answer(approval, user, approved=approved, data=data)


async def aanswer_approval(
    approval: Approval | int | str,
    user: Any,
    *,
    approved: bool,
    data: Mapping[str, Any] | None = None,
) -> Approval:
    answer = sync_to_async(answer_approval, thread_sensitive=True)
    return await answer(approval, user, approved=approved, data=data)


def open_approvals(user: Any) -> ApprovalQuerySet:
    """The questions that a user may answer now, the oldest first."""
    return answering.open_to(user)
