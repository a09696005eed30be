"""How often a worker was told to stop."""

import signal

import pytest

from django_durable.engine.stopping import StopOrders


@pytest.mark.parametrize("first", ["the signal", "the word"])
def test_a_signal_and_the_supervisors_word_are_one_order(first: str) -> None:
    woken: list[int] = []
    orders = StopOrders(lambda: woken.append(1))

    if first == "the signal":
        orders.note_signal(signal.SIGTERM, None)
        orders.tell(1)
    else:
        orders.tell(1)
        orders.note_signal(signal.SIGTERM, None)

    assert orders.count == 1
    assert len(woken) == 2


def test_two_signals_are_two_and_the_word_may_say_two_at_once() -> None:
    signalled, told = StopOrders(lambda: None), StopOrders(lambda: None)

    signalled.note_signal(signal.SIGINT, None)
    signalled.note_signal(signal.SIGTERM, None)
    told.tell(2)
    told.tell(1)

    assert (signalled.count, told.count) == (2, 2)


def test_a_hang_up_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: dict[int, object] = {}
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    monkeypatch.setattr(signal, "signal", handled.__setitem__)

    StopOrders(lambda: None).listen_to_signals()

    assert set(handled) == {signal.SIGTERM, signal.SIGINT}
