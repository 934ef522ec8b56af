"""Each level sets what it says, reads it back, and refuses to start where a variable came too late."""

import json
import os
import subprocess
import sys

import pytest
import torch

from ndrepro.protocol.errors import DeviceError, NdreproError, from_record, to_record
from ndrepro.protocol.experiment.determinism import LEVELS, variables
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute import determinism, torch_compat

# in a process of its own: flags are the whole process's
SCRIPT = """
import json, os
from ndrepro.protocol.experiment.determinism import LEVELS, variables
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute import determinism

found = {}
for level in LEVELS:
    os.environ.update(variables(level, 1))
    experiment = Experiment.from_name("lenet_bn_1_digits", {"determinism": level, "threads": "1"})
    determinism.apply(experiment)
    found[level] = determinism.flags()
del os.environ["CUBLAS_WORKSPACE_CONFIG"]
try:
    determinism.apply(experiment)
except NdreproError as error:
    found["too late"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, object]]:
    chosen = {**os.environ, **variables("canonical", 1)}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=chosen, capture_output=True, text=True, check=True)
    result: dict[str, dict[str, object]] = json.loads(run.stdout)
    return result


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_sets_its_flags(found: dict[str, dict[str, object]], level: str) -> None:
    flags = found[level]
    strict = level in ("deterministic", "canonical")
    assert flags["deterministic_algorithms"] is flags["cudnn_deterministic"] is strict
    assert flags["cudnn_benchmark"] is flags["matmul_allow_tf32"] is flags["cudnn_allow_tf32"] is (level == "free")
    assert flags["mkldnn_enabled"] is (level != "canonical")
    assert flags["threads"] == 1


def test_plain_kernels_are_asked_for_before_the_interpreter_starts(found: dict[str, dict[str, object]]) -> None:
    # started with the canonical level's variables
    assert found["canonical"]["cpu_capability"] == "DEFAULT"


def test_a_variable_that_was_not_set_in_time_is_refused(found: dict[str, object]) -> None:
    assert "CUBLAS_WORKSPACE_CONFIG=None, expected ':4096:8'" in str(found["too late"])


def _unpool(level: str) -> torch.Tensor:
    with determinism.naming_operations(level):
        return torch.nn.functional.max_unpool2d(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, dtype=torch.int64), 2)


def test_an_operation_that_is_not_deterministic_is_named_with_the_level_that_allows_it() -> None:
    """A real one of the CPU; torch words its refusal the same for every operation and device."""
    assert _unpool("seeded").sum() == 1, "torch must do it when it is not told to refuse"
    torch_compat.set_deterministic_algorithms(True)
    try:
        with pytest.raises(NdreproError) as refused:
            _unpool("deterministic")
    finally:
        torch_compat.set_deterministic_algorithms(False)
    assert "determinism=deterministic" in refused.value.message
    assert "max_unpooling2d_forward_out" in refused.value.message
    assert "--determinism seeded" in refused.value.cure
    assert from_record(to_record(refused.value)).cure == refused.value.cure


def test_other_errors_of_torch_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), determinism.naming_operations("seeded"):
        torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_canonical_bits_are_computed_on_the_cpu(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    experiment = Experiment.from_name("lenet_bn_1_digits", {"determinism": "canonical", "device": device})
    assert determinism.choose_device(experiment).type == "cpu"
    seeded = experiment.with_settings({"determinism": "seeded"})
    assert determinism.choose_device(seeded).type == ("cuda" if device == "auto" else "cpu")


def test_canonical_on_a_gpu_is_refused() -> None:
    settings = {"determinism": "canonical", "device": "cuda"}
    with pytest.raises(DeviceError, match="device=cuda under determinism=canonical"):
        determinism.choose_device(Experiment.from_name("lenet_bn_1_digits", settings))
