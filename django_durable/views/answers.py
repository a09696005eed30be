"""What stands between a page with two buttons and an answer, for the pages and the admin alike."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import BadRequest
from django.utils.translation import gettext

from django_durable.engine import answering
from django_durable.exceptions import ApprovalDeniedError, UnknownFormError

if TYPE_CHECKING:
    from django.forms import BaseForm
    from django.http import HttpRequest

    from django_durable.models import Approval

logger = logging.getLogger("django_durable")

APPROVE, REJECT = "_approve", "_reject"
"""Names of the two buttons."""


def require(request: HttpRequest, approval: Approval) -> None:
    """Raises: ApprovalDeniedError (a 403), having recorded who tried to see or answer what."""
    user: Any = request.user
    try:
        answering.require(user, approval)
    except ApprovalDeniedError as error:
        fields = {"user_id": user.pk, "job_id": str(approval.job_id)}
        logger.warning("Refused: approval %s: %s", approval.pk, error, extra=fields)
        raise


def is_approval(request: HttpRequest) -> bool:
    """Which button was pressed. Raises: BadRequest if none was, or both."""
    pressed = [name for name in (APPROVE, REJECT) if name in request.POST]
    if len(pressed) != 1:
        raise BadRequest("Press one of the two buttons: approve, or reject.")
    return pressed == [APPROVE]


def thanks(*, approved: bool) -> str:
    return gettext("You approved it.") if approved else gettext("You rejected it.")


def not_recorded(error: Exception) -> str:
    return gettext("Your answer was not recorded. %(reason)s") % {"reason": error}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForms:
    """What a page shows to answer with."""

    form: BaseForm | None = None
    """What approving takes. None: nothing, or ``problem`` says why it cannot be shown."""
    reason: BaseForm | None = None
    """A text for the rejection, unless the form has a field of that name."""
    problem: str = ""

    @classmethod
    def of(cls, approval: Approval, bound: BaseForm | None = None) -> AnswerForms:
        """The forms of a question; ``bound`` is one of them, with what was wrong in it."""
        is_reason = isinstance(bound, answering.ReasonForm)
        reason = bound if isinstance(bound, answering.ReasonForm) else answering.ReasonForm()
        if approval.form_path is None:
            return cls(reason=reason)
        try:
            form_class = answering.form_class(approval)
        except UnknownFormError as error:
            return cls(reason=reason, problem=str(error))
        form = form_class() if bound is None or is_reason else bound
        if "reason" in form.fields and not is_reason:
            return cls(form=form)
        reason.fields["reason"].label = gettext("Reason, if you reject it")
        return cls(form=form, reason=reason)
