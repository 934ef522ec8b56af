"""Metrics that a program logged by itself, read into the run's metrics.jsonl: CSV, JSON lines, TensorBoard's events.

Every row gets the member ``file``. What a file held before the start, and holds still at its beginning, is no result of
this run: of a log that was touched there are no rows, and of one that was continued the further ones; unless Python
code of the program wrote it anew, or it is another file of that name. What cannot be read is reported, and the other
files are read.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ndrepro.execution.programs.declared_files import DeclaredFiles, declared_files
from ndrepro.execution.programs.working_folder import EarlierContents
from ndrepro.protocol.extras import missing
from ndrepro.protocol.recorded.logged_rows import EVENTS, FILE, MOST_ROWS, text_rows
from provenance.capture.unavailable import printable
from provenance.errors import ProvenanceError, StorageError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.folder_tree import temporary_folder
from provenance.formats.metrics_log import Row, ScalarLog


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
        room = MOST_ROWS
        with ScalarLog(log) as rows:
            for path in changed:
                try:
                    new = os.path.join(self._folder, path) in rewritten or self._is_another(path, found)
                    note, found_rows = self._rows(path, kept=not new)
                    notes += [note] if note else []
                    for row in found_rows:
                        if not room:
                            raise StorageError(f"more than {MOST_ROWS} rows: the others are left out")
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
        events = EVENTS in place.name
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
    yield from itertools.islice(text_rows(path, data), sum(1 for _ in text_rows(path, had)), None)


def _count_events(had: bytes) -> int:
    """How many scalars a file of TensorBoard's events held."""
    if not had:
        return 0
    with temporary_folder("ndrepro-events-") as scratch:
        (scratch / EVENTS).write_bytes(had)
        return sum(1 for _ in _events(scratch / EVENTS))


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
