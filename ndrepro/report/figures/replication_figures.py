"""Figures 2 to 5 of "[Re] Network Deconvolution" (Obadage et al. 2025), with own values beside the published ones.

Figures 2 and 3: accuracies on CIFAR-10 and CIFAR-100 after 1, 20 and 100 epochs, original, replication and own.
Figures 4 and 5: seconds of training. Only panels with own runs are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ndrepro.analysis.audit.published_tables import published_tables
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.report.elements import style
from ndrepro.report.elements.figure import Figure
from ndrepro.report.figures.published_tables import METHODS, Own, own_cells
from ndrepro.report.sections.claims_held import own_name
from ndrepro.report.sections.seed_groups import SeedGroup, Spread
from ndrepro.text.plurals import plural

# (who, marker, filled): the colour shows the method, the shape whose value it is
_WHO = (("original", "o", False), ("replication", "s", False), ("own", "D", True))

Point = Mapping[str, Any]


def replication_figures(cells: Sequence[SeedGroup]) -> tuple[Figure, ...]:
    """Those of the four figures for which there are own runs."""
    own = own_cells(cells)
    made = [
        _accuracy_figure(2, "cifar10", own),
        _accuracy_figure(3, "cifar100", own),
        _time_figure(4, "cifar10", own),
        _time_figure(5, "cifar100", own),
    ]
    return tuple(drawn for drawn in made if drawn is not None)


def accuracy_points(dataset: str, own: Own) -> list[dict[str, Any]]:
    """One point for every network, method and length: original, replication, own mean with interval and n."""
    points = []
    for line, point, cell in _points("printed", dataset, own):
        published = {
            "original": line["original_accuracy_pct"],
            "replication": line["reproduced_mean_accuracy_pct"],
        }
        test = cell.test if cell else Spread.of(())
        points.append({**point, **published, "own": test.mean, "low": test.low, "high": test.high, "n": test.n})
    return points


def time_points(dataset: str, own: Own) -> list[dict[str, Any]]:
    """One point for every network, method and length: the replication's seconds and own ones."""
    points = []
    for line, point, cell in _points("times", dataset, own):
        mean, n = (cell.seconds.mean, cell.n) if cell else (None, 0)
        points.append({**point, "replication": line["printed_mean_train_seconds"], "own": mean, "n": n})
    return points


def _points(table: str, dataset: str, own: Own) -> Iterator[tuple[dict[str, Any], dict[str, Any], SeedGroup | None]]:
    """Each line of a published table, the point that it is, and the own runs of it."""
    for line in published_tables()[table].matching(dataset=dataset).rows():
        name, method, epochs = own_name(line["architecture"], dataset), line["method"], line["epochs"]
        point = {"network": name, "method": method, "epochs": epochs}
        yield line, point, own.get((name, method, epochs, dataset))


def _accuracy_figure(number: int, dataset: str, own: Own) -> Figure | None:
    points = accuracy_points(dataset, own)
    lengths = _lengths_with_own(points)
    if not lengths:
        return None
    return Figure(
        f"figure{number}",
        f"Figure {number} of the replication: accuracy on {DATASETS[dataset].title}",
        "Accuracies of the original, of the replication (mean of three, as printed; after 100 epochs these are train "
        "accuracies, see the audit) and own test accuracies. Bars: 95 % interval of own means; without one, n = 1. "
        "Networks without an own point were not run.",
        f"Accuracy by network on {DATASETS[dataset].title}, published and own, one panel for each length of training",
        lambda path: _draw(path, points, lengths, "accuracy, %", _WHO),
        points,
    )


def _time_figure(number: int, dataset: str, own: Own) -> Figure | None:
    points = time_points(dataset, own)
    lengths = _lengths_with_own(points)
    if not lengths:
        return None
    return Figure(
        f"figure{number}",
        f"Figure {number} of the replication: training time on {DATASETS[dataset].title}",
        "Seconds of training: the replication's means on a V100, and own ones on the machines that the runs name. "
        "What can be compared is how far apart the two methods are.",
        f"Seconds of training by network on {DATASETS[dataset].title}, published and own, on a logarithmic scale",
        lambda path: _draw(path, points, lengths, "seconds of training", _WHO[1:], logarithmic=True),
        points,
    )


def _lengths_with_own(points: Sequence[Point]) -> list[int]:
    return sorted({point["epochs"] for point in points if point["own"] is not None})


def _draw(
    path: Path,
    points: Sequence[Point],
    lengths: Sequence[int],
    label: str,
    who: Sequence[tuple[str, str, bool]],
    logarithmic: bool = False,
) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    networks = list(dict.fromkeys(point["network"] for point in points))
    names = [f"{method.upper()}, {name}" for method in METHODS for name, *_ in who]
    heights = [0.32 * len(networks) + 0.75] * len(lengths)
    heights[-1] += style.legend_height(names)
    with style.column(*heights) as (figure, parts):
        for part, epochs in zip(parts, lengths, strict=True):
            axes = part.subplots()
            for place, method in enumerate(METHODS):
                chosen = {
                    point["network"]: point
                    for point in points
                    if (point["epochs"], point["method"]) == (epochs, method)
                }
                _draw_method(axes, networks, chosen, place, who)
            if logarithmic:
                axes.set_xscale("log")
                # what matplotlib writes between powers of ten overlaps in a column
                axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
                axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_yticks(range(len(networks)), networks)
            axes.set_ylim(len(networks) - 0.5, -0.5)
            axes.grid(axis="x")
            style.finish(axes, plural(epochs, "epoch"), label, "")
        style.legend(parts[-1])
        style.save_svg(figure, path)


def _draw_method(
    axes: Any, networks: Sequence[str], chosen: Mapping[str, Point], place: int, who: Sequence[tuple[str, str, bool]]
) -> None:
    colour, method = style.colour(place), METHODS[place]
    for step, (name, marker, filled) in enumerate(who):
        shift = (place - 0.5) * 0.42 + (step - (len(who) - 1) / 2) * 0.12
        found = [
            (at + shift, chosen[network]) for at, network in enumerate(networks) if chosen[network][name] is not None
        ]
        where, values = [at for at, _ in found], [point[name] for _, point in found]
        look = {
            "color": colour,
            "marker": marker,
            "linestyle": "none",
            "markerfacecolor": colour if filled else "white",
        }
        axes.plot(values, where, label=f"{method.upper()}, {name}", **look)
        bars = [(at, point) for at, point in found if name == "own" and point.get("low") is not None]
        for at, point in bars:
            axes.plot([point["low"], point["high"]], [at, at], color=colour, linewidth=1)
