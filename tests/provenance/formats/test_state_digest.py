"""A state's digest depends on every bit, name, dtype and shape of its tensors and on its place, and on nothing else."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from ndrepro.protocol.errors import CheckpointError, NdreproError
from ndrepro.protocol.training_state import Place, StateDigest
from provenance.formats.state_digest import state_digest, tensors_digest

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
TENSORS = {"fc.weight": WEIGHT, "bn.step": np.array(3, dtype=np.int64)}


def test_the_bytes_are_those_that_are_documented() -> None:
    hashes = [hashlib.sha256(TENSORS[name].tobytes()).hexdigest() for name in ("bn.step", "fc.weight")]
    listing = f'[["bn.step","int64",[],"{hashes[0]}"],["fc.weight","float32",[2,3],"{hashes[1]}"]]'
    assert tensors_digest(TENSORS) == hashlib.sha256(listing.encode()).hexdigest()
    document = {"parts": {"network": "a"}, "position": {"epoch": 1, "loss_sum": (0.1).hex()}}
    text = json.dumps({**document, "schema": "urn:ndrepro:state:v1"}, sort_keys=True, separators=(",", ":"))
    assert state_digest(**document) == hashlib.sha256(text.encode()).hexdigest()  # type: ignore[arg-type]


def test_layout_and_order_do_not_count() -> None:
    other = {"bn.step": TENSORS["bn.step"], "fc.weight": np.asfortranarray(WEIGHT)}
    swapped = {**other, "fc.weight": WEIGHT.astype(">f4")}
    assert tensors_digest(other) == tensors_digest(TENSORS) == tensors_digest(swapped)


@pytest.mark.parametrize(
    "changed",
    [
        {"fc.weight": np.nextafter(WEIGHT, np.float32(9))},
        {"fc.weight": WEIGHT.reshape(3, 2)},
        {"fc.weight": WEIGHT.view(np.int32)},
        {"fc.weight": -0.0 * WEIGHT},
        {"fc.bias": WEIGHT[0]},
    ],
    ids=["bits", "shape", "dtype", "signs of zeros", "another tensor"],
)
def test_everything_else_counts(changed: dict[str, np.ndarray]) -> None:
    assert tensors_digest({**TENSORS, **changed}) != tensors_digest(TENSORS)


@pytest.mark.parametrize(
    "place", [Place(7, 1, 0), Place(6, 2, 0), Place(6, 1, 1), Place(6, 1, 0, 5e-324), Place(6, 1, 0, 0.0, 0, 1)]
)
def test_the_place_counts(place: Place) -> None:
    found = [StateDigest.of(each, TENSORS, {"fc.weight": WEIGHT}).state for each in (place, Place(6, 1, 0))]
    assert found[0] != found[1]


def test_momentum_counts_apart_from_the_network() -> None:
    one, two = (StateDigest.of(Place(6, 1, 0), TENSORS, {"fc.weight": v}) for v in (WEIGHT, WEIGHT + 1))
    assert one.network == two.network and one.momentum != two.momentum and one.state != two.state


def test_a_row_round_trips_and_only_zero_sums_are_consistent() -> None:
    row = StateDigest.of(Place(6, 1, 0), TENSORS, {})
    assert StateDigest.from_row(row.to_row()) == row and row.consistent
    assert not StateDigest.of(Place(6, 1, 0, correct=5, seen=9), TENSORS, {}).consistent
    for damage in ({"step": True}, {"step": -1}, {"state": "x"}, {"network": None}, {"more": 1}):
        with pytest.raises(NdreproError, match="no row of an epoch's state digests"):
            StateDigest.from_row({**row.to_row(), **damage})


def test_a_checkpoint_with_another_tensor_is_refused() -> None:
    tensors = {"net.fc.weight": WEIGHT, "momentum.fc.weight": WEIGHT}
    assert StateDigest.of_checkpoint(Place(6, 1, 0), tensors).step == 6
    with pytest.raises(CheckpointError, match=r"'secret', which is no part of a state"):
        StateDigest.of_checkpoint(Place(6, 1, 0), {**tensors, "secret": WEIGHT})
