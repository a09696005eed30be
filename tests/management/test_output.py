"""Words and tables."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management.base import OutputWrapper
from django.core.management.color import no_style

from django_durable.management.operations.output import (
    Output,
    age,
    count_of,
    printable,
    shortened,
    span,
)

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)


def output() -> tuple[Output, StringIO]:
    stream = StringIO()
    wrapper = OutputWrapper(stream)
    return Output(wrapper, wrapper, no_style(), as_json=False), stream


class SpanTests:
    @pytest.mark.parametrize(
        ("length", "words"),
        [
            (timedelta(milliseconds=12), "12 ms"),
            (timedelta(seconds=3), "3.0 s"),
            (timedelta(seconds=90), "90 s"),
            (timedelta(minutes=3), "3 min"),
            (timedelta(hours=5), "5 h"),
            (timedelta(days=90), "90 days"),
        ],
    )
    def test_takes_one_unit(self, length: timedelta, words: str) -> None:
        assert span(length) == words

    def test_an_age_looks_both_ways(self) -> None:
        assert age(NOW - timedelta(minutes=3), NOW) == "3 min ago"
        assert age(NOW + timedelta(minutes=5), NOW) == "in 5 min"
        assert age(NOW, NOW) == "now"
        assert age(None, NOW) == ""

    def test_counts_have_their_plural(self) -> None:
        assert [count_of(n, "job") for n in (0, 1, "10000+")] == ["0 jobs", "1 job", "10000+ jobs"]


class TableTests:
    def test_columns_are_aligned_and_numbers_stand_to_the_right(self) -> None:
        out, stream = output()

        out.table(["NAME", "JOBS", "NOTE"], [["a", "10000+", None], ["longer", 7, "fine"]])

        assert stream.getvalue().splitlines() == [
            "NAME      JOBS  NOTE",
            "a       10000+  -",
            "longer       7  fine",
        ]

    def test_what_would_steer_a_terminal_is_replaced(self) -> None:
        out, stream = output()

        out.table(["NAME"], [["red \x1b[31m\nnext"]])
        out.block("a\x1b[2J\n\tb")

        assert stream.getvalue() == "NAME\nred ?[31m next\n    a?[2J\n            b\n"
        assert printable("a\r\nb\x00") == "a b?"

    def test_a_text_is_cut_to_its_first_line(self) -> None:
        assert shortened("one\ntwo") == "one"
        assert shortened("x" * 200, 10) == "x" * 9 + "…"


class DocumentTests:
    def test_refuses_what_has_no_place_in_it(self) -> None:
        out, _ = output()

        with pytest.raises(TypeError, match="object has no place"):
            out.document(object())
