"""The pages of the package: ``path("durable/", include("django_durable.urls"))``."""

from django.urls import path

from django_durable.views import approvals, progress

app_name = "durable"

urlpatterns = [
    path("approvals/", approvals.approval_list, name="approvals"),
    path("approvals/<int:approval_id>/", approvals.approval_page, name="approval"),
    path("progress/<str:token>/", progress.progress_answer, name="progress"),
]
