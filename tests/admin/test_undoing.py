"""What the admin says of jobs whose steps are undone."""

from collections.abc import Iterator
from functools import partial

import pytest
from django.test import Client

from django_durable.models import Job
from tests.admin.acting import page_of
from tests.admin.rows import job_in, list_url, make_checkpoint, make_worker, page_url, text_of
from tests.builders import ended_job
from tests.undoing import charge, failing, forget, refusals, reserve

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    yield
    forget()


class PageTests:
    def test_compensations_stand_under_their_steps_with_what_came_of_them(
        self, admin_client: Client
    ) -> None:
        refusals["refund"] = [ValueError("the bank says no")]
        job = ended_job(failing(partial(charge, "a"), partial(reserve, "a")))

        page = page_of(admin_client, job)
        lines = admin_client.get(page_url(job)).context["checkpoints"].lines

        assert [(line.identity, line.undoes, line.can_fork) for line in lines] == [
            ("charge", False, True),
            ("compensation@1/charge", True, False),
            ("reserve", False, True),
            ("compensation@1/reserve", True, False),
        ]
        assert "1 charge successful plain" in page
        assert "4 compensation@1/charge not undone plain" in page
        assert "the bank says no" in page
        assert "2 reserve undone by its compensation plain" in page
        assert "3 compensation@1/reserve undone plain" in page

    def test_pages_go_by_steps(self, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("django_durable.admin.details.CHECKPOINTS_PER_PAGE", 3)
        job = job_in("RUNNING")
        for seq, identity in enumerate(["a", "b", "gather/0/c", "compensation@1/gather/0/c"], 1):
            make_checkpoint(job, seq, identity=identity)
        make_checkpoint(job, 5, identity="compensation@2/a")
        make_checkpoint(job, 6, identity="compensation@1/of a step that is gone")

        def listed(number: str) -> list[str]:
            response = admin_client.get(page_url(job), {"checkpoints": number})
            return [line.identity for line in response.context["checkpoints"].lines]

        assert listed("1") == ["a", "compensation@2/a", "b"]
        assert listed("2") == [
            "gather/0/c", "compensation@1/gather/0/c", "compensation@1/of a step that is gone"
        ]  # fmt: skip

    @pytest.mark.parametrize("state", ["RUNNING", "SCHEDULED", "READY"])
    def test_a_job_that_is_being_undone_says_so(self, admin_client: Client, state: str) -> None:
        job = job_in(state, ends_as="FAILED")

        page = page_of(admin_client, job)

        assert "Its steps are being undone, the last one first; then it is FAILED." in page

    def test_the_list_says_so_too(self, admin_client: Client) -> None:
        job_in("RUNNING", worker_id=make_worker("web-7").pk, ends_as="FAILED")
        job_in("SCHEDULED", ends_as="CANCELLED", wait_reason="it is tried again")

        page = text_of(admin_client.get(list_url()))

        assert "web-7:4711, is being undone, then FAILED" in page
        assert "is being undone, then CANCELLED; due" in page
        assert Job.objects.count() == 2
