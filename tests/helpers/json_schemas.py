"""Validates what commands print with ``--json`` against the schemas of the reference."""

from __future__ import annotations

import functools
import json
from typing import Any

from docs_site.json_output import SCHEMAS
from jsonschema import Draft202012Validator
from typer._click.globals import get_current_context


def validate(document: Any, command: str = "") -> None:
    """Raises jsonschema.ValidationError where a document has not the form of its command's.

    Without ``command`` it is the one that is running; where none is, nothing is checked.
    """
    running = get_current_context(silent=True)
    command = command or (running.command_path if running else "")
    if set(document) == {"json_version", "error"}:
        command = "error"
    if command:
        _validator(command).validate(document)


@functools.cache
def _validator(command: str) -> Draft202012Validator:
    schemas = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    assert command in schemas["$defs"], f"{command} has no schema in {SCHEMAS.name}"
    escaped = command.replace(" ", "%20")
    return Draft202012Validator({**schemas, "$ref": f"#/$defs/{escaped}"})
