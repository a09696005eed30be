"""Who may retry and cancel: each refusal is a 403, and is recorded."""

import logging

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_durable.models import Job
from tests.admin.acting import act, state_of
from tests.admin.conftest import ClientFactory
from tests.admin.rows import job_in, list_url, page_url, verb_url

pytestmark = pytest.mark.django_db


class PermissionTests:
    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    @pytest.mark.parametrize("held", [("view_job",), ("view_job", "other"), ("this",), ()])
    def test_a_single_verb_is_refused_and_recorded(
        self,
        staff_client: ClientFactory,
        caplog: pytest.LogCaptureFixture,
        verb: str,
        held: tuple[str, ...],
    ) -> None:
        names = {"this": f"{verb}_job", "other": "cancel_job" if verb == "retry" else "retry_job"}
        client = staff_client(*(names.get(name, name) for name in held))
        job = job_in("WAITING")

        assert client.post(verb_url(verb, job)).status_code == 403

        assert state_of(job) == "WAITING"
        assert refusals(caplog) == [f"Refused: user ida may not {verb} job {job.pk}."]

    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    @pytest.mark.parametrize("across", ["0", "1"])
    def test_an_action_is_refused_and_recorded(
        self,
        staff_client: ClientFactory,
        caplog: pytest.LogCaptureFixture,
        verb: str,
        across: str,
    ) -> None:
        other = "cancel_job" if verb == "retry" else "retry_job"
        for number, held in enumerate([(), (other,)]):
            client = staff_client("view_job", *held, username=f"user-{number}")
            job = job_in("WAITING")

            assert act(client, verb, job, select_across=across).status_code == 403
            assert state_of(job) == "WAITING"

        assert refusals(caplog) == [
            f"Refused: user user-{number} may not {verb} selected jobs." for number in (0, 1)
        ]

    def test_refusals_carry_the_user_and_the_permission(
        self, staff_client: ClientFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        staff_client("view_job").post(verb_url("retry", job_in("FAILED")))

        (record,) = (r for r in caplog.records if r.name == "django_durable")
        assert record.levelno == logging.WARNING
        assert record.__dict__["user_id"] == User.objects.get().pk
        assert record.__dict__["permission"] == "durable.retry_job"

    @pytest.mark.parametrize("verb", ["retry", "cancel"])
    def test_the_permission_of_the_verb_suffices(
        self, staff_client: ClientFactory, verb: str
    ) -> None:
        client = staff_client("view_job", f"{verb}_job")
        job, other = job_in("WAITING"), job_in("WAITING")

        client.post(verb_url(verb, job))
        act(client, verb, other)

        after = "READY" if verb == "retry" else "CANCELLED"
        assert [state_of(job), state_of(other)] == [after, after]

    def test_only_permitted_verbs_are_offered(self, staff_client: ClientFactory) -> None:
        client = staff_client("view_job", "cancel_job")
        job = job_in("WAITING")

        form = client.get(list_url()).context["action_form"]
        page = client.get(page_url(job)).content.decode()

        assert [name for name, _ in form.fields["action"].choices if name] == ["cancel_selected"]
        assert f'action="{verb_url("cancel", job)}"' in page
        assert verb_url("retry", job) not in page
        assert "New steps that may run" not in page

    def test_deleting_is_not_offered(self, admin_client: Client) -> None:
        job = job_in("READY")
        form = admin_client.get(list_url()).context["action_form"]

        act_delete = {"action": "delete_selected", "index": "0", "_selected_action": [job.pk]}
        admin_client.post(list_url(), act_delete | {"post": "yes"})

        names = [name for name, _ in form.fields["action"].choices if name]
        assert names == ["retry_selected", "cancel_selected"]
        assert Job.objects.exists()


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "django_durable"]
