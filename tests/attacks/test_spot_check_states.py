"""An author changes the state between two epochs: momentum, weights along the trail hash's kernel, or sums.

Before state digests, momentum was recorded nowhere, the trail's 64-bit hash is linear, so that weights can be changed
without changing it, and the sums of a checkpoint were believed: every one of these passed a spot check.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dishonest_author import (
    copied,
    edit_checkpoint,
    edit_results,
    manifest_of,
    original_of,
    repeated_epoch,
    restate,
    sign_again,
    verified,
    word_for,
)
from real_runs import Bench

from ndrepro.analysis.results.reproduction_verdict import judge
from ndrepro.execution.reproduce.reexecute import Original, plan
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores
from provenance.formats.fingerprint import fingerprint, word_constants
from provenance.formats.metrics_log import read_scalars

EPOCH_STEPS = 6
FORGED = 2 * EPOCH_STEPS


def other_momentum(tensors: dict[str, np.ndarray], place: object) -> None:
    """A momentum of ten times the size: another trajectory from here on, and a trail that says nothing of it."""
    for name in [name for name in tensors if name.startswith("momentum.")]:
        tensors[name] = tensors[name] * np.float32(10)


def colliding_weights(tensors: dict[str, np.ndarray], place: object) -> None:
    """Other weights with the hash that the trail has for them, from the hash's public constants alone."""
    name = "net.linear3.weight"
    before = tensors[name]
    tensors[name] = collision(before)
    assert fingerprint(tensors[name]) == fingerprint(before) and (tensors[name] != before).any()


def collision(array: np.ndarray) -> np.ndarray:
    """A float32 array, of 44 words or more, with the same hash: some of its words are half a binade larger.

    The hash is sum k_j u_j mod 2^64 with known constants, so adding 2^22 to the words of a set S changes nothing where
    the sum of k_j over S is 0 mod 2^42. Two halves of 2^22 subsets each meet in the middle four times on average.
    """
    moved = 1 << 22
    k = word_constants()[:44]
    left, right = (subset_sums(half) * np.uint64(moved) for half in (k[:22], k[22:]))
    _, one, two = np.intersect1d(left, np.uint64(0) - right, return_indices=True)
    chosen = next(int(a) | int(b) << 22 for a, b in zip(one, two, strict=True) if a or b)
    words = np.ascontiguousarray(array).reshape(-1).view(np.uint32).copy()
    words[:44] += np.array([moved * (chosen >> bit & 1) for bit in range(44)], dtype=np.uint32)
    return words.view(array.dtype).reshape(array.shape)


def subset_sums(constants: np.ndarray) -> np.ndarray:
    """The sum of every subset, at the index whose bits say which are in it."""
    sums = np.zeros(1, dtype=np.uint64)
    for constant in constants:
        sums = np.concatenate([sums, sums + constant])
    return sums


def other_sums(tensors: dict[str, np.ndarray], place: dict[str, int]) -> None:
    """Twenty right answers of an epoch that has not started."""
    place["correct"] = 20


FORGERIES = {"momentum": other_momentum, "network": colliding_weights, "sums": other_sums}


def forged(honest: Finished, author: Bench, into: Path, kind: str, *, digests: bool) -> RunFolder:
    """The honest run with a forged state after epoch 2, signed; ``digests``: with its own state digests."""
    folder = copied(honest.folder, into)
    edit_checkpoint(folder.checkpoint(FORGED), FORGERIES[kind])
    if kind == "sums":
        third = [Scores.from_row(row) for row in read_scalars(folder.metrics)][2]
        edit_results(folder, 3, train_accuracy=third.train_accuracy + 20 / 96)
    if digests:
        restate(folder)
    sign_again(folder, author)
    return folder


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
        assert failed == ["end state"]


def test_sums_at_an_epoch_s_start_are_refused_before_anything_is_trained(
    honest: Finished, author: Bench, tmp_path: Path
) -> None:
    folder = forged(honest, author, tmp_path, "sums", digests=False)
    dishonest = Original(folder, manifest_of(folder))  # whose manifest nobody verified
    with pytest.raises(CheckpointError, match="sums of epoch 3, which starts here, are not zero"):
        plan(dishonest, author.options, 1, word_for(dishonest, 3))


def test_without_digests_a_spot_check_starts_at_the_seed(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """An author who leaves the state digests out cannot have a state believed."""
    folder = copied(honest.folder, tmp_path)
    folder.states.unlink()
    sign_again(folder, author)
    original = original_of(folder, author)
    (piece,) = plan(original, author.options, 1, word_for(original, 3)).pieces or ()
    assert (piece.step, piece.epochs, piece.checkpoint) == (0, 3, None)
