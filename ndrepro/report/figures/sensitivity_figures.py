"""Figures of a sensitivity analysis: agreement of cells, growth and means of differences, components of variance.

Every figure is readable in black and white: agreement is written into its field, lines differ by dash and marker,
bars by hatch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
_ABREAST, _BARS = 2, 10  # subjects beside each other, groups of bars below each other
_FACES, _RESIDUAL = ("#b9d8ee", "#f6dca4", "#d7e8c8", "#ecc9dd"), "#d9d9d9"


def draw(found: Sensitivity, folder: Path) -> tuple[Path, ...]:
    """Write every figure that there is something for; returns the PNG and SVG files. Raises OSError.

    Each shows a few subjects; where there are more, further files are numbered.
    """
    bits = [each for each in found.bits if each.pairs]
    grown = [each for each in found.bits if each.growths]
    numbers = [each for each in found.numbers if any(line.against for line in each.cells)]
    contrasts = [each for each in found.contrasts if each.judged] if len(found.design.cells) > 1 else []
    figures: list[tuple[str, int, Sequence[Any], Callable[[Sequence[Any], Path], tuple[Path, Path]]]] = [
        ("agreement", _ABREAST, bits, _agreement),
        ("divergence", _ABREAST, grown, _growth),
        ("differences", _ABREAST, numbers, lambda part, path: _differences(part, found, path)),
        ("conclusion", _ABREAST, contrasts, lambda part, path: _contrasts(part, found, path)),
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
    side = 0.62 * len(labels) + 1.6
    with style.figure(side * len(each) + 0.4, side + 0.2, columns=len(each)) as (figure, axes):
        for place, bits in enumerate(each):
            here = axes if len(each) == 1 else axes[0][place]
            _square(_first(here), bits, labels, place == 0)
        return style.save(figure, path)


def _square(axes: Axes, bits: BitComparison, labels: Sequence[str], named: bool) -> None:
    from matplotlib.patches import Rectangle

    for row, first in enumerate(labels):
        for column, second in enumerate(labels):
            pair = bits.pair(first, second) if first != second else None
            text, face = "", _SELF
            if pair is not None and pair.pairs:
                equal = pair.equal == pair.pairs
                text, face = ("=", _EQUAL) if equal else (_steps(pair.steps, pair.equal, pair.pairs), _PARTED)
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor="#808080", linewidth=0.5))
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=10 if text == "=" else 6)
    ticks = [place + 0.5 for place in range(len(labels))]
    axes.set(xlim=(0, len(labels)), ylim=(len(labels), 0), aspect="equal", xticks=ticks, yticks=ticks)
    axes.set_xticklabels([_wrapped(label) for label in labels], rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticklabels([_wrapped(label) for label in labels] if named else [""] * len(labels))
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    style.finish(axes, f"{bits.subject}\n= equal bits, else first step that differs")


def _steps(steps: Sequence[int], equal: int, pairs: int) -> str:
    if not steps:
        return "?"
    span = f"step {steps[0]}" if steps[0] == steps[-1] else f"step\n{steps[0]} to {steps[-1]}"
    return f"{span}\n{equal} of {pairs} =" if equal else span


def _growth(each: Sequence[BitComparison], path: Path) -> tuple[Path, Path]:
    """Median relative difference of the loss from the reference's, by step; zero is on the floor."""
    with style.figure(6.8, 3.1, columns=len(each), sharey=True) as (figure, axes):
        for place, bits in enumerate(each):
            here = _first(axes if len(each) == 1 else axes[0][place])
            for number, grown in enumerate(bits.growths):
                heights = [max(value, _LEAST) if math.isfinite(value) else 1.0 for value in grown.median]
                steps = grown.steps
                here.plot(
                    steps[1:], heights[1:], label=grown.cell, markevery=max(len(steps) // 8, 1), **style.line(number)
                )
            here.set_yscale("log")
            here.set_ylim(_LEAST, 2)
            note = f"{bits.subject}, {max(grown.pairs for grown in bits.growths)} pairs"
            style.finish(
                here,
                note,
                "step",
                "relative difference of the loss, median\n(on the floor: equal)" if place == 0 else "",
            )
        handles, labels = here.get_legend_handles_labels()
        figure.legend(handles, [_wrapped(label) for label in labels], loc="outside right center")
        return style.save(figure, path)


def _differences(numbers: Sequence[Numbers], found: Sensitivity, path: Path) -> tuple[Path, Path]:
    """A forest plot for each subject: the cell less the reference, and the margin within which it does not matter."""
    labels = list(dict.fromkeys(line.cell for each in numbers for line in each.cells if line.against))
    with style.figure(6.8, 0.28 * len(labels) + 1.1, columns=len(numbers)) as (figure, axes):
        for place, each in enumerate(numbers):
            here = _first(axes if len(numbers) == 1 else axes[0][place])
            margin = found.options.margin
            here.axvspan(-margin, margin, facecolor="#e6e6e6", zorder=0)
            rows = {line.cell: line.against.difference for line in each.cells if line.against}
            _forest(here, labels, rows, place == 0)
            unit = f"{found.options.unit} from {found.design.reference.label} (grey: within {margin:g})"
            style.finish(here, each.subject, unit)
        return style.save(figure, path)


def _contrasts(contrasts: Sequence[Contrast], found: Sensitivity, path: Path) -> tuple[Path, Path]:
    """A forest plot for each contrast: the first method less the second, in every cell."""
    labels = list(dict.fromkeys(item.cell for each in contrasts for item in each.judged))
    with style.figure(6.8, 0.28 * len(labels) + 1.1, columns=len(contrasts)) as (figure, axes):
        for place, each in enumerate(contrasts):
            here = _first(axes if len(contrasts) == 1 else axes[0][place])
            rows = {item.cell: item.found.difference for item in each.judged if item.found}
            _forest(here, labels, rows, place == 0)
            for item in each.judged:
                share = item.found.superiority if item.found else None
                if share:
                    text = f"P {share.share:.2f}, n {share.n}"
                    here.annotate(
                        text,
                        (1.0, labels.index(item.cell)),
                        xycoords=("axes fraction", "data"),
                        fontsize=6,
                        va="center",
                    )
            style.finish(here, f"{each.first} less {each.second}", found.options.unit)
        return style.save(figure, path)


def _forest(axes: Axes, labels: Sequence[str], rows: dict[str, Interval], named: bool) -> None:
    axes.axvline(0, color="#404040", linewidth=0.8)
    for cell, interval in rows.items():
        height = labels.index(cell)
        axes.plot([interval.low, interval.high], [height, height], color=style.colour(0), linewidth=1.6)
        axes.plot([interval.estimate], [height], marker="s", markersize=4.5, color=style.colour(2), linestyle="")
    axes.set_yticks(range(len(labels)), [_wrapped(label) for label in labels] if named else [""] * len(labels))
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _breakdowns(found: Sensitivity) -> list[tuple[str, Breakdown]]:
    """Every breakdown of variance, with its title."""
    groups = [(each.subject, "runs", each.breakdowns) for each in found.numbers]
    groups += [(f"{each.first} less {each.second}", "pairs", each.breakdowns) for each in found.contrasts]
    return [
        (f"{subject}: {item.title}, {item.components.n} {what}", item)
        for subject, what, items in groups
        for item in items
        if item.components.total
    ]


def _components(groups: Sequence[tuple[str, Breakdown]], path: Path) -> tuple[Path, Path]:
    """Shares of the variance with their intervals, a group of bars for each breakdown."""
    heights = [len(item.components.components) for _, item in groups]
    with style.figure(6.5, 0.22 * sum(heights) + 0.3 * len(groups) + 0.8) as (figure, axes):
        place, ticks, names = 0.0, [], []
        for title, item in groups:
            axes.text(0, place - 0.55, title, fontsize=6.5, va="bottom", ha="left")
            for number, part in enumerate(item.components.components):
                share, ends = 100 * part.share, (100 * part.share_low, 100 * part.share_high)
                axes.barh(place, share, 0.8, **_bar(number, len(item.components.components)))
                axes.plot(ends, [place, place], color="black", linewidth=1)
                axes.plot(ends, [place, place], color="black", marker="|", linestyle="", markersize=5)
                ticks.append(place)
                names.append(part.source)
                place += 1
            place += 1.1
        axes.set_yticks(ticks, names)
        figure.get_layout_engine().set(w_pad=0.12)  # names of three axes' interactions are long
        axes.set_ylim(place - 1.4, -1.3)
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


def _first(axes: Any) -> Any:
    """One diagram of what ``style.figure`` gives."""
    return axes if hasattr(axes, "plot") else axes[0][0]
