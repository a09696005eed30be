"""The pages on which people answer."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import reverse

from django_durable import answer_approval, cancel_job, wait_for_approval
from django_durable.models import Approval, Job
from django_durable.testing import run_jobs
from tests.admin.rows import text_of
from tests.builders import HOUR, ended_job, redeployed, resumed_job
from tests.docs_app.models import Order, Product
from tests.testapp.approvals import OwnReasonForm, asks, asks_with_form
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db

LIST = reverse("durable:approvals")


def client_of(name: str, *groups: str, **options: Any) -> Client:
    """A browser in which a new user of these groups is logged in."""
    user = User.objects.create_user(name)
    user.groups.set(Group.objects.get_or_create(name=group)[0] for group in groups)
    client = Client(**options)
    client.force_login(user)
    return client


@pytest.fixture
def anna(db: None) -> Client:
    return client_of("anna", "accounting")


def question(job: Job) -> Approval:
    return Approval.objects.judged().get(job_id=job.pk)


def url_of(job: Job) -> str:
    return reverse("durable:approval", args=[question(job).pk])


def approve(client: Client, job: Job, **data: Any) -> Any:
    return client.post(url_of(job), {"_approve": "1", **data}, follow=True)


def reject(client: Client, job: Job, **data: Any) -> Any:
    return client.post(url_of(job), {"_reject": "1", **data}, follow=True)


def body_of(response: HttpResponse) -> str:
    return response.content.decode()


class ListTests:
    def test_says_that_nothing_waits(self, anna: Client) -> None:
        assert "Nothing waits for your answer." in text_of(anna.get(LIST))

    def test_lists_the_open_questions_of_the_user(self, anna: Client) -> None:
        mine = ended_job(asks, title="Mine <b>now</b>?", deadline=HOUR)
        Group.objects.create(name="warehouse")
        ended_job(asks, title="Another's?", group="warehouse")
        cancel_job(ended_job(asks, title="Cancelled?"))

        page = body_of(anna.get(LIST))

        assert f'<a href="{url_of(mine)}">Mine &lt;b&gt;now&lt;/b&gt;?</a>' in page
        assert "open until" in page
        assert "Another" not in page
        assert "Cancelled" not in page

    def test_has_pages(self, anna: Client) -> None:
        for number in range(51):
            asks.enqueue(title=f"Question {number}?")
        run_jobs()

        assert "Page 1 of 2" in text_of(anna.get(LIST))
        assert "Question 50?" in text_of(anna.get(LIST, {"page": "2"}))
        assert anna.post(LIST).status_code == 405


class AccessTests:
    @pytest.mark.parametrize("method", ["get", "post"])
    def test_strangers_are_sent_to_log_in(self, anna: Client, method: str) -> None:
        job = ended_job(asks)
        for url in (LIST, url_of(job)):
            response = getattr(Client(), method)(url)
            assert response.status_code == 302
            assert response["Location"].startswith("/accounts/login/?next=")

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_who_may_not_answer_is_refused_and_recorded(
        self, anna: Client, method: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = ended_job(asks)
        caplog.clear()
        response = getattr(client_of("carl", "warehouse"), method)(url_of(job), {"_approve": "1"})

        assert response.status_code == 403
        assert question(job).state == "OPEN"
        (record,) = (r for r in caplog.records if r.name == "django_durable")
        assert (record.levelno, record.__dict__["job_id"]) == (logging.WARNING, str(job.pk))
        assert "User carl may not answer" in record.getMessage()

    def test_a_form_of_another_site_is_refused(self, anna: Client) -> None:
        job = ended_job(asks)
        strict = client_of("ben", "accounting", enforce_csrf_checks=True)

        assert strict.post(url_of(job), {"_approve": "1"}).status_code == 403
        assert question(job).state == "OPEN"

        strict.get(url_of(job))
        token = strict.cookies["csrftoken"].value
        data = {"_approve": "1", "csrfmiddlewaretoken": token}
        assert strict.post(url_of(job), data).status_code == 302
        assert question(job).state == "APPROVED"

    def test_what_is_not_there(self, anna: Client) -> None:
        assert anna.get(reverse("durable:approval", args=[0])).status_code == 404

    def test_pages_are_not_kept_by_browsers(self, anna: Client) -> None:
        assert "no-store" in anna.get(url_of(ended_job(asks)))["Cache-Control"]


class PageTests:
    def test_says_what_is_asked_by_whom_and_until_when(self, anna: Client) -> None:
        order = Order.objects.create(product=Product.objects.create(name="tea"))
        job = ended_job(asks, subject=order, deadline=datetime(2098, 5, 1, 9, 30, tzinfo=UTC))

        response = anna.get(url_of(job))

        page = text_of(response)
        assert "Refund order 42?" in page
        assert f"About Order object ({order.pk}) Asked by testapp.asks Since " in page
        assert "Open until 2098-05-01 09:30" in page
        assert f'<a href="/orders/{order.pk}/">' in body_of(response)

    def test_a_subject_may_have_no_page_or_be_gone(self, anna: Client) -> None:
        account = Account.objects.create(name="a")
        job = ended_job(asks, subject=account)
        assert f"About Account object ({account.pk}) Asked" in text_of(anna.get(url_of(job)))

        key = account.pk
        account.delete()
        assert f"About testapp.account {key} (gone)" in text_of(anna.get(url_of(job)))

    def test_shows_the_form_with_labels_and_help(self, anna: Client) -> None:
        page = body_of(anna.get(url_of(ended_job(asks_with_form, "42"))))

        assert '<label for="id_amount">Amount:</label>' in page
        assert "What is paid back." in page
        assert '<label for="id_reason">Reason, if you reject it:</label>' in page
        assert page.count("<form") == 1

    def test_a_form_with_a_reason_of_its_own_is_asked_only_once(self, anna: Client) -> None:
        job = ended_job(
            redeployed(
                "tests.own_reason",
                lambda: wait_for_approval("Go?", form=OwnReasonForm, group="accounting"),
            )
        )
        assert body_of(anna.get(url_of(job))).count('name="reason"') == 1
        assert "at most 5 characters" in text_of(approve(anna, job, reason="longer"))
        assert "Closed: it was rejected" in text_of(reject(anna, job, reason="longer"))

    def test_a_form_that_is_not_loaded_here_says_so(self, anna: Client) -> None:
        job = ended_job(asks_with_form, "42")
        Approval.objects.update(form_path="shop.forms.GoneForm")

        response = anna.get(url_of(job))

        page = text_of(response)
        assert "It can be rejected, but not approved here." in page
        assert "shop.forms.GoneForm is not loaded in this process. Import it in" in page
        assert 'name="_approve"' not in body_of(response)
        assert approve(anna, job, amount=1).status_code == 409
        assert question(job).state == "OPEN"
        assert "Closed: it was rejected" in text_of(reject(anna, job))


class AnsweringTests:
    def test_approving_wakes_the_job_and_says_thanks(self, anna: Client) -> None:
        job = ended_job(asks_with_form, "42")

        response = approve(anna, job, amount="7", note="for you")

        page = text_of(response)
        assert response.redirect_chain == [(url_of(job), 302)]
        assert "You approved it." in page
        assert "Closed: it was approved by anna at" in page
        assert "Amount 7 A note for the customer for you" in page
        assert resumed_job(job).return_value == {"amount": 7, "note": "for you"}

    def test_rejecting_needs_no_data(self, anna: Client) -> None:
        job = ended_job(asks_with_form, "42")

        page = text_of(reject(anna, job, amount="", reason="Too late."))

        assert "You rejected it." in page
        assert "Reason Too late." in page
        assert resumed_job(job).return_value == {"reason": "Too late."}

    def test_what_was_wrong_is_shown_beside_what_was_typed(self, anna: Client) -> None:
        job = ended_job(asks_with_form, "42")

        response = approve(anna, job, amount="0", note="<kept>")

        assert "Ensure this value is greater than or equal to 1." in text_of(response)
        assert 'value="&lt;kept&gt;"' in body_of(response)
        assert question(job).state == "OPEN"
        assert "at most 2000 characters" in text_of(reject(anna, job, reason="x" * 2001))

    @pytest.mark.parametrize("data", [{}, {"_approve": "1", "_reject": "1"}])
    def test_one_button_is_pressed(self, anna: Client, data: dict[str, str]) -> None:
        job = ended_job(asks)
        assert anna.post(url_of(job), data).status_code == 400
        assert question(job).state == "OPEN"

    def test_the_second_of_two_is_told_of_the_first(self, anna: Client) -> None:
        job = ended_job(asks)
        answer_approval(question(job), User.objects.create_superuser("sue"), approved=False)

        response = approve(anna, job)

        assert response.status_code == 409
        page = text_of_any(response)
        assert "Your answer was not recorded." in page
        assert "it was rejected by sue at" in page
        assert "<form" not in body_of(response)

    def test_a_closed_question_says_why(self, anna: Client) -> None:
        timed_out = ended_job(asks, deadline=HOUR)
        resumed_job(timed_out, ahead=HOUR)
        cancelled = cancel_job(ended_job(asks))

        assert "Closed: it timed out at" in text_of(anna.get(url_of(timed_out)))
        assert "Closed: its job was cancelled." in text_of(anna.get(url_of(cancelled)))

    def test_an_answer_that_no_longer_decodes_is_shown_as_stored(self, anna: Client) -> None:
        job = ended_job(asks_with_form, "42")
        approve(anna, job, amount="7")
        Approval.objects.update(answer='{"owner":{"$model":["shop.gone",5]},"many":[1,2]}')
        page = text_of(anna.get(url_of(job)))
        assert "Owner {'$model': ['shop.gone', 5]} Many 1, 2" in page

    @override_settings(
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ]
    )
    def test_messages_are_not_needed(self, anna: Client) -> None:
        page = text_of(approve(anna, ended_job(asks)))
        assert "Closed: it was approved by anna" in page


def text_of_any(response: Any) -> str:
    response.status_code = 200
    return text_of(response)


class OverridingTests:
    def test_a_project_may_bring_its_own_base(self, anna: Client) -> None:
        loaders = [
            (
                "django.template.loaders.locmem.Loader",
                {"durable/base.html": "<main>OURS{% block content %}{% endblock %}</main>"},
            ),
            "django.template.loaders.app_directories.Loader",
        ]
        processors = ["django.contrib.auth.context_processors.auth"]
        options = {"loaders": loaders, "context_processors": processors}
        engine = {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": options}
        with override_settings(TEMPLATES=[engine]):
            assert "OURS Waiting for your answer" in text_of(anna.get(LIST))


def test_a_deadline_is_shown_in_the_time_zone_of_the_visitor(anna: Client) -> None:
    job = ended_job(asks, deadline=datetime(2098, 5, 1, 9, 30, tzinfo=UTC) + timedelta(0))
    with override_settings(TIME_ZONE="Asia/Tokyo"):
        assert "Open until 2098-05-01 18:30" in text_of(anna.get(url_of(job)))
