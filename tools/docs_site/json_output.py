"""The members of what commands print with ``--json``: the commands are executed, on runs kept in the repository."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from docs_site.manifest import KEPT, type_name
from ndrepro.cli.app import invoke

_KEY = str(KEPT.with_name("author.pub"))
_OTHER = str(KEPT.parents[1] / "vgg16_bn_1" / "manifest.dsse.json")
# cheap ones: nothing is trained
EXAMPLES: tuple[tuple[str, ...], ...] = (
    ("keys", "trust", _KEY, "--name", "The author"),
    ("keys", "list"),
    ("verify", str(KEPT), "--manifest-only"),
    ("show", str(KEPT)),
    ("list",),
    ("list", "--names"),
    ("diff", str(KEPT), _OTHER),
    ("settings", "learning_rate"),
    ("study", "list"),
    ("study", "plan", "smoke"),
    ("env", "list"),
)


def json_members() -> str:
    """Markdown: for each example the command, and its members with their types."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [_section(words, folder) for words in EXAMPLES]
    return "\n\n".join(parts)


def _section(words: Sequence[str], folder: str) -> str:
    shown = " ".join({str(KEPT): "RUN", _OTHER: "OTHER", _KEY: "author.pub"}.get(word, word) for word in words)
    rows = [f"| `{path}` | {kind} |" for path, kind in members(document_of(words, folder))]
    return "\n".join([f"## ndrepro {shown} --json", "", "| member | type |", "| --- | --- |", *rows])


def document_of(words: Sequence[str], folder: str) -> Any:
    """What a command prints, with runs and keys of its own in ``folder``."""
    out = io.StringIO()
    before = dict(os.environ)
    os.environ.update({"NDREPRO_HOME": f"{folder}/keys", "NDREPRO_RUNS": f"{folder}/runs"})
    try:
        with contextlib.redirect_stdout(out):
            invoke([*words, "--json"])
    finally:
        os.environ.clear()
        os.environ.update(before)
    return json.loads(out.getvalue())


def members(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Path and type of every member, to the second level; a list is shown by its first element."""
    if path:
        yield path, type_name(value)
    if depth == 2:
        return
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value, path = value[0], f"{path}[]"
    if isinstance(value, dict):
        for name, item in value.items():
            yield from members(item, f"{path}.{name}" if path else name, depth + 1)
