"""Draws README's badges from what the project's own files say: they need no service, and a test keeps them true.

python tools/docs_site/badges.py
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "figures" / "badges.svg"
_HEIGHT, _GAP, _PADDING, _LETTER = 20, 6, 7, 6.6
_VERSION = "Programming Language :: Python :: "


def facts() -> dict[str, str]:
    """What the badges say, by label."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [text.removeprefix(_VERSION) for text in project["classifiers"] if text.startswith(_VERSION)]
    pythons = sorted(named, key=Version)
    releases = sorted(
        (path.stem.removeprefix("torch-") for path in (ROOT / "environments").glob("*.lock")), key=Version
    )
    return {
        "Linux": "x86-64",
        "Python": f"{pythons[0]} to {pythons[-1]}",
        "torch": f"{releases[0]} to {releases[-1]}",
        "licence": project["license"],
    }


def sentence() -> str:
    """The same for who sees no picture."""
    return ", ".join(f"{label} {value}" for label, value in facts().items())


def picture() -> str:
    """The badges side by side, as SVG."""
    parts, left = [], 0.0
    for label, value in facts().items():
        widths = [len(text) * _LETTER + 2 * _PADDING for text in (label, value)]
        for text, width, colour in zip((label, value), widths, ("#444d56", "#0b62b0"), strict=True):
            parts.append(f'<rect x="{left:.1f}" width="{width:.1f}" height="{_HEIGHT}" fill="{colour}"/>')
            middle = left + width / 2
            parts.append(f'<text x="{middle:.1f}" y="14" text-anchor="middle">{escape(text)}</text>')
            left += width
        left += _GAP
    style = 'font-family="Verdana, DejaVu Sans, sans-serif" font-size="11" fill="#fff"'
    size = f'width="{left - _GAP:.0f}" height="{_HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(sentence())}">'
        f"<g {style}>{''.join(parts)}</g></svg>\n"
    )


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
