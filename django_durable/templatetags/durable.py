"""Tags for templates: ``{% load durable %}{% job_progress job %}``."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import Context, TemplateSyntaxError
from django.utils.translation import gettext

from django_durable.models import Job, JobState
from django_durable.views.progress import progress_url, standing_of

register = template.Library()
_ASSETS = "django_durable.progress_assets"


@register.inclusion_tag("durable/progress.html", takes_context=True)
def job_progress(context: Context, job: Job, label: str = "") -> dict[str, Any]:
    """A bar that shows how far a job has come, and keeps itself up to date until it is finished.

    ``label`` says to screen readers what is under way. Its script and its styles are static files,
    asked for by the first bar of a page.

    Raises: TemplateSyntaxError for what is no job; ImproperlyConfigured without the URLs.
    """
    if not isinstance(job, Job):
        raise TemplateSyntaxError(f"job_progress takes a job, not {job!r}.")
    is_first = _ASSETS not in context.render_context
    context.render_context[_ASSETS] = True
    standing = standing_of(job)
    return {
        **standing,
        "url": progress_url(job),
        "label": label or gettext("Progress"),
        "value": value_of_bar(standing),
        "is_first": is_first,
    }


def value_of_bar(standing: dict[str, Any]) -> str | None:
    """The bar's length from 0 to 1, not localised; None: it is not known."""
    if standing["state"] == JobState.SUCCESSFUL:
        return "1"
    if standing["fraction"] is None:
        return "0" if standing["is_finished"] else None
    return f"{standing['fraction']:.4f}"
