"""How far a job has come, as JSON: what the bar of ``{% job_progress %}`` asks for.

The address carries the job's id, signed: whoever was shown the bar may ask, without a login, and
nobody can ask about a job by guessing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import NoReverseMatch, reverse
from django.utils.formats import number_format
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from django_durable.conf import get_settings
from django_durable.engine.published import JobProgress
from django_durable.engine.rows import jobs

if TYPE_CHECKING:
    from django_durable.models import Job

_SALT = "django_durable.progress"


def progress_url(job: Job) -> str:
    """Where the progress of a job can be asked for. Raises: ImproperlyConfigured."""
    token = Signer(salt=_SALT).sign(job.pk.hex)
    try:
        return reverse("durable:progress", args=[token])
    except NoReverseMatch as error:
        raise ImproperlyConfigured(
            'The pages of django_durable have no address. Add to your URLs: path("durable/", '
            'include("django_durable.urls")).'
        ) from error


@login_not_required
@never_cache
@require_safe
def progress_answer(request: HttpRequest, token: str) -> HttpResponse:
    """The state of a job and what it said last; 404 for a bad signature and for a pruned job."""
    job = _find(token)
    if job is None:
        return JsonResponse({"error": gettext("There is no such job.")}, status=404)
    return JsonResponse(standing_of(job))


def _find(token: str) -> Job | None:
    try:
        job_id = UUID(Signer(salt=_SALT).unsign(token))
    except BadSignature:
        return None
    return jobs(get_settings().DATABASE).filter(pk=job_id).only("id", "state").first()


def standing_of(job: Job) -> dict[str, Any]:
    """What a bar shows of a job (one query). Its state was read before: an end is told last."""
    told = job.progress
    return {
        "state": job.state,
        "is_finished": job.is_finished,
        "done": told and told.done,
        "total": told and told.total,
        "note": told.note if told else "",
        "fraction": told and told.fraction,
        "state_text": job.get_state_display(),
        "count_text": _count_text(told) if told else "",
    }


def _count_text(told: JobProgress) -> str:
    done = number_format(told.done, force_grouping=True)
    if told.total is None:
        return done
    total = number_format(told.total, force_grouping=True)
    return gettext("%(done)s of %(total)s") % {"done": done, "total": total}
