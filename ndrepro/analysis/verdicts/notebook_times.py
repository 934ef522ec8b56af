"""Executed notebooks without what is new at every execution: the times in their metadata, and drawn names of cells.

Sources, outputs and every other member stay, in which a result could be. Source: nbformat 4.5, nbclient, papermill.
"""

from __future__ import annotations

import json
import re
from typing import Any

from provenance.errors import CanonicalError
from provenance.formats.canonical_json import unique_members

_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?", re.ASCII)
_NAME = re.compile("[A-Za-z_.-]+")
# a name that nbformat draws for a cell without one
_DRAWN = re.compile(r"[0-9a-f]{8}")


def without_times(notebook: bytes) -> Any:
    """The document without them; ``None`` for what is no notebook."""
    try:
        # numbers as they are written, and no member twice: readers differ in what they make of these
        document = json.loads(notebook, parse_float=_Number, parse_int=_Number, object_pairs_hook=unique_members)
        cells = [_cell(cell) for cell in document["cells"]]
        return {**document, "cells": cells, "metadata": _timeless(document.get("metadata"))}
    except (CanonicalError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


class _Number(str):
    """A number's own text, which equals no string of a document."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and str(self) == str(other)

    __hash__ = str.__hash__


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    drawn = isinstance(cell.get("id"), str) and _DRAWN.fullmatch(cell["id"])
    rest = {name: value for name, value in cell.items() if name != "id" or not drawn}
    return {**rest, "metadata": _timeless(cell.get("metadata"))}


def _timeless(node: Any) -> Any:
    """Metadata without members that are times, or durations beside a time; a name with a number may be a result."""
    if not isinstance(node, dict):
        return node
    times = {
        name
        for name, value in node.items()
        if isinstance(value, str) and _TIME.fullmatch(value) and _NAME.fullmatch(name)
    }
    if times and isinstance(node.get("duration"), _Number):
        times.add("duration")
    return {name: _timeless(value) for name, value in node.items() if name not in times}
