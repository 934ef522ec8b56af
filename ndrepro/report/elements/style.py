"""The style of every figure, and its files: the same bits from the same numbers.

Figures are read on paper too: series differ by line, marker and hatch besides colour, and the colours differ in
lightness, so that a black-and-white print keeps them apart. Two files are written, a PNG and an SVG. Neither holds a
date or a random identifier, and fonts are those that matplotlib brings, so equal numbers give equal files under the
same release of matplotlib.

    with style.column(2.5, 2.5) as (figure, parts):
        for part in parts:
            part.subplots().plot(x, y, label="a", **style.line(0))
            style.legend(part)
        style.save_svg(figure, folder / "figure2")
"""

from __future__ import annotations

import contextlib
import html
import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from provenance.formats.atomic_io import make_folder, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (2008), distinguished by readers of every kind of colour vision; ordered so that the
# first ones differ in lightness too
COLOURS = ("#0072b2", "#e69f00", "#1a1a1a", "#cc79a7", "#009e73", "#56b4e9", "#d55e00", "#8a8200", "#7f7f7f", "#5b3a8e")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
HATCHES = ("", "///", "xx", "..", "\\\\\\", "++", "o", "--", "*", "||")
# one for each of the ways in which an own value can stand to a published one
GOOD, BAD, NEUTRAL = "#00674b", "#a4420a", "#404040"
INK = "#1b1f24"
# the colours that a dark page replaces, those of the page's own style sheet among them
DARK = {
    INK: "#e6e9ec",
    "#ffffff": "#14171b",
    "#000000": "#e6e9ec",
    "#1a1a1a": "#e6e9ec",  # not black, of which matplotlib writes no fill that a style could replace
    "#d9d9d9": "#363d45",
    NEUTRAL: "#c3cad2",
    GOOD: "#6fdcb0",
    BAD: "#ffab84",
    "#0072b2": "#4da3dd",
    "#5b3a8e": "#a78bdb",
}

WIDTH = 4.0  # inches of a figure of a page
_DOTS_PER_INCH = 150
# text of 9.2 points in 4 inches is 11 pixels high where a page of 390 pixels has 348 for a figure
_COLUMN: dict[str, Any] = dict.fromkeys(
    ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9.2
)
_LEGEND_LETTERS = 44  # in a line of a legend
_LINE, _GAP = 0.155, 0.065  # inches of a line of a legend, and between two entries
_SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "ndrepro",
    "svg.fonttype": "path",  # the same letters everywhere, whatever fonts the reader has
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.5,
    "errorbar.capsize": 2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "path.simplify": True,
}


def load() -> None:
    """Import matplotlib, which obeys a ``matplotlibrc`` of the current folder: that may be a stranger's clone."""
    with contextlib.chdir(Path(__file__).parent):
        import matplotlib  # noqa: F401


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """matplotlib's defaults with the settings of all figures, whatever the reader's own configuration says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, _SETTINGS))
        yield


@contextlib.contextmanager
def figure(width: float = 6.5, height: float = 3.2, rows: int = 1, columns: int = 1, **more: Any) -> Iterator[Any]:
    """A figure of that size in inches and its axes (one, or a two-dimensional array), closed when left.

    ``more`` goes to ``Figure.subplots``. No window or backend is involved.
    """
    from matplotlib.figure import Figure

    with settings():
        drawn = Figure(figsize=(width, height), layout="constrained")
        single = rows == columns == 1
        yield drawn, drawn.subplots(rows, columns, squeeze=single, **more)
        drawn.clear()


@contextlib.contextmanager
def column(*heights: float) -> Iterator[tuple[Figure, list[Any]]]:
    """A figure of one column of a page, and its parts below each other, each of a height in inches.

    All text of it can be read on a page 390 pixels wide. A part makes its axes with ``subplots``.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with settings():
        matplotlib.rcParams.update(cast(Any, _COLUMN))
        drawn = Figure(figsize=(WIDTH, sum(heights)), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        parts: Any = drawn.subfigures(len(heights), 1, height_ratios=heights) if len(heights) > 1 else [drawn]
        yield drawn, list(parts)
        drawn.clear()


def legend(part: Any, handles: Sequence[Any] | None = None, labels: Sequence[str] | None = None, **more: Any) -> None:
    """The legend below the diagrams of ``part``, where it covers no curve; by default that of its first axes.

    Names are broken into lines, and stand in as many columns as their lengths allow.
    """
    if handles is None or labels is None:
        handles, labels = part.axes[0].get_legend_handles_labels()
    if handles:
        lines = [_broken(label) for label in labels]
        part.legend(handles, lines, loc="outside lower left", ncols=_columns(labels), columnspacing=1.2, **more)


def legend_height(labels: Sequence[str]) -> float:
    """How much a legend adds to the height of its part, in inches."""
    tallest = max((_broken(label).count("\n") + 1 for label in labels), default=0)
    rows = math.ceil(len(labels) / _columns(labels)) if labels else 0
    return 0.12 + rows * (_LINE * tallest + _GAP) if rows else 0.0


def _broken(label: str) -> str:
    return textwrap.fill(label, _LEGEND_LETTERS, max_lines=3, placeholder=" …")


def _columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels))
    return min(len(labels), 1 if longest > 20 else 2 if longest > 12 else 3 if longest > 4 else 6)


