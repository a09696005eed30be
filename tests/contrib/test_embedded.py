"""The embedded PostgreSQL server, started, stopped and crashed for real."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import environ
import psycopg
import pytest

from django_durable.contrib.embedded import EmbeddedServer, EmbeddedServerError
from django_durable.contrib.embedded.__main__ import main
from django_durable.contrib.embedded.account import Account, find_binaries


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A server that the tests of this module leave as it is."""
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody but its owner can enter; data linked to from there is removed."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    yield folder
    for link in folder.iterdir():
        if link.is_symlink():
            shutil.rmtree(link.resolve())


def answer(server: EmbeddedServer, query: str, database: str = "postgres") -> object:
    with psycopg.connect(server.url(database)) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def modes_of_parents(path: Path) -> list[tuple[int, int, int]]:
    states = [parent.stat() for parent in path.absolute().parents]
    return [(state.st_mode, state.st_uid, state.st_gid) for state in states]


class StartTests:
    def test_keeps_what_it_acknowledged_safe(self, server: EmbeddedServer) -> None:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert answer(server, f"select current_setting('{setting}')") == "on"

    def test_serves_a_socket_in_a_folder_of_its_own_user(self, server: EmbeddedServer) -> None:
        status = server.socket_dir.stat()

        assert status.st_mode & 0o777 == 0o700
        assert status.st_uid == server.account.uid != 0
        assert answer(server, "select current_setting('listen_addresses')") == ""

    def test_survives_the_end_of_the_terminal_it_was_started_from(
        self, server: EmbeddedServer
    ) -> None:
        postmaster = server.postmaster()

        assert postmaster is not None
        assert os.getsid(postmaster.pid) != os.getsid(0)

    def test_changes_no_parent_of_the_data(self, closed_folder: Path) -> None:
        before = modes_of_parents(closed_folder / "pg")

        with EmbeddedServer.start(closed_folder / "pg") as server:
            assert answer(server, "select 1") == 1

        assert modes_of_parents(closed_folder / "pg") == before

    def test_reuses_its_data(self, closed_folder: Path) -> None:
        with EmbeddedServer.start(closed_folder / "pg") as server:
            server.create_database("shop")

        with EmbeddedServer.start(closed_folder / "pg") as server:
            assert answer(server, "select current_database()", "shop") == "shop"

    def test_takes_over_an_empty_folder(self, closed_folder: Path) -> None:
        (closed_folder / "pg").mkdir(mode=0o755)

        with EmbeddedServer.start(closed_folder / "pg") as server:
            assert answer(server, "select 1") == 1

    def test_begins_anew_when_the_temporary_folder_was_emptied(self, closed_folder: Path) -> None:
        (closed_folder / "pg").symlink_to("/nonexistent/durable-00000000")

        with EmbeddedServer.start(closed_folder / "pg") as server:
            assert answer(server, "select 1") == 1

    def test_refuses_a_folder_of_other_things(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        (tmp_path / "letter.txt").write_text("Dear all")

        with pytest.raises(EmbeddedServerError, match=r"not empty|cannot enter"):
            EmbeddedServer.start(tmp_path)

        assert (tmp_path / "letter.txt").read_text() == "Dear all"

    def test_attaches_to_a_running_server_and_leaves_it_running(self, closed_folder: Path) -> None:
        with EmbeddedServer.start(closed_folder / "pg") as server:
            with EmbeddedServer.start(closed_folder / "pg") as attached:
                assert attached.url("shop") == server.url("shop")

            assert server.running

    def test_ignores_a_pid_file_whose_process_is_another(self, closed_folder: Path) -> None:
        with EmbeddedServer.start(closed_folder / "pg") as server:
            file = server.data_dir / "postmaster.pid"
            lines = file.read_text().splitlines()
        file.write_text("\n".join([str(os.getpid()), *lines[1:]]))

        with EmbeddedServer.start(closed_folder / "pg") as server:
            assert not server.attached
            assert answer(server, "select 1") == 1

    def test_opens_a_tcp_port_that_asks_for_a_password(self, unused_tcp_port: int) -> None:
        with EmbeddedServer.start(port=unused_tcp_port) as server:
            with psycopg.connect(server.tcp_url()) as connection:
                assert connection.info.host == "127.0.0.1"
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(host="127.0.0.1", port=unused_tcp_port, user="postgres")

    def test_leaves_nothing_behind(self) -> None:
        with EmbeddedServer.start() as server:
            assert server.running

        assert not server.data_dir.exists()
        assert not server.socket_dir.exists()


class UrlTests:
    def test_is_understood_by_django_environ(self, server: EmbeddedServer) -> None:
        config = environ.Env.db_url_config(server.url("shop"))

        assert (config["NAME"], config["USER"]) == ("shop", "postgres")
        assert config["OPTIONS"] == {"host": str(server.socket_dir), "port": 5432}

    def test_names_any_database(self, server: EmbeddedServer) -> None:
        server.create_database('O\'Reilly & "Söhne" %')
        server.create_database('O\'Reilly & "Söhne" %')

        url = server.url('O\'Reilly & "Söhne" %')

        with psycopg.connect(url) as connection:
            assert connection.info.dbname == 'O\'Reilly & "Söhne" %'

    def test_has_no_tcp_form_without_a_port(self, server: EmbeddedServer) -> None:
        with pytest.raises(EmbeddedServerError, match="no TCP port"):
            server.tcp_url()


class RestartTests:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_keeps_url_and_data(self, private_server: EmbeddedServer, mode: str) -> None:
        with psycopg.connect(private_server.url()) as connection:
            connection.execute("create table kept as select 7 as number")
        url = private_server.url()

        private_server.restart("immediate" if mode == "immediate" else "fast")

        assert private_server.url() == url
        assert answer(private_server, "select number from kept") == 7

    def test_recovers_from_a_killed_main_process(self, private_server: EmbeddedServer) -> None:
        postmaster = private_server.postmaster()
        assert postmaster is not None

        os.kill(postmaster.pid, signal.SIGKILL)
        private_server.restart()

        assert answer(private_server, "select 1") == 1

    def test_says_what_the_server_logged_when_it_does_not_start(
        self, private_server: EmbeddedServer
    ) -> None:
        private_server.stop()
        (private_server.data_dir / "postgresql.auto.conf").write_text("no_such_setting = 1\n")

        with pytest.raises(EmbeddedServerError, match="no_such_setting"):
            private_server.restart()


class BinariesTests:
    def test_are_copied_when_the_servers_user_cannot_reach_them(
        self, closed_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DURABLE_PG_BIN", raising=False)
        account = Account.choose(None)
        package = find_binaries(account).parent.parent
        for part in (package, package.with_suffix(".libs")):
            shutil.copytree(part, closed_folder / part.name)
        monkeypatch.setattr(sys, "path", [str(closed_folder), *sys.path])

        binaries = find_binaries(account)

        assert account.reaches(binaries / "postgres")
        assert account.run(binaries / "initdb", "--version").returncode == 0

    def test_name_the_extra_when_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DURABLE_PG_BIN", raising=False)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

        with pytest.raises(EmbeddedServerError, match=r"pip install 'django-durable-jobs\[embed"):
            EmbeddedServer.start()

    def test_may_be_named_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DURABLE_PG_BIN", "/nonexistent")

        with pytest.raises(EmbeddedServerError, match="DURABLE_PG_BIN=/nonexistent"):
            EmbeddedServer.start()


class CommandLineTests:
    def test_start_url_status_stop(
        self, closed_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data_dir = str(closed_folder / "pg")

        assert main(["start", data_dir, "--database", "shop"]) == 0
        url = capsys.readouterr().out.strip()
        assert main(["url", data_dir, "--database", "shop"]) == 0
        assert capsys.readouterr().out.strip() == url
        with psycopg.connect(url) as connection:
            assert connection.info.dbname == "shop"
        assert main(["status", data_dir]) == 0
        assert main(["stop", data_dir]) == 0
        assert main(["status", data_dir]) == 3

    def test_remove_leaves_nothing(self, closed_folder: Path) -> None:
        with EmbeddedServer.start(closed_folder / "pg") as server:
            assert main(["remove", str(closed_folder / "pg")]) == 0

            assert not server.running

        assert not server.data_dir.exists()
        assert list(closed_folder.iterdir()) == []

    def test_remove_refuses_other_folders(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["remove", str(tmp_path)]) == 1

        assert "is no data folder of PostgreSQL" in capsys.readouterr().err
        assert tmp_path.exists()

    def test_is_a_module_to_run(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "django_durable.contrib.embedded", "url", str(tmp_path)]

        result = subprocess.run(command, capture_output=True, text=True, check=False)

        assert result.returncode == 3
        assert "No server runs over" in result.stderr
