"""Approvals in the admin: found, answered, recorded."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from django_durable import answer_approval, cancel_job, wait_for_approval
from django_durable.models import Approval, Job
from django_durable.testing import run_jobs
from tests.admin.acting import entries, messages_of, queries_of
from tests.admin.conftest import ClientFactory
from tests.admin.rows import list_url, page_url, text_of
from tests.builders import HOUR, ended_job, redeployed, resumed_job
from tests.testapp.approvals import AmountForm, asks, asks_with_form
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db

URL = list_url(Approval)


@pytest.fixture(autouse=True)
def _groups(db: None) -> None:
    for name in ("accounting", "warehouse"):
        Group.objects.create(name=name)


def question(job: Job) -> Approval:
    return Approval.objects.judged().get(job_id=job.pk)


def answer_url(job: Job) -> str:
    return reverse("admin:durable_approval_answer", args=[question(job).pk])


def answered(client: Client, job: Job, button: str = "_approve", **data: Any) -> Any:
    return client.post(answer_url(job), {button: "1", **data}, follow=True)


def listed(client: Client, **params: str) -> list[str]:
    response = client.get(URL, params)
    assert response.status_code == 200
    return [row.title for row in response.context["cl"].result_list]


class ListTests:
    def test_renders_without_a_row(self, admin_client: Client) -> None:
        assert "0 approvals" in text_of(admin_client.get(URL))

    def test_open_ones_come_first(self, admin_client: Client) -> None:
        sue = User.objects.create_superuser("sue")
        for title in ("One?", "Two?", "Three?"):
            ended_job(asks, title=title)
        answer_approval(Approval.objects.get(title="Three?"), sue, approved=True)

        assert listed(admin_client) == ["Two?", "One?", "Three?"]

    def test_says_where_each_stands(self, admin_client: Client) -> None:
        ended_job(asks, title="Open?", deadline=2 * HOUR)
        cancel_job(ended_job(asks, title="Cancelled?"))
        ended_job(asks, title="Past?", group=None, permission="testapp.change_account")

        page = text_of(admin_client.get(URL))

        assert "Open? open group accounting" in page
        assert "in 1 h 59 min" in page
        assert "Cancelled? withdrawn group accounting" in page
        assert "Past? open holders of testapp.change_account" in page

    def test_is_filtered_by_state_and_group(self, admin_client: Client) -> None:
        sue = User.objects.create_superuser("sue")
        for group in ("accounting", "warehouse"):
            ended_job(asks, title=f"Open {group}?", group=group)
            cancel_job(ended_job(asks, title=f"Cancelled {group}?", group=group))
            rejected = ended_job(asks, title=f"Rejected {group}?", group=group)
            answer_approval(question(rejected), sue, approved=False)

        assert listed(admin_client, state="OPEN", group="warehouse") == ["Open warehouse?"]
        assert listed(admin_client, state="WITHDRAWN", group="accounting") == [
            "Cancelled accounting?"
        ]
        assert len(listed(admin_client, state="REJECTED")) == 2
        assert listed(admin_client, state="TIMED_OUT") == []
        assert listed(admin_client, state="nonsense") == []
        assert listed(admin_client, group="a\x00b") == []
        assert listed(admin_client, group="closed long ago") == []

    def test_a_longer_list_takes_no_more_queries(
        self, admin_client: Client, django_assert_num_queries: Any
    ) -> None:
        admin_client.get(URL)
        for number in range(5):
            asks.enqueue(title=f"{number}?", subject=Account.objects.create(name="a"))
        run_jobs()
        with django_assert_num_queries(5):  # session, user, groups, count, the rows
            assert len(listed(admin_client)) == 5

    def test_is_seen_with_the_permission_only(self, staff_client: ClientFactory) -> None:
        assert staff_client("view_job").get(URL).status_code == 403
        assert staff_client("view_approval", username="ben").get(URL).status_code == 200


class PageTests:
    def test_tells_all_about_it_and_shows_the_form(self, admin_client: Client) -> None:
        account = Account.objects.create(name="a")

        def asking() -> Any:
            return wait_for_approval(
                "Close <it>?", form=AmountForm, group="accounting", subject=account, deadline=HOUR
            )

        job = ended_job(redeployed("tests.closing", asking))

        response = admin_client.get(page_url(question(job)))

        page = text_of(response)
        assert "Close <it>?" in page
        assert f"About: Account object ({account.pk})" in page
        assert "Form: tests.testapp.approvals.AmountForm" in page
        assert "What is paid back." in page
        body = response.content.decode()
        assert f'href="{page_url(job)}"' in body
        assert f'action="{answer_url(job)}"' in body

    def test_a_subject_that_is_gone(self, admin_client: Client) -> None:
        account = Account.objects.create(name="a")
        job = ended_job(asks, subject=account)
        key = account.pk
        account.delete()
        page = text_of(admin_client.get(page_url(question(job))))
        assert f"About: testapp.account {key} (gone)" in page

    def test_a_form_that_is_not_loaded_says_so(self, admin_client: Client) -> None:
        job = ended_job(asks_with_form, "42")
        Approval.objects.update(form_path="shop.forms.GoneForm")

        response = admin_client.get(page_url(question(job)))

        assert "shop.forms.GoneForm is not loaded in this process." in text_of(response)
        assert 'name="_approve"' not in response.content.decode()
        assert "is not loaded" in messages_of(answered(admin_client, job))[0]
        assert question(job).state == "OPEN"

    def test_who_only_looks_gets_no_form(self, staff_client: ClientFactory) -> None:
        job = ended_job(asks)
        response = staff_client("view_approval").get(page_url(question(job)))
        assert response.status_code == 200
        assert "_approve" not in response.content.decode()

    def test_the_page_of_a_job_links_to_its_questions(self, admin_client: Client) -> None:
        job = ended_job(asks)
        body = admin_client.get(page_url(job)).content.decode()
        assert f'<a href="{page_url(question(job))}">Refund order 42?</a>' in body
        assert "durable-open" in body
        assert any("durable_approval" in sql for sql in queries_of(admin_client, job))
        assert not any(
            "durable_approval" in sql for sql in queries_of(admin_client, asks.enqueue())
        )


class AnsweringTests:
    def test_an_answer_wakes_the_job_and_is_recorded(self, admin_client: Client) -> None:
        job = ended_job(asks_with_form, "42")

        response = answered(admin_client, job, amount="7")

        assert messages_of(response) == ["You approved it."]
        assert entries() == [(str(question(job).pk), "You approved it.")]
        page = text_of(response)
        assert "approved Closed: it was approved by admin at" in page
        assert '{"amount": 7, "note": ""}' in page
        assert resumed_job(job).return_value == {"amount": 7, "note": ""}

    def test_a_rejection_may_say_why(self, admin_client: Client) -> None:
        job = ended_job(asks_with_form, "42")
        assert messages_of(answered(admin_client, job, "_reject", reason="No.")) == [
            "You rejected it."
        ]
        assert resumed_job(job).return_value == {"reason": "No."}

    def test_what_was_wrong_is_shown_beside_what_was_typed(self, admin_client: Client) -> None:
        job = ended_job(asks_with_form, "42")

        response = answered(admin_client, job, amount="0", note="kept")

        assert "Ensure this value is greater than or equal to 1." in text_of(response)
        assert 'value="kept"' in response.content.decode()
        assert (question(job).state, entries()) == ("OPEN", [])

    def test_one_that_comes_too_late_is_told_and_not_recorded(self, admin_client: Client) -> None:
        job = ended_job(asks)
        cancel_job(job)
        (said,) = messages_of(answered(admin_client, job))
        assert said.startswith("Your answer was not recorded.")
        assert said.endswith("its job was cancelled.")
        assert entries() == []

    def test_rights_are_checked_by_the_handler(
        self, staff_client: ClientFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = ended_job(asks)
        caplog.clear()
        looker = staff_client("view_approval")
        member = staff_client(username="member")
        User.objects.get(username="member").groups.set(Group.objects.filter(name="accounting"))

        assert answered(looker, job).status_code == 403
        assert answered(member, job).status_code == 403
        assert question(job).state == "OPEN"
        said = [r.getMessage() for r in caplog.records if r.name == "django_durable"]
        assert len(said) == 1
        assert "User ida may not answer" in said[0]

    def test_a_member_who_may_look_answers(self, staff_client: ClientFactory) -> None:
        job = ended_job(asks)
        client = staff_client("view_approval", username="member")
        User.objects.get(username="member").groups.set(Group.objects.filter(name="accounting"))
        assert answered(client, job).status_code == 200
        assert question(job).state == "APPROVED"

    def test_who_may_answer_all_answers(self, staff_client: ClientFactory) -> None:
        job = ended_job(asks)
        assert Permission.objects.filter(codename="answer_approval").exists()
        answered(staff_client("view_approval", "answer_approval"), job)
        assert question(job).state == "APPROVED"

    def test_an_answer_is_posted_with_one_button_to_a_question(self, admin_client: Client) -> None:
        job = ended_job(asks)
        assert admin_client.get(answer_url(job)).status_code == 405
        assert admin_client.post(answer_url(job), {}).status_code == 400
        nowhere = reverse("admin:durable_approval_answer", args=[0])
        assert admin_client.post(nowhere, {"_approve": "1"}).status_code == 404

    def test_a_form_of_another_site_is_refused(self, staff_client: ClientFactory) -> None:
        job = ended_job(asks)
        client = staff_client("view_approval", "answer_approval", enforce_csrf_checks=True)
        assert answered(client, job).status_code == 403
        assert question(job).state == "OPEN"

    def test_rows_are_not_edited_or_deleted(self, admin_client: Client) -> None:
        row = question(ended_job(asks))
        assert admin_client.post(page_url(row), {"title": "x"}).status_code == 403
        delete = reverse("admin:durable_approval_delete", args=[row.pk])
        assert admin_client.post(delete, {"post": "yes"}).status_code == 403
