"""Results epoch by epoch, from ``metrics.jsonl`` where it is the very file that was signed."""

from __future__ import annotations

from dataclasses import dataclass

from ndrepro.analysis.results.result_row import ResultRow, manifest_of
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores as EpochScores
from provenance.errors import ProvenanceError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.digest import bytes_digest
from provenance.formats.metrics_log import read_scalars


@dataclass(frozen=True)
class Curve:
    """One run's epochs in order, accuracies in percent."""

    run: ResultRow
    steps: tuple[int, ...]
    train_loss: tuple[float, ...]
    train_accuracy_percent: tuple[float, ...]
    test_accuracy_percent: tuple[float, ...]

    def fitted_at(self, percent: float) -> int | None:
        """The first epoch that ended with at least that train accuracy; None where none did."""
        return next((epoch for epoch, value in enumerate(self.train_accuracy_percent, 1) if value >= percent), None)


def curve_of(run: ResultRow) -> Curve | None:
    """The curve of a verified run; None where its log is gone or is not the one that was signed."""
    folder = RunFolder(run.folder)
    manifest = manifest_of(run)
    if manifest is None:
        return None
    signed = manifest.artifact(folder.metrics.name)
    try:
        if signed is None or bytes_digest(read_bounded(folder.metrics, LOG_BYTES)) != signed.sha256:
            return None
        rows = [EpochScores.from_row(row) for row in read_scalars(folder.metrics)]
    except (OSError, ProvenanceError, KeyError, TypeError, ValueError):
        return None
    return Curve(
        run,
        tuple(row.step for row in rows),
        tuple(row.train_loss for row in rows),
        tuple(100 * row.train_accuracy for row in rows),
        tuple(100 * row.test_accuracy for row in rows),
    )