def save(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write ``path``.png and ``path``.svg (``path`` has no suffix) and return both. Raises StorageError."""
    svg = save_svg(figure, path)
    png, drawn = path.with_name(path.name + ".png"), io.BytesIO()
    with settings():
        figure.set_layout_engine("none")  # where everything is has been found out once
        figure.savefig(drawn, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    write_atomically(png, drawn.getvalue())
    return png, svg


def save_svg(figure: Figure, path: Path, hover: Mapping[str, str] | None = None) -> Path:
    """Write ``path``.svg alone, at half the cost, with a style for dark pages. Raises StorageError.

    ``hover`` gives texts by the ``gid`` of an artist: browsers show them under the pointer.
    """
    svg, drawn = path.with_name(path.name + ".svg"), io.BytesIO()
    make_folder(path.parent)
    with settings():
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    text = drawn.getvalue().decode("utf-8")
    for gid, said in (hover or {}).items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{html.escape(said)}</title>', 1)
    start = text.index(">", text.index("<svg")) + 1
    write_atomically(svg, f"{text[:start]}\n<style>{dark_style('svg')}</style>{text[start:]}".encode())
    return svg


def dark_style(scope: str) -> str:
    """CSS that replaces the colours of figures inside ``scope`` where the reader prefers a dark page."""
    rules = [
        f'{scope} [style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    ]
    # the ground of a hatch has its colour in an attribute
    rules += [f'{scope} [fill="{light}"]{{fill:{dark}}}' for light, dark in DARK.items()]
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"


def line(number: int) -> dict[str, Any]:
    """Colour, line and marker of the ``number``-th series."""
    return {
        "color": colour(number),
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
    }


def bar(number: int) -> dict[str, Any]:
    """Face, edge and hatch of the ``number``-th kind of bar; a hundred kinds differ."""
    return {
        "facecolor": colour(number),
        "edgecolor": "white",
        "hatch": HATCHES[(number + number // len(COLOURS)) % len(HATCHES)],
        "linewidth": 0.4,
    }


def rank_bar(number: int, count: int) -> dict[str, Any]:
    """Face and edge of the ``number``-th of ``count`` ranks: from dark to light, unlike series."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    place = 0.2 + 0.72 * number / max(1, count - 1)
    return {"facecolor": to_hex(colormaps["viridis"](place)), "edgecolor": "white", "linewidth": 0.4}


def colour(number: int) -> str:
    """The ``number``-th colour."""
    return COLOURS[number % len(COLOURS)]


def finish(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Title and labels of one diagram, as they are."""
    axes.set_title(literal(title))
    axes.set_xlabel(literal(x))
    axes.set_ylabel(literal(y))


def literal(text: str) -> str:
    """Text that matplotlib draws as it is: the text between two dollar signs is no formula."""
    return text.replace("$", r"\$")
