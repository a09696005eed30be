"""The demo's database, on the suite's server."""

import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from example_project.demo import database as demo_database
from example_project.demo.database import conninfo, open_database, replace_name
from example_project.demo.errors import DemoError
from example_project.demo.interruptions import Interruptions


@pytest.fixture
def given_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The suite's server as the one in DATABASE_URL; the demo's database has a name of its own.

    The demo before has closed its session, which may hold the demos' lock for a moment longer.
    """
    name = f"durable_demo_{os.getpid()}"
    monkeypatch.setattr(demo_database, "NAME", name)
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(conninfo(url)) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [demo_database.LOCK])
    yield name
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        connection.execute(f'drop database if exists "{name}" with (force)')


class UrlTests:
    def test_names_the_demos_database_on_the_same_server(self) -> None:
        url = "postgres://me:secret@db.example:5433/mine?sslmode=require"

        assert replace_name(url) == (
            "postgres://me:secret@db.example:5433/durable_demo?sslmode=require"
        )

    def test_keeps_a_socket(self) -> None:
        url = replace_name("postgres://postgres@/postgres?host=%2Ftmp%2Fx&port=5432")

        assert conninfo_to_dict(conninfo(url)) == {
            "dbname": "durable_demo",
            "user": "postgres",
            "host": "/tmp/x",
            "port": "5432",
        }

    def test_leaves_out_what_is_only_for_django(self) -> None:
        url = "postgres://me:a%23b@db.example/mine?conn_max_age=5&sslmode=require"

        assert conninfo_to_dict(conninfo(url)) == {
            "dbname": "mine",
            "user": "me",
            "password": "a#b",
            "host": "db.example",
            "sslmode": "require",
        }

    def test_refuses_to_work_from_within_the_demos_database(self) -> None:
        with pytest.raises(DemoError, match="must name another database"):
            replace_name("postgres://me@db.example/durable_demo")


class DatabaseTests:
    def test_is_made_anew_each_time(self, given_server: str) -> None:
        with open_database(Interruptions()) as database:
            assert not database.exists()
            for _ in range(2):
                database.make_anew()
                with database.connect() as session:
                    session.execute("create table leftover ()")
            assert database.exists()

    def test_refuses_a_database_that_somebody_else_made(self, given_server: str) -> None:
        with open_database(Interruptions()) as database:
            database.keeper.execute(f'create database "{given_server}"')

            with pytest.raises(DemoError, match="is not the demo's: rename it"):
                database.make_anew()

    def test_refuses_while_workers_of_it_are_running(self, given_server: str) -> None:
        with open_database(Interruptions()) as database:
            database.make_anew()
            with database.connect() as worker:
                worker.execute("create table durable_worker (id int, pid int, hostname text)")
                worker.execute("insert into durable_worker values (5, 77, 'here')")
                worker.execute("set application_name = 'durable:5'")

                with pytest.raises(DemoError, match=r"end them first: process 77 on here\."):
                    database.make_anew()

    def test_is_used_by_one_demo_at_a_time(self, given_server: str) -> None:
        with (
            open_database(Interruptions()),
            pytest.raises(DemoError, match="A demo is at work on this server already"),
            open_database(Interruptions()),
        ):
            pass

    def test_says_that_the_server_does_not_answer(
        self, monkeypatch: pytest.MonkeyPatch, refusing_port: int
    ) -> None:
        url = f"postgres://me@127.0.0.1:{refusing_port}/mine"
        monkeypatch.setenv("DATABASE_URL", url)

        with pytest.raises(DemoError, match="does not answer"), open_database(Interruptions()):
            pass
