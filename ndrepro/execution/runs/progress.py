"""Follows a training child by the files that it writes, and informs an observer; nothing is sent through a pipe.

Whatever the child writes, a look neither waits nor raises: what cannot be read is the watcher's ``problem``.

The trail has a record for every step, so its length is the progress; ``metrics.jsonl`` and ``timing.jsonl`` get a
row an epoch.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from ndrepro.execution.runs.observer import Observer, Progress
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, Timing, read_json
from ndrepro.protocol.recorded.training_files import read_timing
from provenance.errors import ProvenanceError, StorageError, TrailError
from provenance.formats.bounded_read import open_regular
from provenance.formats.metrics_log import parse_row
from provenance.formats.strict_json import Field
from provenance.formats.trail import Trail

_WINDOW_SECONDS = 60.0
# read at one look; a row has some 300
_ROWS_BYTES = 1 << 22
_SHOWN = 200


class Watcher:
    """Looks at a run folder when ``look`` is called, and reports what is new since the last look."""

    def __init__(self, folder: RunFolder, request: Request, observer: Observer) -> None:
        self._folder = folder
        self._request = request
        self._experiment = request.experiment
        self._observer = observer
        self._began = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque()
        self._total_steps: int | None = None
        self._metrics: _Rows[Scores] = _Rows(folder.metrics, Scores.from_row)
        self._timing: _Rows[Timing] = _Rows(folder.timing, read_timing)
        self._scores: list[Scores] = []
        self._timings: list[Timing] = []
        self._reported = 0

    @property
    def scores(self) -> tuple[Scores, ...]:
        """Every whole epoch's results so far."""
        return tuple(self._scores)

    @property
    def problem(self) -> ProvenanceError | None:
        """The first line of results or timing that is none, after which no more of that file is read."""
        return self._metrics.problem or self._timing.problem

    def look(self, phase: str = "training") -> None:
        """Tell the observer of new epochs and of the progress."""
        self._scores += self._metrics.new()
        self._timings += self._timing.new()
        while self._reported < min(len(self._scores), len(self._timings)):
            self._observer.epoch(self._scores[self._reported], self._timings[self._reported])
            self._reported += 1
        self._observer.progress(self._progress(phase))

    def _progress(self, phase: str) -> Progress:
        now = time.monotonic()
        step, loss = self._last_step()
        total = self._steps()
        rate = left = None
        if step is not None:
            seconds, steps = self._lately(now, step)
            if seconds > 0 and steps > 0:
                rate = steps * self._experiment.batch_size / seconds
                left = None if total is None else (total - step) * seconds / steps
        return Progress(
            phase=phase if step is not None or phase == "signing" else "starting",
            step=step or 0,
            total_steps=total,
            loss=loss if step else None,
            elapsed_seconds=now - self._began,
            images_per_second=rate,
            seconds_left=left,
        )

    def _lately(self, now: float, step: int) -> tuple[float, int]:
        """Seconds and steps since the oldest look of the last minute: a machine's load changes."""
        self._recent.append((now, step))
        while len(self._recent) > 2 and now - self._recent[1][0] > _WINDOW_SECONDS:
            self._recent.popleft()
        return now - self._recent[0][0], step - self._recent[0][1]

    def _last_step(self) -> tuple[int | None, float | None]:
        try:
            last = Trail(self._folder.trail).last()
        except (TrailError, OSError):
            # not written yet, or its header is being written
            return None, None
        return last if last is not None else (None, None)

    def _steps(self) -> int | None:
        if self._total_steps is None and self._folder.dataset.exists():
            try:
                listing = Field(read_json(self._folder.dataset), "dataset.json")
                images = listing.member("train_images").integer(1)
            except ProvenanceError:
                # the total stays unknown; what is wrong with the file is reported when the run is signed
                return None
            epoch_steps = -(-images // self._experiment.batch_size)
            if self._request.segment_epochs is None:
                self._total_steps = self._experiment.epochs * epoch_steps
            else:
                self._total_steps = self._request.resume_step + self._request.segment_epochs * epoch_steps
        return self._total_steps


Row = TypeVar("Row", Scores, Timing)


class _Rows(Generic[Row]):
    """Whole new lines of a JSONL file, each read by ``parse``; a bad one ends the reading and is the ``problem``."""

    def __init__(self, path: Path, parse: Callable[[dict[str, Any]], Row]) -> None:
        self._path = path
        self._parse: Callable[[dict[str, Any]], Row] = parse
        self._offset = 0
        self._lines = 0
        self.problem: ProvenanceError | None = None

    def new(self) -> list[Row]:
        """The rows since the last call; a line still being written waits for the next."""
        found: list[Row] = []
        if self.problem is not None:
            return found
        try:
            for line in self._whole_lines():
                self._lines += 1
                found.append(self._parse(parse_row(line)))
        except FileNotFoundError:
            pass
        except OSError as error:
            self.problem = StorageError(f"{self._path}: {error.strerror}")
        except (ProvenanceError, ValueError, TypeError, AttributeError, RecursionError) as error:
            said = f"{type(error).__name__}: {error}"[:_SHOWN]
            self.problem = StorageError(f"{self._path}, line {self._lines}: no row of an epoch ({said})")
        return found

    def _whole_lines(self) -> list[bytes]:
        with open(open_regular(self._path), "rb") as stream:
            stream.seek(self._offset)
            content = stream.read(_ROWS_BYTES + 1)
        whole = content[: content.rfind(b"\n") + 1]
        if len(content) > _ROWS_BYTES and not whole:
            raise OSError(errno.EINVAL, f"a line of more than {_ROWS_BYTES} bytes")
        self._offset += len(whole)
        return whole.splitlines()
