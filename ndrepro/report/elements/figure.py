"""One figure of a report: its text, its data, and the function that draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A figure of the report: its file is ``figures/KEY.svg``; ``data`` is what was drawn.

    ``inline`` figures are part of the page, so that their points show their values under the pointer.
    """

    key: str
    title: str
    caption: str
    alternative: str
    draw: Callable[[Path], object] = field(compare=False, repr=False)
    data: Any = None
    inline: bool = False
