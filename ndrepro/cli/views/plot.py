"""Curves as lines of text: braille dots in a frame, eight a letter; asterisks where the terminal shows ASCII alone.

Each curve has a colour and, for eyes and terminals without colours, its last value beside its name. What is not finite
is left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ndrepro.analysis.run_curves import CurvePanel, RunCurve

if TYPE_CHECKING:
    from rich.text import Text

HEIGHT = 10
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")
_SCALE = 10  # letters of the numbers at the left
# the bit of each of a letter's dots, by row and column (Unicode 2800)
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_SERIES = "*+ox#@"


def lines(panel: CurvePanel, width: int, *, braille: bool = True) -> Iterator[Text]:
    """The panel in ``width`` columns: title with the last values, the plot, the axis."""
    from rich.text import Text

    shown = [_finite(curve) for curve in panel.curves]
    yield Text.assemble((panel.title, "bold"), *_legend(panel, braille))
    points = [pair for curve in shown for pair in curve]
    if not points:
        yield Text("  no finite value", style="dim")
        return
    columns = max(width - _SCALE - 2, 10)
    low, high = _range([value for _, value in points])
    first, last = min(place for place, _ in points), max(place for place, _ in points)
    owner, dots = _raster(shown, columns, (first, last, low, high), braille)
    for row in range(HEIGHT):
        label = high if row == 0 else low if row == HEIGHT - 1 else None
        line = Text(f"{'' if label is None else _number(label):>{_SCALE}} ┤" if braille else f"{_label(label)} |")
        for column in range(columns):
            series = owner[row][column]
            letter = " " if series is None else chr(0x2800 + dots[row][column]) if braille else _SERIES[series % 6]
            line.append(letter, style="" if series is None else _COLOURS[series % 6])
        yield line
    left, right = f"{panel.counted} {_number(first)}", _number(last)
    yield Text(f"{'':{_SCALE + 2}}{left}{right:>{max(columns - len(left), 1)}}", style="dim")


def _label(value: float | None) -> str:
    return f"{'' if value is None else _number(value):>{_SCALE}}"


def _legend(panel: CurvePanel, braille: bool) -> Iterator[tuple[str, str]]:
    """Each curve's last value, with its name where the title is not that already."""
    for number, curve in enumerate(panel.curves):
        mark = "⣿" if braille else _SERIES[number % 6]
        odd = sum(not math.isfinite(value) for value in curve.values)
        missing = f", {odd} not finite" if odd else ""
        name = "" if curve.name == panel.title else f" {curve.name}"
        yield f"   {mark}{name} {_number(curve.values[-1])}{missing}", _COLOURS[number % 6]


def _finite(curve: RunCurve) -> list[tuple[float, float]]:
    return [pair for pair in zip(curve.places, curve.values, strict=True) if math.isfinite(pair[1])]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest; of one value, room on both sides."""
    low, high = min(values), max(values)
    if high > low:
        return low, high
    room = abs(low) / 2 or 1.0
    return low - room, high + room


def _raster(
    curves: Sequence[list[tuple[float, float]]],
    columns: int,
    bounds: tuple[float, float, float, float],
    braille: bool,
) -> tuple[list[list[int | None]], list[list[int]]]:
    """Which curve owns each letter (the last one through it), and its dots."""
    across, down = (2, 4) if braille else (1, 1)
    first, last, low, high = bounds
    owner: list[list[int | None]] = [[None] * columns for _ in range(HEIGHT)]
    dots = [[0] * columns for _ in range(HEIGHT)]

    def mark(series: int, x: int, y: int) -> None:
        row, column = y // down, x // across
        if owner[row][column] != series:
            dots[row][column] = 0
        owner[row][column] = series
        dots[row][column] |= _DOTS[y % 4][x % 2] if braille else 1

    def place(pair: tuple[float, float]) -> tuple[int, int]:
        x = (pair[0] - first) / (last - first) if last > first else 0.5
        y = (high - pair[1]) / (high - low)
        return round(x * (columns * across - 1)), round(y * (HEIGHT * down - 1))

    for series, points in enumerate(curves):
        before: tuple[int, int] | None = None
        for pair in points:
            here = place(pair)
            for x, y in _between(before or here, here):
                mark(series, x, y)
            before = here
    return owner, dots


def _between(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The dots of a straight line."""
    count = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    for step in range(count + 1):
        yield (
            round(start[0] + (end[0] - start[0]) * step / count),
            round(start[1] + (end[1] - start[1]) * step / count),
        )


def _number(value: float) -> str:
    """A number in at most eight letters."""
    return f"{value:.5g}" if math.isfinite(value) else str(value)
