"""A part of a run is computed again from the nearest signed state before it, and from no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from compared_runs import manifest, put, records, write_trail

from ndrepro.execution.reproduce.checkpoint_start import Start, nearest_start
from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.manifest import Manifest
from provenance.attestation.run_files import inventory


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunFolder, Manifest]:
    """A run with signed checkpoints after 6, 9 and 12 steps; the one after 9 is in the middle of an epoch."""
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for step in (6, 9, 12):
        folder.checkpoint(step).write_bytes(f"state after {step}".encode())
    return folder, manifest(put("artifacts", inventory(tmp_path).artifacts))


@pytest.mark.parametrize(("at_most", "step"), [(5, 0), (6, 6), (8, 6), (11, 9), (40, 12)])
def test_the_nearest_before_is_taken(run: tuple[RunFolder, Manifest], at_most: int, step: int) -> None:
    folder, signed = run
    assert nearest_start(folder, signed, at_most) == Start(step, folder.checkpoint(step) if step else None)


def test_an_epoch_begins_where_an_epoch_ended(run: tuple[RunFolder, Manifest]) -> None:
    assert nearest_start(*run, 11, multiple_of=6).step == 6


def test_a_run_that_kept_no_checkpoint_begins_at_its_start(tmp_path: Path) -> None:
    write_trail(tmp_path / "trail.bin", records(20))
    assert nearest_start(RunFolder(tmp_path), manifest(), 12) == Start(0, None)


def test_a_state_that_was_not_signed_is_refused(run: tuple[RunFolder, Manifest]) -> None:
    folder, signed = run
    folder.checkpoint(9).write_bytes(b"a better one")
    assert nearest_start(folder, signed, 8).step == 6
    with pytest.raises(CheckpointError, match="not the checkpoint that was signed"):
        nearest_start(folder, signed, 10)


def test_a_piece_whose_checkpoint_is_gone_has_nothing_to_begin_with(tmp_path: Path) -> None:
    write_trail(tmp_path / "trail.bin", records(6, first=12))
    with pytest.raises(CheckpointError, match="the checkpoint that it began with is not there"):
        nearest_start(RunFolder(tmp_path), manifest(), 14)
