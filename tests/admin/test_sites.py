"""What holds for all pages: other admin sites, other languages, other databases."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.core import checks
from django.test import Client
from django.urls import path
from django.utils import translation
from django.utils.translation import trans_real

import django_durable
from django_durable import enqueue
from django_durable.admin import JobAdmin
from django_durable.models import Job
from tests.admin import tasks
from tests.admin.rows import job_in, list_url, text_of, verb_url

pytestmark = pytest.mark.django_db

TEMPLATES = sorted((Path(django_durable.__file__).parent / "templates").rglob("*.html"))


class OtherSiteTests:
    @pytest.fixture
    def _ops_site(self, settings: Any) -> None:
        """A site with jobs alone, beside the usual one."""
        site = AdminSite(name="ops")
        site.register(Job, JobAdmin)
        urls = ModuleType("ops_urls")
        usual = __import__(settings.ROOT_URLCONF, fromlist=["urlpatterns"]).urlpatterns
        vars(urls)["urlpatterns"] = [path("ops/", site.urls), *usual]
        settings.ROOT_URLCONF = urls

    @pytest.mark.usefixtures("_ops_site")
    def test_links_stay_within_the_site_and_its_models(
        self, admin_client: Client, admin_user: User
    ) -> None:
        task = tasks.succeed.using(idempotency_key="order-17", subject=admin_user)
        job = enqueue(task, "o-1")
        running = job_in("RUNNING", parent_id=job.pk, origin="x")

        pages = [f"/ops/durable/job/{row.pk}/change/" for row in (job, running)]
        texts = [admin_client.get(page).content.decode() for page in pages]

        assert '"/admin/' not in "".join(texts)
        assert 'action="/ops/durable/job/' in texts[0]
        assert f'href="/ops/durable/job/{running.pk}/change/"' in texts[0]
        assert "admin.succeed: order-17" in texts[0]
        assert "web-1:4711" in texts[1]

    @pytest.mark.usefixtures("_ops_site")
    def test_verbs_lead_back_to_the_site(self, admin_client: Client) -> None:
        job = job_in("FAILED")

        response = admin_client.post(f"/ops/durable/job/{job.pk}/retry/")

        assert response["Location"] == f"/ops/durable/job/{job.pk}/change/"


class LanguageTests:
    @pytest.fixture
    def _shouted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every word that goes through a catalogue comes out in guillemets."""
        find, find_plural = (
            trans_real.DjangoTranslation.gettext,
            trans_real.DjangoTranslation.ngettext,
        )

        def gettext(self: Any, message: str) -> str:
            return f"«{find(self, message)}»"

        def ngettext(self: Any, one: str, many: str, number: int) -> str:
            return f"«{find_plural(self, one, many, number)}»"

        monkeypatch.setattr(trans_real.DjangoTranslation, "gettext", gettext)
        monkeypatch.setattr(trans_real.DjangoTranslation, "ngettext", ngettext)

    def test_templates_say_nothing_but_through_a_catalogue(self) -> None:
        assert TEMPLATES
        for template in TEMPLATES:
            text = re.sub(
                r"(?s)\{% blocktranslate.*?endblocktranslate %\}", "", template.read_text()
            )
            text = re.sub(r"(?s)\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", "", text)
            assert re.findall(r"[A-Za-z]{2,}", text) == [], template.name

    @pytest.mark.usefixtures("_shouted")
    def test_messages_columns_and_states_are_translated(self, admin_client: Client) -> None:
        job = job_in("WAITING")
        with translation.override("de"):
            columns = text_of(admin_client.get(list_url()))
            done = text_of(admin_client.post(verb_url("retry", job), follow=True))

        assert "«worker, wait or error»" in columns
        assert "«waiting»" in columns
        assert "«Retried.»" in done
        assert "«Waits for a worker of its queue with a free slot.»" in done


class SystemCheckTests:
    def test_the_admin_passes_the_system_checks(self) -> None:
        assert [found for found in checks.run_checks() if "admin" in str(found.id)] == []


class WholePageTests:
    def test_pages_run_no_scripts_or_styles_of_their_own(self) -> None:
        for template in TEMPLATES:
            text = template.read_text()
            assert not re.search(r"<script(?![^>]* src=)", text), template.name
            assert "style=" not in text, template.name
