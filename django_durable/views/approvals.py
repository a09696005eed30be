"""Where people answer what jobs ask them: the list of their open questions, and a page for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from django_durable.approvals import answer_approval, open_approvals
from django_durable.conf import get_settings
from django_durable.engine import answering
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.states import ApprovalState
from django_durable.exceptions import (
    ApprovalClosedError,
    ApprovalFormError,
    ApprovalNotFoundError,
    UnknownFormError,
)
from django_durable.views.answers import AnswerForms, is_approval, not_recorded, require, thanks

if TYPE_CHECKING:
    from django_durable.models import Approval

PER_PAGE = 50


@login_required
@never_cache
@require_safe
def approval_list(request: HttpRequest) -> HttpResponse:
    """What waits for an answer of this user, the oldest first."""
    page = Paginator(open_approvals(request.user), PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "durable/approvals.html", {"page": page})


@login_required
@never_cache
@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
def approval_page(request: HttpRequest, approval_id: int) -> HttpResponse:
    """One question to those who may answer it, open or not; 403 to everybody else."""
    try:
        approval = answering.find(approval_id)
    except ApprovalNotFoundError as error:
        raise Http404(str(error)) from None
    require(request, approval)
    if request.method == "POST":
        return _answer(request, approval)
    return _show(request, approval, AnswerForms.of(approval))


def _answer(request: HttpRequest, approval: Approval) -> HttpResponse:
    """Record the answer and show what became of it; the page again where it was not recorded."""
    approved = is_approval(request)
    try:
        answer_approval(approval, request.user, approved=approved, data=request.POST)
    except ApprovalFormError as error:
        return _show(request, approval, AnswerForms.of(approval, error.form))
    except UnknownFormError:
        return _show(request, approval, AnswerForms.of(approval), status=409)
    except ApprovalClosedError as error:
        closed, notice = answering.find(approval), not_recorded(error)
        return _show(request, closed, AnswerForms.of(closed), status=409, notice=notice)
    messages.success(request, thanks(approved=approved), fail_silently=True)
    return HttpResponseRedirect(request.path)


def _show(
    request: HttpRequest, approval: Approval, forms: AnswerForms, *, status: int = 200, **more: Any
) -> HttpResponse:
    is_open = approval.state == ApprovalState.OPEN
    subject = answering.find_subject(approval)
    address = getattr(subject, "get_absolute_url", None)
    context: dict[str, Any] = {
        "approval": approval,
        "is_open": is_open,
        "why_closed": "" if is_open else answering.why_closed(approval),
        "answer": answering.shown_answer(approval),
        "subject": subject,
        "subject_url": address() if address is not None else "",
        "task_path": task_path_of(approval),
        "forms": forms,
    }
    return render(request, "durable/approval.html", context | more, status=status)


def task_path_of(approval: Approval) -> str:
    """Which task asks."""
    jobs = job_rows(get_settings().DATABASE).filter(pk=approval.job_id)
    return jobs.values_list("task_path", flat=True).first() or ""
