"""The tag that shows a bar, and the address it asks."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.core.signing import Signer
from django.template import Context, Template, TemplateSyntaxError
from django.test import Client
from django.utils import translation

from django_durable import enqueue, set_progress, task
from django_durable.models import Job
from django_durable.testing import run_jobs
from django_durable.views.progress import progress_url
from tests.admin.rows import job_in
from tests.builders import ended_job, statements

pytestmark = pytest.mark.django_db


@task(path="pages.load")
def load(done: int, total: int | None, note: str = "") -> None:
    set_progress(done, total, note)


def rendered(text: str = "{% job_progress job %}", **variables: Any) -> str:
    return Template(f"{{% load durable %}}{text}").render(Context(variables))


class AddressTests:
    def test_answers_with_what_a_bar_shows(self, client: Client) -> None:
        job = ended_job(load, 1000, 4000, "reading")

        with statements() as sent:
            answer = client.get(progress_url(job))

        assert answer.json() == {
            "state": "SUCCESSFUL",
            "is_finished": True,
            "done": 1000,
            "total": 4000,
            "note": "reading",
            "fraction": 0.25,
            "state_text": "successful",
            "count_text": "1,000 of 4,000",
        }
        assert len(sent) == 2

    def test_nothing_is_told_yet(self, client: Client) -> None:
        answer = client.get(progress_url(enqueue(load, 1, None))).json()

        told = {name: answer[name] for name in ("done", "total", "note", "fraction")}
        assert told == {"done": None, "total": None, "note": "", "fraction": None}
        assert (answer["state"], answer["is_finished"], answer["count_text"]) == (
            "READY", False, "",
        )  # fmt: skip

    def test_the_total_need_not_be_known(self, client: Client) -> None:
        answer = client.get(progress_url(ended_job(load, 7, None))).json()

        assert (answer["fraction"], answer["count_text"]) == (None, "7")

    def test_is_never_kept(self, client: Client) -> None:
        job = enqueue(load, 1, 2)

        found = client.get(progress_url(job))
        missing = client.get(progress_url(job)[:-2] + "/")

        assert (found.status_code, missing.status_code) == (200, 404)
        assert "no-store" in found["Cache-Control"]
        assert "no-store" in missing["Cache-Control"]

    @pytest.mark.parametrize(
        "token",
        ["nonsense", "a:b", Signer().sign("0" * 32), Signer(salt="other").sign("0" * 32)],
    )
    def test_a_bad_signature_finds_nothing(self, client: Client, token: str) -> None:
        job = enqueue(load, 1, 2)
        Job.objects.filter(pk=job.pk).update(id="0" * 32)

        with statements() as sent:
            answer = client.get(f"/durable/progress/{token}/")

        assert answer.status_code == 404
        assert sent == []

    def test_an_id_without_its_signature_finds_nothing(self, client: Client) -> None:
        job = enqueue(load, 1, 2)
        other = enqueue(load, 1, 2)
        signature = progress_url(other).partition(":")[2]

        for token in (job.pk.hex, str(job.pk), f"{job.pk.hex}:{signature}".rstrip("/")):
            assert client.get(f"/durable/progress/{token}/").status_code == 404

    def test_a_pruned_job_is_not_found(self, client: Client) -> None:
        job = enqueue(load, 1, 2)
        Job.objects.all().delete()

        assert client.get(progress_url(job)).status_code == 404

    @pytest.mark.parametrize(
        ("method", "status"),
        [("get", 200), ("head", 200), ("post", 405), ("put", 405), ("delete", 405)],
    )
    def test_can_only_be_read(self, client: Client, method: str, status: int) -> None:
        assert getattr(client, method)(progress_url(enqueue(load, 1, 2))).status_code == status

    def test_asks_for_no_login_where_all_pages_do(self, client: Client, settings: Any) -> None:
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
        ]

        assert client.get(progress_url(enqueue(load, 1, 2))).status_code == 200
        assert User.objects.count() == 0

    def test_speaks_the_readers_language(self, client: Client) -> None:
        job = ended_job(load, 1000, 4000)

        with translation.override("de"):
            assert "1.000 of 4.000" in rendered(job=job)


class TagTests:
    def test_shows_a_job_as_it_stands(self) -> None:
        run_jobs()
        job = ended_job(load, 1, 4, "reading <b>")

        page = rendered(job=Job.objects.get(pk=job.pk))

        assert f'<durable-progress src="{progress_url(job)}" state="SUCCESSFUL" finished>' in page
        assert '<progress max="1" value="1" aria-label="Progress" aria-valuetext="1 of 4">' in page
        assert "reading &lt;b&gt;" in page
        assert "style=" not in page

    @pytest.mark.parametrize(
        ("state", "value"),
        [
            ("READY", None),
            ("RUNNING", None),
            ("SUCCESSFUL", "1"),
            ("FAILED", "0"),
            ("CANCELLED", "0"),
        ],
    )
    def test_of_one_that_told_nothing_only_the_end_is_known(
        self, state: str, value: str | None
    ) -> None:
        page = rendered(job=job_in(state))

        assert (f'max="1" value="{value}"' if value else '<progress max="1" aria') in page
        assert (" finished>" in page) is (value is not None)

    def test_the_length_of_the_bar_is_no_localised_number(self) -> None:
        job = enqueue(load, 1, 3)
        run_jobs()
        Job.objects.filter(pk=job.pk).update(state="FAILED")

        with translation.override("de"):
            assert 'value="0.3333"' in rendered(job=Job.objects.get())

    def test_the_first_bar_of_a_page_brings_the_files(self) -> None:
        jobs = [enqueue(load, 1, 2) for _ in range(3)]

        page = rendered("{% for job in jobs %}{% job_progress job %}{% endfor %}", jobs=jobs)

        assert page.count("<durable-progress ") == 3
        assert page.count('<script type="module" src="/static/durable/progress.js"></script>') == 1
        assert page.count('<link rel="stylesheet" href="/static/durable/progress.css">') == 1
        assert page.index("<script") < page.index("<durable-progress")

    def test_a_label_says_what_is_under_way(self) -> None:
        job = enqueue(load, 1, 2)

        page = rendered("{% job_progress job label=label %}", job=job, label="Import of <x>")

        assert 'aria-label="Import of &lt;x&gt;"' in page

    @pytest.mark.parametrize("job", [None, "", 5])
    def test_what_is_no_job_is_refused(self, job: Any) -> None:
        with pytest.raises(TemplateSyntaxError, match="job_progress takes a job, not "):
            rendered(job=job)

    @pytest.mark.urls("tests.testapp.asking_urls")
    def test_without_the_addresses_it_says_what_to_add(self) -> None:
        with pytest.raises(ImproperlyConfigured, match=r'path\("durable/", include\('):
            rendered(job=enqueue(load, 1, 2))
