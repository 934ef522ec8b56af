"""Weights, checkpoints, what the ledger binds of them, and records of data: read, or refused with an error of ours.

As ``test_hostile_content``; ``make fuzz`` runs both for longer.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_json import damaged_bytes, fuzzing, mutated
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ndrepro.analysis.comparison.operation_diff import FirstDifference, read_difference
from ndrepro.execution.resumption.checkpoint_record import BoundCheckpoint
from ndrepro.execution.resumption.recorded_states import checkpoint_state
from ndrepro.protocol.data_record import DataRecord
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.training_state import CHECKPOINT_SCHEMA, Place, read_tensors
from provenance.errors import ManifestError, ProvenanceError
from provenance.formats.strict_json import Field

BOUND = BoundCheckpoint(6, "a" * 64, {"trail.bin": (640, "b" * 64), "metrics.jsonl": (200, "c" * 64)})
DATA = {
    **{"name": "digits", "reader": "digits.csv.gz", "classes": ["0", "1"], "files": 1, "bytes": 9},
    **{"train_images": 96, "test_images": 32, "canonical": True, "tree_sha256": "a" * 64},
    **{"pixels_sha256": {"train": "b" * 64, "test": "c" * 64}, "content_sha256": {"x.gz": "d" * 64}},
}


def refused(function: Any, *arguments: Any) -> bool:
    """Whether a reader refuses, as it may; any other error is let through."""
    try:
        function(*arguments)
    except ProvenanceError as error:
        assert error.message
        return True
    return False


def test_a_checkpoint_and_weights_are_read_or_refused(tmp_path: Path) -> None:
    path, place = tmp_path / "x.safetensors", asdict(Place(6, 1, 0))
    tensors = {name: np.arange(6, dtype=np.float32).reshape(2, 3) for name in ("net.w", "momentum.w")}

    def file_of(document: Any) -> bytes:
        save_file(tensors, path, {"ndrepro": json.dumps(document, sort_keys=True)})
        return path.read_bytes()

    whole = file_of({"schema": CHECKPOINT_SCHEMA, "experiment": {}, "place": place})
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])

    def with_header(document: Any) -> bytes:
        text = json.dumps(document, separators=(",", ":")).encode()
        text = text.ljust(-(-len(text) // 8) * 8)
        return len(text).to_bytes(8, "little") + text + whole[end:]

    assert not refused(checkpoint_state, path), "the control"
    count = 0

    @fuzzing(250)
    @given(
        st.one_of(
            damaged_bytes(whole),
            mutated(header).map(with_header),
            mutated({"schema": "", "experiment": {}, "place": place}).map(file_of),
        ),
    )
    def fuzz(data: bytes) -> None:
        nonlocal count
        path.write_bytes(data)
        refused(read_tensors, path)
        count += refused(checkpoint_state, path)

    fuzz()
    assert count > 50


def test_what_is_bound_and_a_record_of_data_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"

    def bound(document: Any) -> BoundCheckpoint:
        return BoundCheckpoint.from_json(Field(document, "$", ManifestError))

    def data(document: Any) -> DataRecord:
        path.write_text(json.dumps(document), encoding="utf-8")
        return DataRecord.read(path)

    assert not refused(bound, BOUND.to_json()) and not refused(data, DATA), "the control"

    @fuzzing(200)
    @given(mutated(BOUND.to_json()), mutated(DATA))
    def fuzz(one: Any, two: Any) -> None:
        refused(bound, one)
        refused(data, two)

    fuzz()


def test_the_tensors_that_a_replay_left_are_read_or_refused(tmp_path: Path) -> None:
    """Recorded code writes them in its sandbox, and ``diff --locate`` reads them outside."""
    good, bad, found = tmp_path / "good.npz", tmp_path / "bad.npz", FirstDifference("state", name="weight")
    ones = np.ones(3, dtype=np.float32)
    np.savez(good, **{"output 0": ones})  # type: ignore[arg-type]
    assert read_difference(found, (good, good), "float32")[0].differing == 0, "the control"
    objects = np.array([print, None, 3], dtype=object)
    for arrays in (
        {},
        {"output 0": ones[:2]},
        {"output 0": ones.astype("f8")},
        {"output 0": objects},
        {"output 0": "x"},
    ):
        np.savez(bad, **arrays)  # type: ignore[arg-type]
        with pytest.raises(NdreproError, match=r"bad\.npz"):
            read_difference(found, (good, bad), "float32")
        with pytest.raises(NdreproError, match=r"bad\.npz"):
            read_difference(found, (bad, bad), "float16")
    one = io.BytesIO()
    np.save(one, ones)
    for damage in (lambda: bad.write_bytes(b"PK"), lambda: bad.write_bytes(one.getvalue()), lambda: os.mkfifo(bad)):
        bad.unlink()
        damage()
        with pytest.raises(NdreproError, match=r"bad\.npz"):
            read_difference(found, (good, bad), "float32")
    bad.unlink()
    np.savez_compressed(bad, **{"output 0": np.zeros(1 << 27, dtype=np.float32)})  # type: ignore[arg-type]
    with pytest.raises(NdreproError, match="expected at most"):
        read_difference(found, (bad, bad), "float32")
