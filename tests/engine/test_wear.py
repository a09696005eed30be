"""When a worker process is worn out."""

import logging
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from django_durable.engine import wear
from django_durable.engine.wear import Wear, resident_bytes, too_much_memory


class JobTests:
    def test_no_more_begin_than_are_left(self) -> None:
        worn = Wear(max_jobs=5)
        assert worn.room == 5

        worn.begun = 3

        assert worn.room == 2

    def test_it_says_once_why(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "django_durable")
        worn = Wear(max_jobs=2, begun=2)

        worn.look(ended=0)
        worn.look(ended=2)

        assert worn.room == 0
        assert [record.getMessage() for record in caplog.records] == [
            "Claiming no more, to be started anew: 2 job(s) began here, --max-jobs is 2."
        ]

    def test_without_limits_there_is_always_room(self) -> None:
        worn = Wear(begun=10**9)

        worn.look(ended=1)

        assert (worn.room, worn.reason) == (sys.maxsize, "")


class MemoryTests:
    @pytest.fixture(autouse=True)
    def _size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wear, "resident_bytes", lambda: 300_000_000)

    def test_it_counts_when_a_job_has_ended(self) -> None:
        worn = Wear(max_memory=200_000_000, begun=2)

        worn.look(ended=0)
        assert worn.room > 0
        worn.look(ended=1)

        assert worn.room == 0
        assert worn.reason == "it takes 300 MB, --max-memory is 200."

    def test_it_is_looked_at_now_and_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wear, "machine_seconds", lambda: 100.0)
        worn = Wear(max_memory=300_000_000, begun=1)
        worn.look(ended=1)
        worn.max_memory = 1

        worn.look(ended=1)
        assert not worn.reason
        monkeypatch.setattr(wear, "machine_seconds", lambda: 100.2)
        worn.look(ended=1)

        assert worn.reason

    def test_enough_is_not_too_much(self) -> None:
        assert too_much_memory(300_000_000) == ""


class MeasuringTests:
    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
    def test_what_is_allocated_is_seen_and_what_is_freed_is_gone(self) -> None:
        before = resident_bytes()
        hoard = bytearray(b"x") * 200_000_000
        full = resident_bytes()
        del hoard

        assert full - before > 150_000_000
        assert resident_bytes() - before < 50_000_000

    @pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd14", 1024)])
    def test_without_proc_the_peak_counts_in_the_units_of_the_system(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, unit: int
    ) -> None:
        monkeypatch.setattr(wear, "_STATM", tmp_path / "statm")
        monkeypatch.setattr(wear.sys, "platform", platform)
        usage = SimpleNamespace(ru_maxrss=123_456)
        monkeypatch.setattr(resource, "getrusage", lambda _: usage)

        assert resident_bytes() == 123_456 * unit
