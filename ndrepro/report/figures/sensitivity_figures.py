"""Figures of a sensitivity analysis: agreement of cells, growth and means of differences, components of variance.

Every figure is readable in black and white: agreement is written into its field, lines differ by dash and marker,
bars by hatch. A figure is one column, subjects below each other, so that its letters are readable on a phone.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.analysis.sensitivity.analysis import Sensitivity
from ndrepro.analysis.sensitivity.bits import BitComparison
from ndrepro.analysis.sensitivity.conclusion import Contrast
from ndrepro.analysis.sensitivity.numbers import Breakdown, Numbers
from ndrepro.analysis.statistics.intervals import Interval
from ndrepro.report.elements import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EQUAL, _PARTED, _SELF = "#bfbfbf", "#ffffff", "#f0f0f0"
_LEAST = 1e-9
_SUBJECTS, _BARS = 2, 10  # subjects, or groups of bars, of one figure
_ROW, _FRAME = 0.34, 1.05  # inches of a row of a forest plot, and of its title and axis
_TITLE_LETTERS, _NAME_LETTERS, _SQUARE_LABELS = 40, 15, 8
_FACES, _RESIDUAL = ("#b9d8ee", "#f6dca4", "#d7e8c8", "#ecc9dd"), "#d9d9d9"


def draw(found: Sensitivity, folder: Path) -> tuple[Path, ...]:
    """Write every figure that there is something for; returns the PNG and SVG files. Raises StorageError.

    Each shows a few subjects; where there are more, further files are numbered.
    """
    bits = [each for each in found.bits if each.pairs]
    grown = [each for each in found.bits if each.growth]
    numbers = [each for each in found.numbers if any(line.against for line in each.cells)]
    contrasts = [each for each in found.contrasts if each.judged] if len(found.design.cells) > 1 else []
    figures: list[tuple[str, int, Sequence[Any], Callable[[Sequence[Any], Path], tuple[Path, Path]]]] = [
        ("agreement", _SUBJECTS, bits, _agreement),
        ("divergence", _SUBJECTS, grown, _growth),
        ("differences", _SUBJECTS, numbers, lambda part, path: _differences(part, found, path)),
        ("conclusion", _SUBJECTS, contrasts, lambda part, path: _contrasts(part, found, path)),
        ("components", _BARS, _breakdowns(found), _components),
    ]
    made: list[Path] = []
    for name, size, items, function in figures:
        for place in range(0, len(items), size):
            suffix = f"_{place // size + 1}" if len(items) > size else ""
            made += function(items[place : place + size], folder / f"{name}{suffix}")
    return tuple(made)


def _agreement(each: Sequence[BitComparison], path: Path) -> tuple[Path, Path]:
    """One square a subject: equal, or the first step at which the pairs diverge."""
    labels = list(dict.fromkeys(name for bits in each for pair in bits.pairs for name in (pair.first, pair.second)))
    with style.column(*[4.3] * len(each)) as (figure, parts):
        for part, bits in zip(parts, each, strict=True):
            _square(part.subplots(), bits, labels)
        return style.save(figure, path)


def _square(axes: Axes, bits: BitComparison, labels: Sequence[str]) -> None:
    from matplotlib.patches import Rectangle

    letters = 9.2 * min(1, _SQUARE_LABELS / len(labels))
    for row, first in enumerate(labels):
        for column, second in enumerate(labels):
            pair = bits.pair(first, second) if first != second else None
            text, face = "", _SELF
            if pair is not None and pair.pairs:
                equal = pair.equal == pair.pairs
                text, face = ("=", _EQUAL) if equal else (_steps(pair.steps, pair.equal, pair.pairs), _PARTED)
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor="#808080", linewidth=0.5))
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=letters)
    partly = any(pair.equal and pair.steps for pair in bits.pairs)
    ticks = [place + 0.5 for place in range(len(labels))]
    axes.set(xlim=(0, len(labels)), ylim=(len(labels), 0), aspect="equal", xticks=ticks, yticks=ticks)
    axes.set_xticklabels([_wrapped(label) for label in labels], rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticklabels([_wrapped(label) for label in labels])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    share = ", and how many pairs are equal" if partly else ""
    style.finish(axes, f"{_broken(bits.subject)}\n= equal bits; else the first step that\ndiffers{share}")


def _steps(steps: Sequence[int], equal: int, pairs: int) -> str:
    if not steps:
        return "?"
    span = f"{steps[0]}" if steps[0] == steps[-1] else f"{steps[0]}-{steps[-1]}"
    return f"{span}\n{equal}/{pairs}" if equal else span


def _growth(each: Sequence[BitComparison], path: Path) -> tuple[Path, Path]:
    """Median relative difference of the loss from the reference's, by step; zero is on the floor."""
    heights = [2.7 + style.legend_height([grown.cell for grown in bits.growth]) for bits in each]
    with style.column(*heights) as (figure, parts):
        for part, bits in zip(parts, each, strict=True):
            here = part.subplots()
            for number, grown in enumerate(bits.growth):
                values = [max(value, _LEAST) if math.isfinite(value) else 1.0 for value in grown.median]
                every = max(len(grown.steps) // 8, 1)
                here.plot(grown.steps[1:], values[1:], label=grown.cell, markevery=every, **style.line(number))
            here.set_yscale("log")
            here.set_ylim(_LEAST, 2)
            note = _broken(f"{bits.subject}, {max(grown.pairs for grown in bits.growth)} pairs")
            style.finish(here, note, "step (on the floor: equal)", "relative difference\nof the loss, median")
            style.legend(part)
        return style.save(figure, path)


def _differences(numbers: Sequence[Numbers], found: Sensitivity, path: Path) -> tuple[Path, Path]:
    """A forest plot for each subject: the cell less the reference, and the margin within which it does not matter."""
    margin = found.options.margin
    unit = f"{_broken(f'{found.options.unit} from {found.design.reference.label}')}\n(grey: within {margin:g})"
    rows = [{line.cell: line.against.difference for line in each.cells if line.against} for each in numbers]
    with style.column(*(_ROW * len(each) + _FRAME for each in rows)) as (figure, parts):
        for part, each, intervals in zip(parts, numbers, rows, strict=True):
            here = part.subplots()
            here.axvspan(-margin, margin, facecolor="#e6e6e6", zorder=0)
            _forest(here, intervals)
            style.finish(here, _broken(each.subject), unit)
        return style.save(figure, path)


def _contrasts(contrasts: Sequence[Contrast], found: Sensitivity, path: Path) -> tuple[Path, Path]:
    """A forest plot for each contrast: the first method less the second, in every cell."""
    with style.column(*(_ROW * len(each.judged) + _FRAME + 0.15 for each in contrasts)) as (figure, parts):
        for part, each in zip(parts, contrasts, strict=True):
            here = part.subplots()
            _forest(here, {item.cell: item.found.difference if item.found else None for item in each.judged})
            for height, item in enumerate(each.judged):
                if item.found and (share := item.found.superiority):
                    text, place = f"P {share.share:.2f}, n {share.n}", (1.0, height)
                    here.annotate(text, place, xycoords=("axes fraction", "data"), va="center")
            style.finish(here, f"{_broken(each.first)}\nless {_broken(each.second)}", found.options.unit)
        return style.save(figure, path)


def _forest(axes: Axes, rows: Mapping[str, Interval | None]) -> None:
    axes.axvline(0, color="#404040", linewidth=0.8)
    for height, interval in enumerate(rows.values()):
        if interval is not None:
            axes.plot([interval.low, interval.high], [height, height], color=style.colour(0), linewidth=1.6)
            axes.plot([interval.estimate], [height], marker="s", markersize=4.5, color=style.colour(2), linestyle="")
    axes.set_yticks(range(len(rows)), [_wrapped(label) for label in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _breakdowns(found: Sensitivity) -> list[tuple[str, Breakdown]]:
    """Every breakdown of variance, with the lines of its title."""
    groups = [(each.subject, "runs", each.components) for each in found.numbers]
    groups += [(f"{each.first} less {each.second}", "pairs", each.breakdowns) for each in found.contrasts]
    return [
        (f"{_broken(subject)}\n{_broken(f'{item.title}, {item.components.n} {what}')}", item)
        for subject, what, items in groups
        for item in items
        if item.components.total
    ]


def _components(groups: Sequence[tuple[str, Breakdown]], path: Path) -> tuple[Path, Path]:
    """Shares of the variance with their intervals, a group of bars for each breakdown."""
    heights = [len(item.components.components) + 0.6 * (title.count("\n") + 2) for title, item in groups]
    with style.column(0.3 * sum(heights) + 0.9) as (figure, parts):
        axes, place, ticks, names = parts[0].subplots(), 0.0, [], []
        for title, item in groups:
            place += 0.6 * (title.count("\n") + 1)
            axes.text(1, place - 0.55, title, va="bottom", ha="left")
            for number, part in enumerate(item.components.components):
                share, ends = 100 * part.share, (100 * part.share_low, 100 * part.share_high)
                axes.barh(place, share, 0.8, **_bar(number, len(item.components.components)))
                axes.plot(ends, [place, place], color="black", linewidth=1)
                axes.plot(ends, [place, place], color="black", marker="|", linestyle="", markersize=5)
                ticks.append(place)
                names.append(_broken(part.source, _NAME_LETTERS))
                place += 1
            place += 0.6
        axes.set_yticks(ticks, names, linespacing=0.9)
        axes.set_ylim(place - 0.9, -0.7)
        axes.set_xlim(0, 100)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        style.finish(axes, "Where the variance comes from", "% of the variance, with 95 % interval")
        return style.save(figure, path)


def _bar(number: int, count: int) -> dict[str, Any]:
    """Light bars, distinguished by their hatch, on which an interval shows; the residual, which is last, is grey."""
    face = _RESIDUAL if number == count - 1 else _FACES[number % len(_FACES)]
    hatch = "" if number == count - 1 else style.HATCHES[1 + number % (len(style.HATCHES) - 1)]
    return {"facecolor": face, "edgecolor": "#707070", "hatch": hatch, "linewidth": 0.5}


def _wrapped(label: str) -> str:
    """A long label on two lines."""
    if len(label) <= 20:
        return label
    cut = max(label.find("=", 4), label.find(", "), 0) + 1
    return f"{label[:cut]}\n{label[cut:].strip()}" if 1 < cut < len(label) else label


def _broken(text: str, letters: int = _TITLE_LETTERS) -> str:
    """Text in lines that fit into the column, broken at spaces only."""
    return textwrap.fill(text, letters, break_long_words=False, break_on_hyphens=False)
