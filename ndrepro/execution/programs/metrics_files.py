"""Metrics that a program logged by itself, read into the run's metrics.jsonl: CSV, JSON lines, TensorBoard's events.

Every row gets the member ``file``. Numbers become numbers, what is neither number nor text is left out, and members of
members get a name with a dot. What a file held before the start, and holds still at its beginning, is no result of
this run: of a log that was touched there are no rows, and of one that was continued the further ones; unless Python
code of the program wrote it anew, or it is another file of that name. What cannot be read is reported, and the other
files are read.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ndrepro.execution.programs.declared_files import DeclaredFiles, declared_files
from ndrepro.execution.programs.working_folder import EarlierContents
from ndrepro.protocol.extras import missing
from provenance.capture.unavailable import printable
from provenance.errors import ProvenanceError, StorageError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.folder_tree import temporary_folder
from provenance.formats.metrics_log import Row, Scalar, ScalarLog

ROWS = 1_000_000
FILE = "file"
_EVENTS = "tfevents"
_NUMBER = re.compile(r"[-+]?(((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?|nan|inf(inity)?)", re.IGNORECASE)


class MetricsFiles:
    """Looks at the files of ``--metrics`` before the program starts; ``read`` reads them when it has ended.

    ``within``: places outside of which nothing is read, as in ``identity_of``.
    """

    def __init__(self, folder: Path, globs: Sequence[str], within: Collection[Path] | None = None) -> None:
        self._folder = folder
        self._globs = tuple(globs)
        self._within = within
        self._before = declared_files(folder, self._globs, within=within)
        self._contents = EarlierContents.read(folder, self._before.files, largest=LOG_BYTES)

    def read(self, log: Path, rewritten: Collection[str] = ()) -> tuple[str, ...]:
        """Write a row for each of the files' rows into ``log``; what could not be read, in words.

        ``rewritten`` are absolute paths that Python code of the program opened without keeping what they held. Raises
        StorageError where the log cannot be written.
        """
        found = declared_files(self._folder, self._globs, within=self._within)
        notes = [f"--metrics {pattern}: no file matches" for pattern in found.unmatched]
        notes += [f"--metrics: {found.problem}"] if found.problem else []
        changed = [path for path, known in found.files.items() if known != self._before.files.get(path)]
        notes += [f"{path}: not written by this run: no metrics" for path in found.files if path not in changed]
        if not changed:
            return tuple(notes)
        room = ROWS
        with ScalarLog(log) as rows:
            for path in changed:
                try:
                    new = os.path.join(self._folder, path) in rewritten or self._is_another(path, found)
                    note, found_rows = self._rows(path, kept=not new)
                    notes += [note] if note else []
                    for row in found_rows:
                        if not room:
                            raise StorageError(f"more than {ROWS} rows: the others are left out")
                        room -= 1
                        rows.append({**row, FILE: printable(path)})
                except (ProvenanceError, OSError, ValueError, RecursionError, csv.Error) as error:
                    why = f"{error.message} {error.cure}" if isinstance(error, ProvenanceError) else str(error)
                    notes.append(f"{path}: its metrics end early: {why.strip()}"[:500])
        return tuple(notes)

    def _is_another(self, path: str, found: DeclaredFiles) -> bool:
        """Whether the name has another file than before the start, as a program leaves that renames its own."""
        before = self._before.files.get(path)
        return before is None or before[3] != found.files[path][3]

    def _rows(self, path: str, *, kept: bool) -> tuple[str, Iterator[Row]]:
        """The rows of a file, without those that it had before where what it held was ``kept``; and a note, or ""."""
        place = self._folder / path
        events = _EVENTS in place.name
        known = path in self._contents.files
        data = read_bounded(place, LOG_BYTES, follow_symlinks=True) if known or not events else b""
        earlier = self._contents.kept_in(path, data)
        note = ""
        if earlier:
            note = f"{path}: it begins with what it held before the start, which may be of an earlier run"
            left = "the rows that it had before the start are no metrics of this run; if they are, remove it before"
            note = f"{path}: {left}" if kept else note
        if events:
            return note, itertools.islice(_events(place), _count_events(earlier) if kept else 0, None)
        had = earlier if kept else b""
        if not data[len(had) :].startswith((b"\n", b"\r")) and len(had) < len(data):
            had = had[: had.rfind(b"\n") + 1]  # a row without an end was continued
        return note, _further_rows(place, data, had)


def _further_rows(path: Path, data: bytes, had: bytes) -> Iterator[Row]:
    """The rows of ``data`` but those of ``had``, its beginning."""
    yield from itertools.islice(_text_rows(path, data), sum(1 for _ in _text_rows(path, had)), None)


def _text_rows(path: Path, data: bytes) -> Iterator[Row]:
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


def _count_events(had: bytes) -> int:
    """How many scalars a file of TensorBoard's events held."""
    if not had:
        return 0
    with temporary_folder("ndrepro-events-") as scratch:
        (scratch / _EVENTS).write_bytes(had)
        return sum(1 for _ in _events(scratch / _EVENTS))


def _events(path: Path) -> Iterator[Row]:
    """The scalars of a file of TensorBoard's events, one row each, read by the package ``tensorboard``."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise missing("tensorboard") from None
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.HasField("tensor") and not value.tensor.tensor_shape.dim:
                scalar = make_ndarray(value.tensor).item()
                if isinstance(scalar, (int, float)):
                    yield {"step": int(event.step), "wall_time": event.wall_time, value.tag: scalar}
