"""Operations of two environments, compared by their bits: equal where nothing changed, counted in ulps where it did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recorded_runs import Answer

from ndrepro.execution.operators.measurement import Source, measure
from ndrepro.protocol.operators.outputs import ARRAYS, INDEX

Command = Callable[..., Answer]
ONLY = "layer_norm"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measure(Source("main"), tmp_path_factory.mktemp("outputs") / "main", ONLY)


def test_the_same_environment_gives_the_same_bits_again(ndrepro: Command, outputs: Path) -> None:
    answer = ndrepro("operators", "compare", str(outputs), "main", "--only", ONLY, "--json")
    assert answer.code == 0, answer.err
    rows = answer.json["operations"]
    assert {(row["direction"], row["dtype"]) for row in rows} == {
        (direction, dtype) for direction in ("forward", "backward") for dtype in ("float32", "float64", "bfloat16")
    }
    assert sum(row["outputs"] for row in rows) == 24 and not any(row["differing"] or row["absent"] for row in rows)


@pytest.mark.skipif("avx2" not in Path("/proc/cpuinfo").read_text(), reason="this processor has but one of the two")
def test_other_instruction_sets_give_other_bits_a_few_units_apart(ndrepro: Command, outputs: Path) -> None:
    answer = ndrepro("operators", "compare", str(outputs), "main@sse41", "--only", ONLY)
    assert answer.code == 1, answer.err
    assert "main@sse41: torch" in answer.out and "DEFAULT" in answer.out and "float32" in answer.out


@pytest.fixture
def changed(outputs: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the outputs with some changed."""

    def copy(change: Callable[[dict[str, np.ndarray], list[dict[str, object]]], None]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(outputs, folder)
        document = json.loads((folder / INDEX).read_text())
        with np.load(folder / ARRAYS) as stored:
            arrays = dict(stored)
        change(arrays, document["outputs"])
        np.savez(folder / ARRAYS, **arrays)
        (folder / INDEX).write_text(json.dumps(document))
        return folder

    return copy


def test_one_flipped_bit_is_one_unit_in_one_output(
    ndrepro: Command, outputs: Path, changed: Callable[..., Path]
) -> None:
    def flip(arrays: dict[str, np.ndarray], described: list[dict[str, object]]) -> None:
        arrays["0"].reshape(-1).view(np.int32)[5] ^= 1

    answer = ndrepro("operators", "compare", str(outputs), str(changed(flip)), "--json")
    assert answer.code == 1
    (row,) = [row for row in answer.json["operations"] if row["differing"]]
    assert (row["operation"], row["direction"], row["differing"], row["ulps"]) == (ONLY, "forward", 1, 1)
    assert 0 < row["relative"] < 1e-6


def test_what_one_environment_does_not_compute_is_said_and_is_no_difference(
    ndrepro: Command, outputs: Path, changed: Callable[..., Path]
) -> None:
    def refuse(arrays: dict[str, np.ndarray], described: list[dict[str, object]]) -> None:
        described[0].update(array=None, reason="not implemented for 'BFloat16'")

    answer = ndrepro("operators", "compare", str(outputs), str(changed(refuse)))
    assert answer.code == 0 and "0 of 23 outputs differ; 1 not computed by one of the two" in answer.out


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("torch-9.9", "no environment 'torch-9.9'"),
        ("main@avx3", "no instruction sets 'avx3'"),
        ("/no/such/python", "neither a Python nor a folder of outputs"),
    ],
)
def test_a_wrong_environment_is_named(ndrepro: Command, word: str, message: str) -> None:
    answer = ndrepro("operators", "compare", "main", word)
    assert answer.code == 2 and message in answer.err and "hint:" in answer.err


def test_a_python_without_torch_is_an_error_in_words(ndrepro: Command, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named torch' >&2\nexit 1\n")
    python.chmod(0o755)
    answer = ndrepro("operators", "compare", str(python), "main")
    assert answer.code == 3 and "its operations were not measured: ModuleNotFoundError" in answer.err
