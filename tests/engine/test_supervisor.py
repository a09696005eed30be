"""Small decisions of the supervisor; its story is told by tests/scenarios/test_supervisor.py."""

import signal

import pytest

from django_durable.engine.supervisor import describe, pause_after


class PauseTests:
    def test_the_first_bad_end_is_followed_by_a_start_at_once_then_pauses_double(self) -> None:
        pauses = [pause_after(bad_ends) for bad_ends in (0, 1, 2, 3, 4, 5, 100, 10**6)]

        assert pauses == [0, 0, 0.5, 1, 2, 4, 30, 30]


class CodeTests:
    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (1, "exit code 1"),
            (-signal.SIGKILL, "killed by SIGKILL"),
            (-63, "killed by signal 63"),
        ],
    )
    def test_what_happened_is_said_in_words(self, code: int, words: str) -> None:
        assert describe(code) == words
