"""Widths of figures at which their letters can be read: a wide figure scrolls where its page is narrower.

matplotlib draws letters as outlines, of which each is placed by ``scale(0.07 -0.07)``: 7 points of a figure that is so
many points wide. A recording of a terminal has text of one size.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

LETTERS = 11  # pixels of the smallest letters
_WIDTH = re.compile(r'<svg [^>]*\bviewBox="0 0 ([\d.]+) ')
_LETTERS = re.compile(r"scale\((0\.\d+) -\1\)")
_TEXT = re.compile(r"font-size: (\d+)px")
_NARROWEST = 348  # pixels that a page of 390 pixels has for a figure


def legible_width(svg: str) -> int | None:
    """Pixels that an SVG has to be wide; None where every page is wide enough, or it has no letters."""
    width = _WIDTH.search(svg)
    letters = [100 * float(scale) for scale in _LETTERS.findall(svg)] + [float(size) for size in _TEXT.findall(svg)]
    if width is None or not letters:
        return None
    least = round(float(width[1]) * LETTERS / min(letters))
    return least if least > _NARROWEST else None


def set_widths(app: Sphinx, page: nodes.document, _name: str) -> None:
    """Give each figure of a page its width."""
    for image in page.findall(nodes.image):
        path = Path(app.srcdir, image["uri"])
        if path.suffix == ".svg" and path.is_file() and (least := legible_width(path.read_text(encoding="utf-8"))):
            image["width"] = f"{least}px"
