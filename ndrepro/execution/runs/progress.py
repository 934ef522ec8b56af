"""Follows a training child by the files that it writes, and tells an observer; nothing is sent through a pipe.

The trail has a record for every step, so its length is the progress; ``metrics.jsonl`` and ``timing.jsonl`` get a
row an epoch.
"""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

from ndrepro.execution.runs.observer import Observer, Progress
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, Timing
from provenance.errors import TrailError
from provenance.formats.trail import Trail

_WINDOW_SECONDS = 60.0


class Watcher:
    """Looks at a run folder when ``look`` is called, and tells what is new since the last look."""

    def __init__(self, folder: RunFolder, request: Request, observer: Observer) -> None:
        self._folder = folder
        self._request = request
        self._experiment = request.experiment
        self._observer = observer
        self._began = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque()
        self._total_steps: int | None = None
        self._metrics = _Rows(folder.metrics)
        self._timing = _Rows(folder.timing)
        self._scores: list[Scores] = []
        self._timings: list[Timing] = []
        self._told = 0

    @property
    def scores(self) -> tuple[Scores, ...]:
        """Every whole epoch's results so far."""
        return tuple(self._scores)

    def look(self, phase: str = "training") -> None:
        """Tell the observer of new epochs and of the progress."""
        self._scores += [Scores.from_row(row) for row in self._metrics.new()]
        self._timings += [Timing(**row) for row in self._timing.new()]
        while self._told < min(len(self._scores), len(self._timings)):
            self._observer.epoch(self._scores[self._told], self._timings[self._told])
            self._told += 1
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
        except TrailError:
            # not written yet, or its header is being written
            return None, None
        return last if last is not None else (None, None)

    def _steps(self) -> int | None:
        if self._total_steps is None and self._folder.dataset.exists():
            images = json.loads(self._folder.dataset.read_text(encoding="utf-8"))["train_images"]
            epoch_steps = -(-images // self._experiment.batch_size)
            if self._request.segment_epochs is None:
                self._total_steps = self._experiment.epochs * epoch_steps
            else:
                self._total_steps = self._request.resume_step + self._request.segment_epochs * epoch_steps
        return self._total_steps


class _Rows:
    """Whole new lines of a JSONL file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[dict[str, Any]]:
        """The rows since the last call; a line still being written waits for the next."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [_finite(json.loads(line)) for line in whole.splitlines()]


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Losses that are not finite are written as words."""
    return {key: float(value) if isinstance(value, str) else value for key, value in row.items()}
