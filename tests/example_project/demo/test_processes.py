"""Starting, striking and ending processes."""

import signal
import socket

import pytest

from example_project.demo.errors import DemoError
from example_project.demo.processes import Crew, find_port
from tests.example_project.demo.conftest import StartSleeper


class CrewTests:
    def test_shows_what_a_failed_command_printed(self, crew: Crew) -> None:
        with pytest.raises(DemoError, match="Unknown command: 'dance'"):
            crew.run("dance")

    def test_runs_a_command_to_its_end(self, crew: Crew) -> None:
        crew.run("version")

        assert crew.children == []

    def test_ends_all_that_it_started_even_if_frozen(
        self, crew: Crew, start_sleeper: StartSleeper
    ) -> None:
        awake, frozen = start_sleeper(), start_sleeper()
        frozen.freeze()

        with crew:
            pass

        assert [awake.process.returncode, frozen.process.returncode] == [-signal.SIGTERM] * 2

    def test_kills_what_does_not_stop(
        self, crew: Crew, start_sleeper: StartSleeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("example_project.demo.processes.PATIENCE_SECONDS", 0.1)
        program = (
            "import signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('deaf')\n"
            "time.sleep(60)\n"
        )
        deaf = start_sleeper(program)
        while "deaf" not in deaf.last_words():
            assert deaf.is_alive

        crew.stop([deaf])

        assert deaf.process.returncode == -signal.SIGKILL
        assert not deaf.has_stopped_well

    def test_notices_a_process_that_ended_by_itself(
        self, crew: Crew, start_sleeper: StartSleeper
    ) -> None:
        child = start_sleeper("print('out of tea'); raise SystemExit(3)")
        child.process.wait()

        with pytest.raises(DemoError, match="sleeper ended with 3:\nout of tea"):
            crew.check()

    def test_expects_the_end_of_what_it_killed(
        self, crew: Crew, start_sleeper: StartSleeper
    ) -> None:
        start_sleeper().kill()

        crew.check()

    def test_takes_another_port_if_somebody_listens_on_the_wished_one(self) -> None:
        with socket.socket() as other:  # which keeps the port from everybody else
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", 0))
            wished = other.getsockname()[1]

            assert find_port(wished) == wished
            other.listen()
            assert find_port(wished) not in (0, wished)
