"""Real runs that diverge are replayed in their own environments, and the first operation is named; nothing else is.

One bit flipped in one weight is followed by the investigator's runbook (tests/test_runbooks.py), other versions of
torch by tests/execution/environments/test_canonical_versions.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import backward_outputs
import numpy as np
import pytest
from compared_runs import TENSORS, account, parted, records, sign_pair_member
from recorded_runs import Answer

from ndrepro.cli.display.located import _operation, _replaying, _which
from ndrepro.execution.environments.matrix import cell, create
from ndrepro.protocol.errors import EnvironmentMissing
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.project_folders import CODE
from ndrepro.protocol.replay_messages import Operation, TensorBits

Command = Callable[..., Answer]


@pytest.mark.slow
def test_one_thread_against_two_is_located_to_the_operation(ndrepro: Command, tmp_path: Path) -> None:
    """Two instruction sets are located in tests/cli/commands/test_instruction_sets.py, on every processor."""
    words = ("run", "lenet_nd_1_digits", "--device", "cpu", "--quiet")
    few = [f"--set={key}=32" for key in ("train_images", "test_images", "batch_size")]
    first, second = (ndrepro(*words, *few, "--threads", count).out.strip() for count in "12")
    answer = ndrepro("diff", first, second, "--locate", "--keep", str(tmp_path / "kept"), "--json")
    if answer.code == 0:
        pytest.skip("kernels of this processor do not split such small sums among threads")
    assert answer.code == 1, answer.err
    located = answer.json["located"]
    assert located["step"] == answer.json["trails"]["divergence"]["step"] == 1
    assert located["faithful"] == [True, True]
    assert located["notes"] == []
    one, other = located["operations"]
    # sums of a matrix product are split among threads
    assert one["part"] in ("forward", "backward") and one["path"] and one["name"] == other["name"]
    assert [each["bits"] for each in one["outputs"]] != [each["bits"] for each in other["outputs"]]
    assert one["arguments"] == other["arguments"]
    difference = located["difference"]
    assert 0 < difference["differing"] <= difference["of"]
    assert difference["largest_ulps"] >= difference["median_ulps"] >= 1
    kept = [np.load(tmp_path / "kept" / side / "tensors.npz", allow_pickle=False) for side in "AB"]
    equal = {name: kept[0][name].tobytes() == kept[1][name].tobytes() for name in kept[0].files}
    assert all(same for name, same in equal.items() if name.startswith("input")), "equal numbers went in"
    assert not all(same for name, same in equal.items() if name.startswith("output")), "and others came out"


@pytest.fixture
def pair(own_home: Path) -> tuple[RunFolder, RunFolder]:
    """Two signed runs that part, of which nothing was trained."""
    first, second = (
        sign_pair_member(Path(), f"20261121T101501Z-{name * 6}", account(), table, home=own_home)
        for name, table in (("a", records(20)), ("b", parted(records(20), 5, [0])))
    )
    return first, second


def test_equal_runs_have_nothing_to_locate(ndrepro: Command, pair: tuple[RunFolder, RunFolder]) -> None:
    answer = ndrepro("diff", str(pair[0].root), str(pair[0].root), "--locate")
    assert answer.code == 0
    assert "nothing to locate: every step left the same bits" in answer.out
    assert ndrepro("diff", str(pair[0].root), str(pair[0].root), "--locate", "--json").json["located"] is None


def test_code_of_a_run_that_does_not_verify_is_never_started(
    ndrepro: Command, pair: tuple[RunFolder, RunFolder]
) -> None:
    pair[1].manifest.write_bytes(pair[1].manifest.read_bytes().replace(b'"sig":"', b'"sig":"AAAA'))
    answer = ndrepro("diff", str(pair[0].root), str(pair[1].root), "--locate")
    assert answer.code == 2
    assert "is not verified, and a replay would start its code" in answer.err


def test_a_manifest_alone_has_no_step_to_replay(ndrepro: Command, pair: tuple[RunFolder, RunFolder]) -> None:
    shutil.copyfile(pair[1].manifest, "alone.json")
    answer = ndrepro("diff", str(pair[0].root), "alone.json", "--locate")
    assert answer.code == 2
    assert "the second run's trail is not available" in answer.err


def test_runs_of_different_networks_have_no_step_in_common(ndrepro: Command, own_home: Path) -> None:
    first = sign_pair_member(Path(), "20261121T101501Z-aaaaaa", account(), records(20), home=own_home)
    second = sign_pair_member(
        Path(), "20261121T101502Z-bbbbbb", account(), records(20, tensors=2), home=own_home, tensors=TENSORS[:2]
    )
    answer = ndrepro("diff", str(first.root), str(second.root), "--locate")
    assert answer.code == 2
    assert "different networks" in answer.err


def test_data_that_are_not_here_are_asked_for(ndrepro: Command, pair: tuple[RunFolder, RunFolder]) -> None:
    answer = ndrepro("diff", *(str(run.root) for run in pair), "--locate", "--data", "elsewhere")
    assert answer.code == 3
    assert "--data elsewhere: no such file or folder" in answer.err


def test_what_is_kept_does_not_go_among_other_files(ndrepro: Command, pair: tuple[RunFolder, RunFolder]) -> None:
    Path("kept").mkdir()
    (Path("kept") / "mine.txt").write_text("mine")
    answer = ndrepro("diff", *(str(run.root) for run in pair), "--locate", "--keep", "kept")
    assert answer.code == 2
    assert "--keep kept: it is not empty" in answer.err


def test_a_replay_says_once_where_both_start_and_names_layers_as_users_know_them() -> None:
    def replay(step: int | None) -> Any:
        return SimpleNamespace(start=SimpleNamespace(step=step or 0, checkpoint=step and Path("checkpoint")))

    assert _replaying([replay(None), replay(None)], 3) == "replaying step 3 of both runs, from the start"
    assert _replaying([replay(None), replay(12)], 13) == (
        "replaying step 13 of both runs, A from the start, B from the checkpoint of step 12"
    )
    operation = Operation("forward", "drop", "StreamDropout", "", "aten.mul", "", "", (), (TensorBits((), "f", ""),))
    assert _operation(operation, 0).startswith("aten.mul in drop (Dropout)")


def told(python: str | Path) -> dict[str, Any]:
    """What ``backward_outputs`` prints there."""
    command = [str(python), "-W", "error", backward_outputs.__file__]
    variables = {**os.environ, "PYTHONPATH": str(CODE)}
    ended = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def operation_of(document: dict[str, Any], **other: Any) -> Operation:
    outputs = tuple(TensorBits(tuple(each["shape"]), each["dtype"], each["bits"]) for each in document["outputs"])
    return Operation(**{**document, "tensors": tuple(document["tensors"]), "outputs": outputs, **other})


@pytest.fixture(scope="module", params=["here", pytest.param("torch-1.13.1", marks=pytest.mark.old_environment)])
def backward(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "here":
        return told(sys.executable)
    try:
        python = create(cell(request.param))
    except EnvironmentMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{missing.message}; {missing.cure}")
    found = told(python)
    assert found["torch"].startswith("1.13.1")
    return found


def test_every_gradient_of_a_layer_is_called_what_autograd_calls_it(backward: dict[str, Any]) -> None:
    seen = []
    for each in backward["operations"]:
        operation = operation_of(each)
        if operation.stage == "loss":
            assert _which(operation, 0) == "", "its one output needs no name"
            continue
        layer = operation.path.removeprefix("layers.")
        for output, bits in enumerate(operation.outputs):
            gradient = _which(operation, output).removeprefix(", gradient of the ")
            assert backward["gradients"][layer][gradient] == bits.bits, (layer, output)
            seen.append((layer, gradient))
    everything = [(layer, kind) for layer, kinds in backward["gradients"].items() for kind in kinds]
    assert sorted(seen) == sorted(everything), "none was left out"
    assert ("unbiased", "input") in seen and ("first", "weight") in seen and ("plain norm", "input") in seen


def test_outputs_that_nothing_tells_apart_are_counted(backward: dict[str, Any]) -> None:
    (each,) = [each for each in backward["operations"] if each["path"] == "layers.unbiased"]
    assert _which(operation_of(each), 0) == ", gradient of the input"
    assert _which(operation_of(each, arguments="., ., cut short"), 0) == ", output 1 of 2"
    assert _which(operation_of(each, name="aten.max_pool2d_with_indices"), 1) == ", output 2 of 2"
    whole = operation_of(
        each, name="aten.cudnn_batch_norm_backward", arguments=".", outputs=(TensorBits((), "", ""),) * 3
    )
    assert [_which(whole, output) for output in range(3)] == [
        ", gradient of the input",
        ", gradient of the weight",
        ", gradient of the bias",
    ]
