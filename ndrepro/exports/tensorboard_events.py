"""Numbers as TensorBoard's event files, written by TensorBoard's own writer: of a signed run, or while one runs.

Each run has its folder, ``EXPERIMENT/RUN``, so that TensorBoard lists the runs by these names. The files are a view and
no part of the run: they hold a copy of ``metrics.jsonl`` and losses of single steps, and nothing is read from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ndrepro.exports.run_facts import RunFacts
from ndrepro.protocol import extras
from ndrepro.protocol.errors import UsageError
from provenance.errors import StorageError

if TYPE_CHECKING:
    from typing import Self

_FLUSH_SECONDS = 2


class EventFile:
    """A new event file in ``folder / path``; use it as a context manager. Raises MissingExtra, StorageError."""

    def __init__(self, folder: Path, path: str) -> None:
        extras.require("tensorboard")
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.folder = folder / path
        try:
            self._writer = EventFileWriter(str(self.folder), flush_secs=_FLUSH_SECONDS)
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot be written: {error.strerror}", "name another folder") from error

    def add(self, step: int, values: Mapping[str, float], wall_time: float) -> None:
        """Write numbers of one step; ``wall_time`` in seconds since 1970. NaN and infinities stay what they are."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(
            value=[Summary.Value(tag=name, simple_value=_single(value)) for name, value in values.items()]
        )
        try:
            self._writer.add_event(Event(wall_time=wall_time, step=step, summary=summary))
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot be written: {error.strerror}") from error

    def flush(self) -> None:
        """Have everything on disk, where TensorBoard reads it."""
        self._writer.flush()

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is still in memory, and close the file."""
        self._writer.close()


def write_events(facts: RunFacts, folder: Path) -> Path:
    """Every number of a signed run's ``metrics.jsonl`` as events; returns the folder of its event file.

    A row has no clock, so all events have the time at which the run ended. Raises UsageError where the run was exported
    there before, which TensorBoard would draw twice.
    """
    place = folder / facts.path
    if place.is_dir() and any(place.glob("*tfevents*")):
        raise UsageError(f"{place}: has event files already", "name another folder, or remove it")
    moment = datetime.fromisoformat(facts.manifest.finished_on).timestamp()
    with EventFile(folder, facts.path) as events:
        for each in facts.metrics():
            events.add(each.step, {each.name: each.value}, moment)
    return events.folder


def _single(value: float) -> float:
    """``value`` within the range of the 32 bits that a scalar summary has."""
    return value if not math.isfinite(value) or abs(value) < 3.4e38 else math.copysign(math.inf, value)
