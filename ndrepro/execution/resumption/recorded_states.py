"""The states in a run's checkpoints, read without torch, compared with the state digests that it recorded."""

from __future__ import annotations

import json
from pathlib import Path

from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.training_state import CHECKPOINT_SCHEMA, Place, StateDigest, read_tensors
from provenance.errors import CanonicalError, ProvenanceError
from provenance.formats.canonical_json import parse


def checkpoint_state(path: Path, experiment: Experiment | None = None) -> tuple[Place, StateDigest]:
    """The place and the digests of a checkpoint's state, read without torch.

    Raises CheckpointError where it is damaged, holds sums that no training leaves there, or is not of ``experiment``.
    """
    tensors, metadata = read_tensors(path)
    try:
        document = parse((said := metadata.pop("ndrepro")).encode())
        if json.dumps(document, sort_keys=True) != said:
            raise ValueError("its header is not as it is written")
        if metadata or set(document) != {"schema", "place", "experiment"}:
            raise ValueError(f"its header has {', '.join(map(str, (*metadata, *document)))[:80]}")
        if document["schema"] != CHECKPOINT_SCHEMA:
            raise ValueError(f"schema {str(document['schema'])[:80]!r}, expected {CHECKPOINT_SCHEMA!r}")
        if experiment is not None and Experiment.from_json(document["experiment"]) != experiment:
            raise CheckpointError("written by another experiment", "ask the run's author")
        place = Place.from_json(document["place"])
        return place, StateDigest.of_checkpoint(place, tensors)
    except (KeyError, TypeError, ValueError, CanonicalError) as error:
        raise CheckpointError(f"{path}: damaged ({type(error).__name__}: {error})", "get the original file") from None
    except ProvenanceError as error:
        raise CheckpointError(f"{path}: {error.message}", error.cure) from None


def expect_state(path: Path, expected: StateDigest, experiment: Experiment | None = None) -> None:
    """Raises CheckpointError where a checkpoint does not hold that state, with the sums of a new epoch, or as above."""
    place, found = checkpoint_state(path, experiment)
    if found == expected:
        return
    if (place.epoch, place.step, place.batch) != (expected.epoch, expected.step, 0):
        what = f"epoch {place.epoch}, step {place.step}, batch {place.batch}"
    else:
        parts = (part for part in ("network", "momentum") if getattr(found, part) != getattr(expected, part))
        what = " and ".join(parts) or "sums"
    raise CheckpointError(
        f"{path}: not the recorded state after epoch {expected.epoch}: the {what} in it differs",
        "start from an earlier checkpoint, or ask the run's author",
    )
