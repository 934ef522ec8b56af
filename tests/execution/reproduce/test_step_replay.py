"""A step is replayed from the nearest checkpoint to the very bits that the run recorded, whatever came before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compared_runs import manifest

from ndrepro.analysis.comparison.operation_diff import NOTHING, first_difference, unfaithful
from ndrepro.execution.reproduce.step_replay import VerifiedRun, recorded_step, replays, request_of
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.errors import CheckpointError, NdreproError, UsageError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.replay_messages import STATE, Wanted
from provenance.attestation.dsse import read_envelope
from provenance.attestation.statement import Statement
from provenance.formats.trail import Trail

EPOCH_STEPS = 6


def subject_of(folder: RunFolder) -> VerifiedRun:
    return VerifiedRun(folder, Statement.from_bytes(read_envelope(folder.manifest.read_bytes())[1]).manifest)


@pytest.mark.slow
def test_a_step_is_replayed_from_the_checkpoint_before_it(finished: Finished, tmp_path: Path) -> None:
    """Twice the same run: nothing differs, and that is told by every operation of the step."""
    subject, step = subject_of(finished.folder), EPOCH_STEPS + 2
    with replays((subject, subject), step, tmp_path, None) as both:
        assert [replay.start.step for replay in both] == [EPOCH_STEPS, EPOCH_STEPS]
        records = both[0].record(), both[1].record()
        both[0].fetch(Wanted(STATE, name="conv1.weight"))
        both[1].fetch(Wanted())
        with np.load(both[0].tensors(), allow_pickle=False) as tensors:
            assert tensors["output 0"].shape == (6, 3, 5, 5)
        assert not both[1].tensors().exists()
    found = first_difference(*records)
    assert (found.part, found.equal) == (NOTHING, len(records[0].operations))
    assert records[0].batch.keys() == {"images", "labels"}
    bits, loss, names = recorded_step(Trail(finished.folder.trail), step)
    assert unfaithful(records[0], bits, loss, names) == []
    other_bits, other_loss, _ = recorded_step(Trail(finished.folder.trail), step + 1)
    assert "conv1.weight" in unfaithful(records[0], other_bits, other_loss, names), "another step must show"
    assert tuple(records[0].state) == names


def test_an_altered_checkpoint_is_not_replayed_from(finished: Finished, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "copy")
    folder.checkpoints.mkdir(parents=True)
    for name in ("manifest.dsse.json", "trail.bin"):
        (folder.root / name).write_bytes((finished.folder.root / name).read_bytes())
    folder.checkpoint(EPOCH_STEPS).write_bytes(b"a better one")
    subject = subject_of(folder)
    with (
        pytest.raises(CheckpointError, match="not the checkpoint that was signed"),
        replays((subject, subject), EPOCH_STEPS + 2, tmp_path / "scratch", None),
    ):
        pass


def test_a_step_that_no_trail_has_is_said(finished: Finished) -> None:
    trail = Trail(finished.folder.trail)
    with pytest.raises(NdreproError, match="it has no step 31"):
        recorded_step(trail, len(trail))


@pytest.mark.parametrize(("setting", "why"), [("processes", "2 processes trained it"), ("compile", "was compiled")])
def test_what_one_process_cannot_watch_is_refused(setting: str, why: str) -> None:
    changed = {"processes": "2"} if setting == "processes" else {"compile": "true"}
    with pytest.raises(UsageError, match=why):
        request_of(manifest(**changed), None)
    assert request_of(manifest(), None).experiment.processes == 1
