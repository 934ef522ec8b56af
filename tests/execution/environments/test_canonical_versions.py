"""The canonical level gives the same bits in old and new torch, from the first operation to the end of a training.

Three versions of torch are compared here: 1.13.1, the study's own, which other tests need too; 2.4.1, between two
changes of kernels; and that of this environment. docs/explanation/determinism.md has the table of all five,
longer trainings and larger networks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ndrepro.execution.environments.matrix import cell, create
from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.child_process import child_variables
from ndrepro.protocol.errors import EnvironmentMissing
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, write_json
from provenance.formats.trail import Trail, compare

pytestmark = [pytest.mark.old_environment, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[3]
CELLS = ("torch-1.13.1", "torch-2.4.1", "")
NAMES = ("lenet_nd_2_digits", "vgg11_bn_1_digits")
FEW = {"train_images": "48", "test_images": "16", "batch_size": "16", "determinism": "canonical", "threads": "1"}


def python_of(environment: str) -> str:
    if not environment:
        return sys.executable
    try:
        return str(create(cell(environment)))
    except EnvironmentMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{missing.message}; {missing.cure}")


def trained(environment: str, root: Path) -> tuple[dict[str, str], list[RunFolder]]:
    """The digests of all operations, and a training of each network."""
    folders = []
    for name in NAMES:
        experiment = Experiment.from_name(name, FEW)
        request = Request(experiment, str(data_check.locate(experiment, None)), environment)
        folders.append(RunFolder(root / (environment or "here") / name))
        folders[-1].root.mkdir(parents=True)
        write_json(folders[-1].request, request.to_json())
    variables = child_variables(request, ROOT, os.environ)
    variables["PYTHONPATH"] += f"{os.pathsep}{ROOT / 'tests' / 'helpers'}"
    script = ROOT / "tests" / "helpers" / "canonical_training.py"
    words = [python_of(environment), str(script), *(str(folder.root) for folder in folders)]
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folders


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[dict[str, str], list[RunFolder]]]]:
    root = tmp_path_factory.mktemp("canonical")
    yield {environment: trained(environment, root) for environment in CELLS}


Found = dict[str, tuple[dict[str, str], list[RunFolder]]]


@pytest.mark.parametrize("environment", CELLS[:-1])
def test_every_operation_gives_the_same_bits(found: Found, environment: str) -> None:
    then, now = found[environment][0], found[""][0]
    differing = {name for name in now if then[name] != now[name]}
    assert then.keys() == now.keys()
    assert {name for name in differing if not name.startswith("torch ")} == set()
    assert differing, "torch's own square root is known to differ: a comparison that cannot see it sees nothing"


@pytest.mark.parametrize("environment", CELLS[:-1])
@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
def test_a_whole_training_gives_the_same_bits(found: Found, environment: str, index: int) -> None:
    then, now = found[environment][1][index], found[""][1][index]
    compared = compare(Trail(then.trail), Trail(now.trail))
    assert compared.identical, compared.divergence
    assert compared.compared > 3
    for name in ("trail", "metrics", "weights"):
        assert getattr(then, name).read_bytes() == getattr(now, name).read_bytes()
