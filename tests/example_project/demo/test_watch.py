"""Waiting for facts."""

from dataclasses import replace
from typing import Any

import pytest

from example_project.demo.errors import DemoError
from example_project.demo.evidence import Snapshot
from example_project.demo.watch import Watch


class WatchTests:
    @pytest.fixture
    def watch(self, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> Watch:
        monkeypatch.setattr("example_project.demo.watch.take_snapshot", lambda _: snapshot)
        session: Any = None
        return Watch(session=session, on_look=lambda _: None, patience_seconds=0.1)

    def test_answers_with_what_was_found(self, watch: Watch, snapshot: Snapshot) -> None:
        assert watch.wait_for("a boot", lambda now: now.boot_of(70)) == snapshot.boots[0]

    def test_names_what_it_waited_for_and_how_far_it_was(self, watch: Watch) -> None:
        with pytest.raises(DemoError) as caught:
            watch.wait_for("the kettle to boil", lambda _: None)

        assert str(caught.value).startswith("Waited 0.1 s in vain for the kettle to boil. ")
        assert "'RUNNING': 2" in str(caught.value)

    def test_ends_when_the_crew_is_in_trouble(self, watch: Watch) -> None:
        def on_look(_: Snapshot) -> None:
            raise DemoError("A worker is gone.")

        with pytest.raises(DemoError, match=r"A worker is gone\."):
            replace(watch, on_look=on_look).wait_for("anything", lambda _: True)
