"""A page that enqueues, and says in whose name."""

from django.http import HttpRequest, JsonResponse
from django.urls import path

from django_durable import current_user, enqueue
from tests.testapp.tasks import fulfil


def who(request: HttpRequest) -> JsonResponse:
    user = current_user()
    job = enqueue(fulfil, "o")
    return JsonResponse({"user": user and user.get_username(), "job": str(job.pk)})


urlpatterns = [path("who/", who)]
