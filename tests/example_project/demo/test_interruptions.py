"""Signals, sent to this very process."""

import os
import signal
from collections.abc import Iterator

import pytest

from example_project.demo.interruptions import SIGNALS, Interruptions


@pytest.fixture
def interruptions() -> Iterator[Interruptions]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    installed = Interruptions()
    installed.install()
    yield installed
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
class InterruptionTests:
    def test_ends_the_demo_with_the_shells_status(
        self, interruptions: Interruptions, number: signal.Signals
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), number)

        assert caught.value.code == 128 + number

    def test_waits_while_a_process_is_being_started(
        self, interruptions: Interruptions, number: signal.Signals
    ) -> None:
        steps = []

        def start() -> None:
            with interruptions.held():
                os.kill(os.getpid(), number)
                steps.append("started")

        with pytest.raises(SystemExit):
            start()

        assert steps == ["started"]

    def test_lets_the_end_take_its_time(
        self, interruptions: Interruptions, number: signal.Signals
    ) -> None:
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), number)

        os.kill(os.getpid(), number)

        assert signal.getsignal(number) is signal.SIG_IGN
