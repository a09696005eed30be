"""The figures as one picture: each beside what it is measured against, drawn as SVG by hand."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.measuring import AtMost, TimesRaw
from benchmarks.report import FOLDER, Result, show

WIDTH, LEFT, RIGHT = 860, 390, 90
BAR, GAP, TOP, BOTTOM = 18, 14, 56, 16
SCALE = WIDTH - LEFT - RIGHT
LONGEST = 1.5
"""Bars end at this many times the target; the number beside them tells the rest."""
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.met { fill: #2da44e } .missed { fill: #cf222e } .target { stroke: #24292f; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .target { stroke: #e6edf3 }
}
"""


def share_of_target(result: Result) -> float:
    """How much of the target is reached: 1 is all of it, and more is better."""
    target, figure = result.row.target, result.figure
    if isinstance(target, TimesRaw):
        return (figure.ratio or 0.0) / target.least
    assert isinstance(target, AtMost)  # there are no others
    return target.most / figure.ours if figure.ours else LONGEST


def label(result: Result) -> str:
    if isinstance(result.row.target, TimesRaw):
        return f"{result.figure.ratio:.2f} x raw"
    return show(result.figure.ours, result.row.unit)


def bar(result: Result, index: int) -> str:
    y = TOP + index * (BAR + GAP)
    width = min(share_of_target(result), LONGEST) / LONGEST * SCALE
    kind = "met" if result.verdict == "ok" else "missed"
    title = f"{result.row.title} ({result.row.target})"
    return (
        f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(title)}</text>\n'
        f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width:.0f}" height="{BAR}"/>\n'
        f'<text x="{LEFT + width + 8:.0f}" y="{y + 14}">{escape(label(result))}</text>'
    )


def draw(results: Sequence[Result]) -> str:
    height = TOP + len(results) * (BAR + GAP) + BOTTOM
    target = LEFT + SCALE / LONGEST
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>Benchmarks against their targets</title><style>{STYLE}</style>",
            '<text class="title" x="10" y="24">How much of each target is reached</text>',
            *(bar(result, index) for index, result in enumerate(results)),
            f'<line class="target" x1="{target:.0f}" y1="44" x2="{target:.0f}" y2="{height - 8}"/>',
            f'<text x="{target:.0f}" y="38" text-anchor="middle">target</text>',
            "</svg>\n",
        ]
    )


def publish(results: Sequence[Result]) -> None:
    (FOLDER / "plot.svg").write_text(draw(results), encoding="utf-8")
