"""``durable explain`` on a job whose row another transaction holds."""

import pytest
from django.db import connection, transaction

from tests.management.console import codes, declared_task, finding, live_worker
from tests.sessions import second_session


class LockedTests:
    @pytest.fixture(autouse=True)
    def _committing(self, transactional_db: None) -> None:
        live_worker()

    def test_names_the_session_that_holds_the_row(self) -> None:
        job = declared_task().enqueue()

        with second_session() as session, session.transaction():
            session.execute("select from durable_job where id = %s for update", [job.pk])
            pid = session.info.backend_pid

            assert codes(job) == ["locked"]
            assert f"session {pid}, idle in transaction" in finding(job, "locked")
            assert f"pg_terminate_backend({pid})" in finding(job, "locked")
        assert codes(job) == ["about-to-run"]

    def test_says_so_when_several_share_the_row(self) -> None:
        job = declared_task().enqueue()
        share = "select from durable_job where id = %s for share"

        with second_session() as one, second_session() as two, one.transaction():
            one.execute(share, [job.pk])
            with two.transaction():
                two.execute(share, [job.pk])

                assert "several share it" in finding(job, "locked")

    def test_leaves_nothing_locked(self) -> None:
        job = declared_task().enqueue()

        with transaction.atomic():
            codes(job)
        with second_session() as session:
            query = "select from durable_job where id = %s for update nowait"
            assert session.execute(query, [job.pk]).rowcount == 1

    def test_where_nothing_may_be_locked_the_rest_is_told(self) -> None:
        job = declared_task().enqueue()

        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("set transaction read only")
            assert codes(job) == ["about-to-run"]

    def test_a_foreign_key_to_the_job_is_in_nobodys_way(self) -> None:
        job = declared_task().enqueue()

        with second_session() as session, session.transaction():
            session.execute("select from durable_job where id = %s for key share", [job.pk])

            assert codes(job) == ["about-to-run"]
