"""The figures as one picture, drawn as SVG by hand, readable on light and dark pages.

Above, in two columns: each row that has peers, as bars on a logarithmic scale. Below: how much of
its target each other row reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from benchmarks.measuring import AtLeast, AtMost, AtMostTimes, Figure, Target, Times
from benchmarks.peers import TITLES
from benchmarks.report import FOLDER, MET, MISSED, Result, show, show_ratio

WIDTH, MARGIN, COLUMN = 1000, 20, 470
NAMES, SCALE = 110, 215
"""In a column: room for the names, and for the bars."""
LINE, HEADING, GAP = 18, 40, 22
SHARES_LEFT, SHARES_SCALE, LONGEST = 400, 270, 1.5
"""Below: bars end at this many times the target; the number beside them tells the rest."""
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.page { fill: #ffffff } .title { font-size: 15px; font-weight: 600 } .head { font-weight: 600 }
.note { fill: #59636e } .end { text-anchor: end }
.met { fill: #1a7f37 } .missed { fill: #cf222e } .open { fill: #9a6700 }
.raw { fill: #afb8c1 } .peer { fill: #54aeff }
.grid { stroke: #d1d9e0 } .target { stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .page { fill: #0d1117 } .note { fill: #9198a1 }
  .met { fill: #3fb950 } .missed { fill: #f85149 } .open { fill: #d29922 }
  .raw { fill: #6e7681 } .peer { fill: #388bfd }
  .grid { stroke: #3d444d } .target { stroke: #e6edf3 }
}
"""
CLASSES = {MET: "met", MISSED: "missed"}


class Bar(NamedTuple):
    name: str
    value: float
    look: str
    label: str


def bars_of(result: Result, figure: Figure) -> list[Bar]:
    """Ours first, then the raw limit and the peers that were measured."""
    unit = result.row.unit
    bars = [Bar("ours", figure.ours, look_of(result), show(figure.ours, unit))]
    for name, rival in figure.rivals.items():
        look = "peer" if name in TITLES else "raw"
        label = f"{show(rival.value, unit)}   {show_ratio(rival)}"
        bars.append(Bar(TITLES.get(name, "raw limit"), rival.value, look, label))
    return bars


def look_of(result: Result) -> str:
    return CLASSES.get(result.verdict, "open")


def value_of(target: Target, figure: Figure) -> float | None:
    """Where a target lies, in the row's unit."""
    match target:
        case Times(least=factor, rival=name) | AtMostTimes(most=factor, rival=name):
            return factor * figure.rivals[name].value if name in figure.rivals else None
        case AtMost(most=value) | AtLeast(least=value):
            return value
    raise TypeError(target)


def share_of_target(result: Result, figure: Figure) -> float:
    """How much of its target is reached, of the one that is reached least: 1 is all of it."""
    shares = []
    for target in result.row.targets:
        wanted = value_of(target, figure)
        if wanted is None:
            continue
        if isinstance(target, AtMost | AtMostTimes):
            shares.append(wanted / figure.ours if figure.ours else LONGEST)
        else:
            shares.append(figure.ours / wanted if wanted else LONGEST)
    return min(shares, default=0.0)


