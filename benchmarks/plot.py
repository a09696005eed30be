"""The figures as one picture, drawn as SVG by hand."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report import Result


def publish(results: Sequence[Result]) -> None:
    """To be drawn."""
