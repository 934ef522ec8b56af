"""Executed notebooks without what is new at every execution: the times in their metadata, and drawn names of cells.

Sources, outputs and every other member stay, in which a result could be. Source: nbformat 4.5, nbclient, papermill.
Of drawings (SVG, PDF, PostScript) it is only said whether they differ in anything else.
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
# Dublin Core's in SVG; ISO 32000-1, 14.3.3; and the comment of PostScript
_DATE = re.compile(rb"(?<=<dc:date>)[^<]*|(?<=/CreationDate \()[^)]*|(?<=/ModDate \()[^)]*|(?<=%%CreationDate: ).*")
# ids that matplotlib's backend for SVG makes from svg.hashsalt, or else draws
_DRAWN_ID = re.compile(rb"(?<=[\"#][mph])[0-9a-f]{10}(?=[\")])")


def without_times(notebook: bytes) -> Any:
    """The document without them; ``None`` for what is no notebook."""
    try:
        # numbers as they are written, and no member twice: readers differ in what they make of these
        document = json.loads(notebook, parse_float=_Number, parse_int=_Number, object_pairs_hook=unique_members)
        cells = [_cell(cell) for cell in document["cells"]]
        return {**document, "cells": cells, "metadata": _timeless(document.get("metadata"))}
    except (CanonicalError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def cure_of_dates(one: bytes, other: bytes) -> str:
    """In what alone two drawings differ, and what keeps it out: the date of their metadata; "" for any others."""
    one, other = (_DATE.sub(b"", data) for data in (one, other))
    if one == other:
        return "the date of the metadata: set SOURCE_DATE_EPOCH"
    one, other = (_DRAWN_ID.sub(b"", data) for data in (one, other))
    drawn = "the date of the metadata and drawn ids: set SOURCE_DATE_EPOCH, and svg.hashsalt in matplotlib"
    return drawn if one == other else ""


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
