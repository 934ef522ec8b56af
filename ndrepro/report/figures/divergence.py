"""Divergence of runs by step: how far losses are apart, and how many tensors are still equal, from signed trails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ndrepro.analysis.sensitivity.growth import Growth
from ndrepro.report.elements import style
from ndrepro.report.elements.figure import Figure
from ndrepro.report.sections.divergences import OTHER_SEED, Divergences, percent
from ndrepro.report.sections.group_labels import method_name
from ndrepro.text.plurals import plural

KEY = "divergence"
_POINTS, _LONG = 60, 400  # points of a curve with a value to show; steps from which on the axis is logarithmic


def divergence_figures(divergences: Sequence[Divergences]) -> tuple[Figure, ...]:
    """The figure; empty where no two runs with trails can be compared."""
    if not divergences:
        return ()
    omitted = sum(one.omitted for one in divergences)
    more = f" {plural(omitted, 'comparison')} more are not drawn for want of space." if omitted else ""
    return (
        Figure(
            KEY,
            "Divergence of runs",
            "How far the losses of two runs are apart, and how many tensors are still equal, by step. Losses: relative "
            "difference of one step's losses, median over pairs of runs; the band spans the pairs, and losses on the "
            "bottom line are equal. Tensors: share of parameters and buffers whose bits are equal. A ring marks the "
            f"first step that differs. Runs are compared with the reference at equal seeds, {OTHER_SEED} with the "
            f"reference's own seeds.{more}",
            "Relative difference of losses and share of tensors with equal bits by step, for each experiment",
            lambda path: _draw(path, divergences),
            divergences,
            inline=True,
        ),
    )


def _draw(path: Path, divergences: Sequence[Divergences]) -> None:
    hover: dict[str, str] = {}
    names = [[_name(grown) for grown in one.growths] for one in divergences]
    with style.column(*(3.1 + style.legend_height(each) for each in names)) as (figure, parts):
        for number, (part, one) in enumerate(zip(parts, divergences, strict=True)):
            losses, tensors = part.subplots(2, 1, sharex=True, height_ratios=(3, 2))
            floor = _floor(one.growths)
            for place, (grown, name) in enumerate(zip(one.growths, names[number], strict=True)):
                _draw_growth(losses, tensors, grown, name, place, floor, f"{KEY}-{number}-{place}", hover)
            _finish(losses, tensors, one, floor)
            style.legend(part)
        style.save_svg(figure, path, hover)


def _name(grown: Growth) -> str:
    equal = f", {grown.identical} bit-identical" if grown.identical else ""
    return f"{grown.cell} ({plural(grown.pairs, 'pair')}{equal})"


def _floor(growths: Sequence[Growth]) -> float:
    """Where equal losses lie: a decade below the smallest difference that is not zero."""
    values = [value for grown in growths for value in (*grown.low, *grown.median) if 0 < value < math.inf]
    return 10.0 ** (math.floor(math.log10(min(values, default=1e-7))) - 1)


def _draw_growth(
    losses: Any, tensors: Any, grown: Growth, name: str, place: int, floor: float, gid: str, hover: dict[str, str]
) -> None:
    look = style.line(place)
    marker = look.pop("marker")
    # at step 0 there is no loss
    steps = grown.steps[1:] if grown.steps[0] == 0 else grown.steps
    skip = len(grown.steps) - len(steps)

    def heights(values: Sequence[float]) -> list[float]:
        return [min(max(value, floor), 2.0) for value in values[skip:]]

    median = heights(grown.median)
    losses.plot(steps, median, label=style.literal(name), **look)
    if grown.pairs > 1:
        losses.fill_between(
            steps, heights(grown.low), heights(grown.high), color=look["color"], alpha=0.15, linewidth=0
        )
    shares = [100 * share for share in grown.equal_tensors]
    tensors.plot(grown.steps, shares, drawstyle="steps-post", **look)
    if grown.first_steps and grown.first_steps[0] in steps:
        at = steps.index(grown.first_steps[0])
        ring = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "markeredgewidth": 1.2}
        losses.plot([steps[at]], [median[at]], color=look["color"], linestyle="none", **ring)
    for at in range(0, len(steps), max(1, math.ceil(len(steps) / _POINTS))):
        dot = {"color": look["color"], "marker": marker, "markersize": 2.6, "linestyle": "none"}
        losses.plot([steps[at]], [median[at]], gid=f"{gid}-{at}", **dot)
        share = percent(grown.equal_tensors[at + skip])
        hover[f"{gid}-{at}"] = (
            f"{name}, step {steps[at]}: losses {percent(grown.median[at + skip])} apart, {share} of tensors equal"
        )


def _finish(losses: Any, tensors: Any, one: Divergences, floor: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter

    losses.set_yscale("log")
    losses.set_ylim(floor / 2, 3)
    decades = range(round(math.log10(floor)) + 1, 1)
    ticks = [10.0**power for power in decades if (power - decades[0]) % max(1, math.ceil(len(decades) / 4)) == 0]
    losses.yaxis.set_major_locator(FixedLocator([floor, *ticks]))
    losses.yaxis.set_minor_locator(FixedLocator([]))
    losses.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "equal" if value < 2 * floor else _tick(value)))
    longest = max(grown.steps[-1] for grown in one.growths)
    if longest > _LONG:
        losses.set_xscale("log")
    else:
        losses.xaxis.get_major_locator().set_params(integer=True)
    tensors.set_ylim(-5, 105)
    tensors.set_yticks([0, 50, 100])
    reference = f"\nreference: {one.reference}" if one.reference else ""
    style.finish(losses, f"{one.run.arch}, {method_name(one.run.method)}{reference}", "", "losses differ by")
    style.finish(tensors, "", "step", "tensors\nequal, %")


def _tick(value: float) -> str:
    return percent(value).removeprefix("1 \N{MULTIPLICATION SIGN} ")
