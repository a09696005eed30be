"""A page of a site that shows bars, under a policy that forbids inline scripts and styles."""

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path

from django_durable.models import Job

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Jobs</title>
<link rel="icon" href="data:,"></head>
<body><main>{% load durable %}{% for job in jobs %}
<section>{% job_progress job label="Import" %}</section>{% endfor %}</main></body></html>"""


def page(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string(PAGE)
    response = HttpResponse(template.render({"jobs": Job.objects.order_by("id")}, request))
    response["Content-Security-Policy"] = "default-src 'self'; img-src data:"
    return response


urlpatterns = [
    path("jobs/", page),
    path("durable/", include("django_durable.urls")),
]
