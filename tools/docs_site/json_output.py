"""The reference of what commands print with ``--json``, from docs/reference/json-output.schema.json.

It has one definition for each command, named as it is typed, and one for an error. Tests of the command line validate
what a command prints against it (``tests/helpers/json_schemas.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "json-output.schema.json"


def definitions() -> Mapping[str, Any]:
    """The schema of each command's document by the command's full name, and that of ``error``."""
    found: dict[str, Any] = json.loads(SCHEMAS.read_text(encoding="utf-8"))["$defs"]
    return found


def json_members() -> str:
    """Markdown: for each command its members with their types."""
    return "\n\n".join(_section(name, schema) for name, schema in definitions().items())


def _section(name: str, schema: Mapping[str, Any]) -> str:
    title = "An error" if name == "error" else f"{name} --json"
    required = set(schema.get("required", ()))
    rows = [
        f"| `{path}` | {_types(member)} | {'always' if path in required else ''} |" for path, member in members(schema)
    ]
    return "\n".join([f"## {title}", "", "| member | type | present |", "| --- | --- | --- |", *rows])


def members(schema: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Path and schema of every member, to the second level; elements of a list are ``[]``."""
    if path:
        yield path, schema
    if depth == 2:
        return
    if "items" in schema:
        schema, path = schema["items"], f"{path}[]"
    for name, member in schema.get("properties", {}).items():
        yield from members(member, f"{path}.{name}" if path else name, depth + 1)


def _types(schema: Mapping[str, Any]) -> str:
    """The types of a member in words."""
    if "const" in schema:
        return f"`{schema['const']}`"
    kinds = schema.get("type", "any")
    names = {"array": "list", "boolean": "true or false"}
    return " or ".join(names.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))
