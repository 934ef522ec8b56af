"""The rows of a log that a program wrote by itself, CSV or JSON lines.

Numbers become numbers, what is neither number nor text is left out, and members of members get a name with a dot.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from provenance.errors import StorageError

Scalar = int | float | str | None
Row = dict[str, Scalar]
# the member of a recorded row that names its file
FILE = "file"
# part of the name of a file of TensorBoard's events, which is no text
EVENTS = "tfevents"
# of all logs of a run
MOST_ROWS = 1_000_000
_NUMBER = re.compile(r"[-+]?(((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?|nan|inf(inity)?)", re.IGNORECASE)


def text_rows(path: Path, data: bytes) -> Iterator[Row]:
    """The rows of a file with that name and content. Raises StorageError, ValueError or csv.Error at a bad one."""
    text = data.decode("utf-8-sig")
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        yield from _json_rows(text)
    else:
        yield from _table_rows(text, "\t" if path.suffix == ".tsv" else ",")


def _table_rows(text: str, delimiter: str) -> Iterator[Row]:
    for record in csv.DictReader(io.StringIO(text), delimiter=delimiter):
        # a name of None holds what is beyond the header's columns
        yield {name: _number(value) for name, value in record.items() if isinstance(name, str)}


def _json_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):  # other separators of lines may be in a text of JSON
        if line.strip():
            try:
                document = json.loads(line)
            except ValueError:
                raise StorageError(f"line {number} is no JSON") from None
            if not isinstance(document, dict):
                raise StorageError(f"line {number}: a {type(document).__name__}, expected an object")
            yield dict(_flat(document, ""))


def _flat(document: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Scalar]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            yield prefix + name, int(value)
        elif value is None or isinstance(value, (int, float, str)):
            yield prefix + name, _number(value) if isinstance(value, str) else value


def _number(text: str | None) -> Scalar:
    """A number where the text is one: whole numbers stay whole. Names such as ``0012`` and ``2024_01`` are texts."""
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return text
    try:
        return int(text)
    except ValueError:
        return float(text)
