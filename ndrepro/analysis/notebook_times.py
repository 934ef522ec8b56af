"""Executed notebooks without what is new at every execution: the times in their metadata, and drawn names of cells.

Sources, outputs and every other member stay, in which a result could be. Source: nbformat 4.5, nbclient, papermill.
"""

from __future__ import annotations

import json
import re
from typing import Any

_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")
# a name that nbformat draws for a cell without one
_DRAWN = re.compile(r"[0-9a-f]{8}")


def without_times(notebook: bytes) -> Any:
    """The document without them; ``None`` for what is no notebook."""
    try:
        document = json.loads(notebook)
        cells = [_cell(cell) for cell in document["cells"]]
        return {**document, "cells": cells, "metadata": _timeless(document.get("metadata"))}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    drawn = isinstance(cell.get("id"), str) and _DRAWN.fullmatch(cell["id"])
    rest = {name: value for name, value in cell.items() if name != "id" or not drawn}
    return {**rest, "metadata": _timeless(cell.get("metadata"))}


def _timeless(node: Any) -> Any:
    """Metadata without members that are times, or durations beside a time."""
    if not isinstance(node, dict):
        return node
    times = {name for name, value in node.items() if isinstance(value, str) and _TIME.fullmatch(value)}
    if times and isinstance(node.get("duration"), int | float):
        times.add("duration")
    return {name: _timeless(value) for name, value in node.items() if name not in times}