class LogScale:
    """Maps values to lengths: from a power of ten below the least one to the greatest one."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low = 10.0 ** math.floor(math.log10(min(values) / 2))
        self.high = max(values)

    def length(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low) * SCALE

    def powers(self) -> Iterator[float]:
        """The lengths at which a power of ten stands."""
        power = self.low
        while power <= self.high:
            yield self.length(power)
            power *= 10


def draw_group(result: Result, figure: Figure, x: float, y: float) -> Iterator[str]:
    """A heading, and a bar for each contestant."""
    bars = bars_of(result, figure)
    wanted = [value for t in result.row.targets if (value := value_of(t, figure)) is not None]
    scale = LogScale([*(bar.value for bar in bars), *wanted])
    left, top = x + NAMES, y + HEADING
    yield text(x, y + 14, result.title, "head")
    yield text(x, y + 31, f"target {result.targets}", "note")
    for at in scale.powers():
        yield line(left + at, top, left + at, top + len(bars) * LINE, "grid")
    for index, bar in enumerate(bars):
        at, length = top + index * LINE, scale.length(bar.value)
        yield text(left - 8, at + 13, bar.name, "end")
        yield rect(left, at + 2, length, LINE - 4, bar.look)
        ends = [length, *map(scale.length, wanted)] if index == 0 else [length]
        yield text(left + max(ends) + 6, at + 13, bar.label)
    for value in wanted:
        at = left + scale.length(value)
        yield line(at, top, at, top + LINE, "target")


def height_of(figure: Figure) -> int:
    return HEADING + (1 + len(figure.rivals)) * LINE + GAP


def draw_groups(results: Sequence[Result], top: float) -> tuple[list[str], float]:
    """Two beside each other, pair under pair; the parts, and where they end."""
    drawn = [(result, result.figure) for result in results if result.figure]
    parts: list[str] = []
    for index in range(0, len(drawn), 2):
        pair = drawn[index : index + 2]
        for column, (result, figure) in enumerate(pair):
            parts += draw_group(result, figure, MARGIN + column * (COLUMN + MARGIN), top)
        top += max(height_of(figure) for _, figure in pair)
    return parts, top


def draw_shares(results: Sequence[Result], top: float) -> tuple[list[str], float]:
    """A bar for each row: how much of its target it reaches."""
    target = SHARES_LEFT + SHARES_SCALE / LONGEST
    parts, y = [], top + 22
    for result in results:
        if result.figure is None:
            continue
        length = min(share_of_target(result, result.figure), LONGEST) / LONGEST * SHARES_SCALE
        label = f"{show(result.figure.ours, result.row.unit)}   target {result.targets}"
        parts += [
            text(SHARES_LEFT - 10, y + 13, result.title, "end"),
            rect(SHARES_LEFT, y + 2, length, LINE - 4, look_of(result)),
            text(SHARES_LEFT + SHARES_SCALE + 12, y + 13, label),
        ]
        y += LINE + 6
    return [*parts, line(target, top + 16, target, y, "target")], y


def text(x: float, y: float, content: str, look: str = "") -> str:
    shown = f' class="{look}"' if look else ""
    return f'<text{shown} x="{x:.0f}" y="{y:.0f}" xml:space="preserve">{escape(content)}</text>'


def rect(x: float, y: float, width: float, height: float, look: str) -> str:
    size = f'width="{max(width, 1):.0f}" height="{height:.0f}"'
    return f'<rect class="{look}" x="{x:.0f}" y="{y:.0f}" {size} rx="2"/>'


def line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line class="{look}" x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}"/>'


def draw(results: Sequence[Result]) -> str:
    groups, below = draw_groups([result for result in results if result.has_peers], 82)
    others = [result for result in results if not result.has_peers]
    shares, bottom = draw_shares(others, below + 24)
    legend = [
        "Ours is green where it reaches its targets and red where it misses one; dashed: targets.",
        "Each vertical line is ten times the one before it. Behind each value: ours divided by "
        "theirs. Rates: longer is better; milliseconds: shorter is.",
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 16:.0f}">',
            f"<title>Benchmarks beside peers and targets</title><style>{STYLE}</style>",
            '<rect class="page" width="100%" height="100%"/>',
            text(MARGIN, 26, "Beside the raw limit and the peers, in the same run", "title"),
            *(text(MARGIN, 46 + 16 * at, words, "note") for at, words in enumerate(legend)),
            *groups,
            text(MARGIN, below + 20, "How much of its target each other row reaches", "title"),
            *shares,
            "</svg>\n",
        ]
    )


def publish(results: Sequence[Result]) -> None:
    (FOLDER / "plot.svg").write_text(draw(results), encoding="utf-8")
