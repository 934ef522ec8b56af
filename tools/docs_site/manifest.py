"""The members of a manifest, as one that is kept in the repository has them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs_site.commands import table_cell

KEPT = Path(__file__).resolve().parents[2] / "docs" / "runs" / "vgg16_nd_1" / "manifest.dsse.json"
# deeper members belong to the parts' own pages; lists are shown by their first element
_DEPTH = 3
_LONGEST = 48


def manifest_members() -> str:
    """Markdown: a row for each member of the predicate of a kept training run, with its type and value."""
    envelope = json.loads(KEPT.read_text(encoding="utf-8"))
    statement = json.loads(base64.b64decode(envelope["payload"]))
    rows = [f"| `{path}` | {kind} | {value} |" for path, kind, value in members(statement["predicate"])]
    return "\n".join(["| member | type | here |", "| --- | --- | --- |", *rows])


def members(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str, str]]:
    """Path, type in words and shortened value of every member of a JSON document."""
    if path:
        yield path, type_name(value), _shown(value)
    if depth == _DEPTH:
        return
    if isinstance(value, dict):
        for name, item in value.items():
            yield from members(item, f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for name, item in value[0].items():
            yield from members(item, f"{path}[].{name}", depth + 1)


def type_name(value: Any) -> str:
    """The JSON type of a value in words."""
    if isinstance(value, list):
        return f"list of {type_name(value[0])}s" if value else "list"
    if value is None:
        return "null"
    names = {bool: "true or false", int: "integer", float: "number", str: "string", dict: "object"}
    return names[type(value)]


def _shown(value: Any) -> str:
    """A value for a cell: containers by their size."""
    if isinstance(value, (dict, list)):
        return f"{len(value)} {'members' if isinstance(value, dict) else 'elements'}"
    text = json.dumps(value, ensure_ascii=False)
    return table_cell(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
