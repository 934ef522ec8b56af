"""One run as one HTML page that opens from disk: its curves and what it recorded; no script, no request to anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndrepro.analysis.run_curves import CurvePanel
from ndrepro.report.elements import style
from ndrepro.report.page.html import inline_drawing, rendered_run
from provenance.formats.atomic_io import write_atomically
from provenance.formats.folder_tree import temporary_folder


@dataclass(frozen=True)
class DrawnPanel:
    """A panel of curves: title, caption and description in words, and its SVG element."""

    title: str
    caption: str
    alternative: str
    drawing: str


def write_run_page(
    path: Path, title: str, lead: str, rows: Iterable[tuple[str, str]], panels: Sequence[CurvePanel], version: str
) -> None:
    """Write the page.

    Args:
        path: the file, which is replaced where it exists.
        title: the experiment and the run.
        lead: how it ended, in a sentence.
        rows: what it recorded: label and text of each row.
        panels: its curves.
        version: that of this program.

    Raises StorageError.
    """
    style.load()
    figures = [_drawn(panel, number) for number, panel in enumerate(panels)]
    text = rendered_run(title=title, lead=lead, rows=list(rows), figures=figures, version=version)
    write_atomically(path, text.encode())


def _drawn(panel: CurvePanel, number: int) -> DrawnPanel:
    last = ", ".join(f"{curve.name} {curve.values[-1]:.5g}" for curve in panel.curves)
    odd = sum(not math.isfinite(value) for curve in panel.curves for value in curve.values)
    missing = f" {odd} values are not finite and not drawn." if odd else ""
    with temporary_folder("ndrepro-panel-") as scratch:
        svg = _draw(panel, scratch / "panel").read_text(encoding="utf-8")
    return DrawnPanel(
        panel.title.capitalize(),
        f"By {panel.counted}; at the end: {last}.{missing}",
        f"{panel.title} by {panel.counted}, from {panel.curves[0].values[0]:.5g} to {panel.curves[0].values[-1]:.5g}",
        inline_drawing(f"panel-{number}", svg),
    )


def _draw(panel: CurvePanel, path: Path) -> Path:
    hover: dict[str, str] = {}
    names = [curve.name for curve in panel.curves]
    with style.column(2.2 + (style.legend_height(names) if len(names) > 1 else 0)) as (figure, parts):
        axes = parts[0].subplots()
        for number, curve in enumerate(panel.curves):
            look = style.line(number)
            axes.plot(curve.places, curve.values, label=style.literal(curve.name), **{**look, "marker": ""})
            for place in range(0, len(curve.places), max(1, len(curve.places) // 50)):
                gid = f"point-{number}-{place}"
                axes.plot([curve.places[place]], [curve.values[place]], gid=gid, **{**look, "linestyle": "none"})
                hover[gid] = f"{curve.name}, {panel.counted} {curve.places[place]:g}: {curve.values[place]:.6g}"
        style.finish(axes, "", panel.counted, panel.title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(panel.curves) > 1:  # one is named by the axis; of some names no legend has an entry
            style.legend(parts[0])
        return style.save_svg(figure, path, hover)
