"""The signed state that a part of a run is computed again from: the nearest checkpoint before it, or the run's start.

Spot checks and replays of a step begin here; the training process puts the state back as it does when it resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.runs.run_checks import signed_checkpoint
from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.manifest import Manifest
from provenance.formats.trail import Trail


@dataclass(frozen=True)
class Start:
    """The state from which a replay continues: after ``step`` steps, in ``checkpoint`` (None: the run's start)."""

    step: int
    checkpoint: Path | None


def nearest_start(folder: RunFolder, manifest: Manifest, at_most: int, multiple_of: int = 1) -> Start:
    """The last signed checkpoint after at most so many steps, a multiple of ``multiple_of``; or the run's start.

    Raises CheckpointError for a file that is not the one that was signed, and where a trail that begins later than
    the run has no checkpoint to begin with.
    """
    steps = [step for step in folder.checkpoint_steps() if step <= at_most and step % multiple_of == 0]
    if not steps:
        if folder.trail.exists() and Trail(folder.trail).start > 0:
            raise CheckpointError(
                f"{folder.root}: a piece of a run, and the checkpoint that it began with is not there",
                "compare with a folder that still has its checkpoints",
            )
        return Start(0, None)
    return Start(steps[-1], signed_checkpoint(folder, manifest, steps[-1], "verify the run first"))
