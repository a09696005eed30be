"""What wakes a worker's loop, and tells it to stop."""

import signal

import pytest

from django_durable.engine.bell import Bell


@pytest.mark.parametrize("first", ["the signal", "the word"])
def test_a_signal_and_the_supervisors_word_are_one_order_to_stop(first: str) -> None:
    bell = Bell()

    if first == "the signal":
        bell.stop(signal.SIGTERM, None)
        bell.stop_as_if(1)
    else:
        bell.stop_as_if(1)
        bell.stop(signal.SIGTERM, None)

    assert bell.stop_signals == 1


def test_two_signals_are_two_and_the_word_may_say_two_at_once() -> None:
    signalled, told = Bell(), Bell()

    signalled.stop(signal.SIGINT, None)
    signalled.stop(signal.SIGTERM, None)
    told.stop_as_if(2)
    told.stop_as_if(1)

    assert (signalled.stop_signals, told.stop_signals) == (2, 2)
