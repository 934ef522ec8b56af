"""An author changes the state between two epochs: momentum, weights along the trail hash's kernel, or sums.

Before state digests, momentum was recorded nowhere, the trail's 64-bit hash is linear, so that weights can be changed
without changing it, and the sums of a checkpoint were believed: every one of these passed a spot check.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from dishonest_author import (
    copied,
    manifest_of,
    original_of,
    planned,
    repeated_epoch,
    sign_again,
    verified,
    word_for,
)
from forged_states import FORGERIES, forged
from real_runs import Bench

from ndrepro.analysis.verdicts.reproduction_verdict import judge
from ndrepro.execution.reproduce.reexecute import Original
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.errors import CheckpointError


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_checkpoint_that_is_not_the_recorded_state_does_not_verify(
    honest: Finished, author: Bench, tmp_path: Path, kind: str
) -> None:
    check = verified(forged(honest, author, tmp_path, kind, digests=False), author).failure
    assert check is not None and check.name == "states"
    assert ("are not zero: 20 right answers" if kind == "sums" else f"the {kind} in it differs") in check.message


def test_a_forged_state_is_not_the_end_of_its_epoch(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """The author signs the forged state's own digests. All verifies, but the epoch before does not lead there.

    Before: "identical" for both.
    """
    kinds = ("momentum", "network")
    runs = {kind: forged(honest, author, tmp_path / kind, kind, digests=True) for kind in kinds}
    # one repetition serves both: the author changed nothing that this epoch starts from
    again = repeated_epoch(original_of(runs["momentum"], author), author, 2)
    assert judge(honest.folder, again).verdict == "identical", "the control"
    for kind in kinds:
        original_of(runs[kind], author)
        found = judge(runs[kind], again)
        assert found.verdict == "inconsistent" and not found.passes
        assert found.because.startswith("the steps are equal, but not the end state"), found.because
        failed = [claim.name for claim in found.claims if claim.status == "failed"]
        print(f"{kind}: {found.because}")
        assert failed == ["end state", "checkpoints"]


def test_sums_at_an_epoch_s_start_are_refused_before_anything_is_trained(
    honest: Finished, author: Bench, tmp_path: Path
) -> None:
    folder = forged(honest, author, tmp_path, "sums", digests=False)
    dishonest = Original(folder, manifest_of(folder))  # whose manifest nobody verified
    with pytest.raises(CheckpointError, match="sums of epoch 3, which starts here, are not zero"):
        planned(dishonest, author.options, 1, word_for(dishonest, 3))


def test_without_digests_a_spot_check_starts_at_the_seed(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """An author who leaves the state digests out cannot have a state believed."""
    folder = copied(honest.folder, tmp_path)
    folder.states.unlink()
    sign_again(folder, author)
    original = original_of(folder, author)
    (piece,) = planned(original, author.options, 1, word_for(original, 3)).pieces or ()
    assert (piece.step, piece.epochs, piece.checkpoint) == (0, 3, None)
