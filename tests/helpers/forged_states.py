"""False states of a run of four epochs of six steps, as an author with the key would put them in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dishonest_author import copied, edit_checkpoint, edit_results, put_weights, restate, sign_again
from real_runs import Bench
from safetensors.numpy import load_file

from ndrepro.execution.runs.run import Finished
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


def random_weights(folder: RunFolder) -> None:
    """Final weights that no training made; the last step's hashes are theirs, which ends the equal bits there."""
    noise = np.random.default_rng(0)
    weights = {
        name: noise.standard_normal(each.shape).astype(each.dtype) if each.dtype.kind == "f" else each
        for name, each in load_file(folder.weights).items()
    }
    folder.checkpoint(24).unlink()
    put_weights(folder, weights)
