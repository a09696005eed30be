"""The list of jobs: what it shows, how it is narrowed, and that it stays cheap."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_durable import enqueue
from django_durable.admin import readonly
from django_durable.models import Job, JobState
from django_durable.testing import run_jobs
from tests.admin import tasks
from tests.admin.conftest import ClientFactory
from tests.admin.rows import job_in, list_url, make_worker, page_url, rewritten, text_of

pytestmark = pytest.mark.django_db


def listed(client: Client, **params: str) -> set[UUID]:
    """The ids of the jobs in the list."""
    response = client.get(list_url(), params)
    assert response.status_code == 200
    return {job.pk for job in response.context["cl"].result_list}


def statements_of(client: Client, url: str, **params: str) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url, params).status_code == 200
    return [query["sql"] for query in captured.captured_queries]


class AppearanceTests:
    def test_renders_without_a_row(self, admin_client: Client) -> None:
        assert "0 jobs" in text_of(admin_client.get(list_url()))

    def test_shows_a_row_of_each_state(self, admin_client: Client) -> None:
        for state in JobState:
            job_in(state)

        page = admin_client.get(list_url())

        for state in JobState:
            badge = f'<span class="durable-badge durable-{state.lower()}">{state.label}</span>'
            assert badge in page.content.decode()

    def test_says_who_runs_a_job_what_it_waits_for_and_why_it_failed(
        self, admin_client: Client
    ) -> None:
        job_in("RUNNING", worker_id=make_worker("web-7").pk, cancel_requested_at=timezone.now())
        job_in("WAITING")
        due = timezone.now() + timedelta(hours=1, minutes=59, seconds=30)
        job_in("SCHEDULED", due_at=due, wait_reason="step x failed")
        job_in("FAILED")

        page = text_of(admin_client.get(list_url()))

        assert "web-7:4711, asked to stop" in page
        assert "replay mismatch: expected a; found b" in page
        assert "due in 1 h 59 min; step x failed" in page
        assert "Declined: no money" in page

    def test_shows_a_running_job_whose_worker_has_no_row_any_more(
        self, admin_client: Client
    ) -> None:
        job_in("RUNNING", worker_id=987654)

        assert "987654" in text_of(admin_client.get(list_url()))

    def test_shows_unknown_tasks_and_odd_queue_names_escaped(self, admin_client: Client) -> None:
        job_in("READY", task_path="<b>gone</b>", queue_name='odd <i> & "q"')

        page = admin_client.get(list_url()).content.decode()

        assert "&lt;b&gt;gone&lt;/b&gt;" in page
        assert "odd &lt;i&gt; &amp; &quot;q&quot;" in page
        assert "unknown task" in page

    @pytest.mark.parametrize(
        ("error", "shown"),
        [
            ("3", "3"),
            ("null", "null"),
            ("[]", "[]"),
            ('{"message": "no type"}', '"no type"'),
            (r'{"type":"A","message":"half \ud800 of a pair"}', "A: half ? of a pair"),
            (r'{"type":"A","message":"nul \u0000"}', "A: nul \N{REPLACEMENT CHARACTER}"),
            ('{"type":"a.B","message":"%s"}' % ("x" * 5000), "B: xxx"),
            ('{"type":"a.B","message":"%s"}' % (r"\u00e9" * 5000), "B: ééé"),
        ],
    )
    def test_shows_errors_that_nobody_could_have_written(
        self, admin_client: Client, error: str, shown: str
    ) -> None:
        job_in("FAILED", error=error)

        assert shown in text_of(admin_client.get(list_url()))


class CostTests:
    def test_the_number_of_queries_does_not_depend_on_the_rows(self, admin_client: Client) -> None:
        for state in JobState:
            job_in(state)
        few = statements_of(admin_client, list_url())
        for _ in range(5):
            for state in JobState:
                job_in(state)

        many = statements_of(admin_client, list_url())

        # session, user, two for the choices of the queue filter, the count, the page
        assert len(few) == len(many) == 6

    def test_large_columns_stay_in_the_database(self, admin_client: Client) -> None:
        job_in("FAILED")

        *_, page = statements_of(admin_client, list_url())

        for column in ("arguments", "return_value"):
            assert f'"{column}"' not in page
        assert 'LEFT(("durable_job"."error")::text, 600)' in page

    def test_counts_no_further_than_the_bound(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readonly, "MOST_COUNTED", 3)
        for _ in range(5):
            job_in("READY")

        counts = [sql for sql in statements_of(admin_client, list_url()) if "COUNT" in sql]

        assert len(counts) == 1
        assert "LIMIT 4" in counts[0]

    def test_says_that_there_are_more_than_it_counted(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readonly, "MOST_COUNTED", 3)
        monkeypatch.setattr("django_durable.admin.jobs.JobAdmin.list_per_page", 2)
        for _ in range(4):
            job_in("READY")

        page = text_of(admin_client.get(list_url()))

        assert "Select all 3+ jobs" in page
        assert page.count("3+ jobs") == 2
        assert "All 3+ selected" in page
        assert len(listed(admin_client, p="2")) == 1

    def test_says_the_number_if_it_is_known(self, admin_client: Client) -> None:
        job_in("READY")

        assert re.search(r"\b1 job\b", text_of(admin_client.get(list_url())))

    def test_is_sorted_by_key_whatever_is_asked(self, admin_client: Client) -> None:
        job_in("READY")

        *_, page = statements_of(admin_client, list_url(), o="2.-3")

        assert page.endswith('ORDER BY "durable_job"."id" DESC')

    def test_never_counts_for_facets(self, admin_client: Client) -> None:
        assert len(statements_of(admin_client, list_url(), _facets="True")) == 6

    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"q": "order-17"},
            {"q": "admin.succeed"},
            {"q": "01a1f773-a522"},
            {"state": "FAILED", "queue": "x", "task": "y", "enqueued": "1h"},
        ],
    )
    def test_no_statement_looks_into_texts_or_for_distinct_values(
        self, admin_client: Client, params: dict[str, str]
    ) -> None:
        for sql in statements_of(admin_client, list_url(), **params):
            assert "LIKE" not in sql.upper()
            assert "DISTINCT" not in sql.upper()


class FilterTests:
    @pytest.mark.parametrize("state", JobState.values)
    def test_by_state(self, admin_client: Client, state: str) -> None:
        jobs = {each: job_in(each) for each in JobState.values}

        assert listed(admin_client, state=state) == {jobs[state].pk}

    @pytest.mark.parametrize(
        ("state", "column"), [("FAILED", "finished_at"), ("RUNNING", "worker_id")]
    )
    def test_by_state_says_what_its_partial_index_asks_for(
        self, admin_client: Client, state: str, column: str
    ) -> None:
        *_, page = statements_of(admin_client, list_url(), state=state)

        assert f'"{column}" IS NOT NULL' in page

    def test_by_being_blocked(self, admin_client: Client) -> None:
        job_in("WAITING", wait_kind="event")
        blocked = job_in("WAITING")

        assert listed(admin_client, state="BLOCKED") == {blocked.pk}

    def test_by_task_under_all_its_paths(self, admin_client: Client) -> None:
        job_in("READY")
        new = job_in("READY", task=tasks.renamed)
        old = job_in("READY", task_path="admin.older")

        assert listed(admin_client, task="admin.old") == {new.pk, old.pk}
        assert listed(admin_client, task="admin.older") == {new.pk, old.pk}

    def test_by_a_task_that_is_gone(self, admin_client: Client) -> None:
        gone = job_in("READY", task_path="shop.gone")

        page = admin_client.get(list_url(), {"task": "shop.gone"})

        assert [job.pk for job in page.context["cl"].result_list] == [gone.pk]
        assert '<li class="selected">' in page.content.decode()

    def test_by_queue_offers_declared_served_and_waiting_ones(self, admin_client: Client) -> None:
        make_worker(queues=["served"])
        make_worker(queues=["long-gone"], stopped_at=timezone.now())
        waits = job_in("READY", queue_name='odd & "q"')

        page = admin_client.get(list_url(), {"queue": 'odd & "q"'})

        (spec,) = (s for s in page.context["cl"].filter_specs if s.parameter_name == "queue")
        offered = [value for value, _ in spec.lookup_choices]
        assert {"orders", "default", "served", 'odd & "q"'} <= set(offered)
        assert "long-gone" not in offered
        assert listed(admin_client, queue='odd & "q"') == {waits.pk}

    def test_by_the_time_in_the_id(self, admin_client: Client) -> None:
        new, old = job_in("READY"), job_in("READY")
        earlier = UUID(int=int((timezone.now() - timedelta(hours=2)).timestamp() * 1000) << 80)
        Job.objects.filter(pk=old.pk).update(id=earlier)

        assert listed(admin_client, enqueued="1h") == {new.pk}
        assert listed(admin_client, enqueued="24h") == {new.pk, earlier}

    def test_by_parent(self, admin_client: Client) -> None:
        parent = enqueue(tasks.start_children, 2)
        run_jobs()

        children = listed(admin_client, parent=str(parent.pk))

        assert children == {job.pk for job in Job.objects.filter(parent_id=parent.pk)}
        assert len(children) == 2

    def test_by_subject(self, admin_client: Client, admin_user: User) -> None:
        about = enqueue(tasks.succeed.using(subject=admin_user), "o-1")
        job_in("READY")

        assert listed(admin_client, subject=f"auth.user:{admin_user.pk}") == {about.pk}

    def test_are_joined(self, admin_client: Client) -> None:
        job_in("READY")
        job_in("FAILED", queue_name="x")
        both = job_in("READY", queue_name="x")

        assert listed(admin_client, state="READY", queue="x") == {both.pk}

    @pytest.mark.parametrize("name", ["state", "task", "queue", "enqueued", "parent", "subject"])
    @pytest.mark.parametrize("value", ["nonsense", "a\x00b", "'; --", "\N{PILE OF POO}", "1:\x00"])
    def test_find_nothing_by_nonsense(self, admin_client: Client, name: str, value: str) -> None:
        job_in("READY")

        assert listed(admin_client, **{name: value}) == set()

    @pytest.mark.parametrize(
        "lookup", ["arguments__contains", "error", "id__gt", "attempt_rows__error", "nonsense"]
    )
    def test_other_lookups_are_refused(self, admin_client: Client, lookup: str) -> None:
        assert admin_client.get(list_url(), {lookup: "1"}).status_code == 400


class SearchTests:
    def test_by_id(self, admin_client: Client) -> None:
        job_in("READY")
        job = job_in("READY")

        for term in (str(job.pk), job.pk.hex, f"  {str(job.pk).upper()} "):
            assert listed(admin_client, q=term) == {job.pk}

    def test_by_the_beginning_of_an_id(self, admin_client: Client) -> None:
        job = job_in("READY")
        Job.objects.filter(pk=job.pk).update(id=UUID("12345678-9abc-7def-8000-000000000000"))
        other = job_in("READY")
        Job.objects.filter(pk=other.pk).update(id=UUID("12345678-9abd-7def-8000-000000000000"))

        assert len(listed(admin_client, q="12345678")) == 2
        assert len(listed(admin_client, q="12345678-9abc")) == 1
        assert len(listed(admin_client, q="123456789abc7")) == 1
        assert len(listed(admin_client, q="123456789abd8")) == 0

    def test_by_idempotency_key(self, admin_client: Client) -> None:
        job_in("READY")
        mine = enqueue(tasks.succeed.using(idempotency_key="order-17"), "o-17")
        same = enqueue(tasks.fail.using(idempotency_key="order-17"), "o-17")

        assert listed(admin_client, q="order-17") == {mine.pk, same.pk}
        assert listed(admin_client, q="admin.fail: order-17") == {same.pk}
        assert listed(admin_client, q="order-1") == set()

    def test_by_a_key_that_looks_like_an_id(self, admin_client: Client) -> None:
        job = job_in("READY")
        keyed = enqueue(tasks.succeed.using(idempotency_key=str(job.pk)), "o-17")

        assert listed(admin_client, q=str(job.pk)) == {job.pk, keyed.pk}

    def test_by_the_path_of_a_task(self, admin_client: Client) -> None:
        job_in("READY")
        old = job_in("READY", task_path="admin.older")
        gone = job_in("READY", task_path="shop.gone")

        assert listed(admin_client, q="admin.old") == {old.pk}
        assert listed(admin_client, q="shop.gone") == {gone.pk}
        assert listed(admin_client, q="shop") == set()

    @pytest.mark.parametrize("term", ["%", "_", "nothing", "'; --", "x" * 10_000, "\N{SNOWMAN}"])
    def test_finds_nothing_by_nonsense(self, admin_client: Client, term: str) -> None:
        job_in("READY")

        assert listed(admin_client, q=term) == set()

    def test_refuses_what_cannot_be_stored(self, admin_client: Client) -> None:
        page = admin_client.get(list_url(), {"q": "a\x00b"})

        assert "Null characters are not allowed." in text_of(page)

    def test_goes_with_filters(self, admin_client: Client) -> None:
        job = job_in("READY")

        assert listed(admin_client, q=str(job.pk), state="READY") == {job.pk}
        assert listed(admin_client, q=str(job.pk), state="FAILED") == set()


class ReachTests:
    def test_staff_without_the_permission_sees_nothing(self, staff_client: ClientFactory) -> None:
        job = job_in("READY")
        client = staff_client("retry_job", "view_worker")

        assert client.get(list_url()).status_code == 403
        assert client.get(page_url(job)).status_code == 403

    def test_a_later_row_does_not_move_the_list(self, admin_client: Client) -> None:
        old = job_in("READY")
        new = rewritten(job_in("READY"), state="READY")

        rows = admin_client.get(list_url()).context["cl"].result_list

        assert [job.pk for job in rows] == [new.pk, old.pk]
