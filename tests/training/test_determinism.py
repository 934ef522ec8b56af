"""Each level sets what it says, reads it back, and refuses to start where a variable came too late."""

import json
import os
import subprocess
import sys

import pytest

from ndrepro.spec.determinism import LEVELS, variables

# in a process of its own: flags are the whole process's
SCRIPT = """
import json, os
from ndrepro.spec.determinism import LEVELS, variables
from ndrepro.spec.errors import NdreproError
from ndrepro.spec.experiment import Experiment
from ndrepro.training import determinism

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
