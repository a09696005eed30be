"""``python -m example_project.demo``, as far as it goes without telling the story."""

import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from example_project.demo.__main__ import main, open_logs
from example_project.demo.errors import DemoError


def leave_logs(end: BaseException | None) -> Path:
    """The folder of the logs of a demo that ended so."""
    with suppress(DemoError, SystemExit), open_logs() as logs:
        (logs / "worker.log").write_text("what happened")
        if end:
            raise end
    return logs


class CommandLineTests:
    def test_says_why_it_cannot_begin(
        self,
        monkeypatch: pytest.MonkeyPatch,
        refusing_port: int,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", f"postgres://me@127.0.0.1:{refusing_port}/mine")
        monkeypatch.setattr(signal, "signal", lambda *_: None)

        assert main([]) == 1
        assert "The server in DATABASE_URL does not answer" in capsys.readouterr().err

    def test_wants_enough_orders(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--orders", "10"])

        assert "With less than 100 orders" in capsys.readouterr().err

    def test_keeps_the_logs_of_a_failure(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs = leave_logs(DemoError("It does not hold."))

        assert str(logs) in capsys.readouterr().err
        assert (logs / "worker.log").exists()
        shutil.rmtree(logs)

    @pytest.mark.parametrize("end", [SystemExit(130), None])
    def test_removes_the_logs_otherwise(self, end: BaseException | None) -> None:
        assert not leave_logs(end).exists()
