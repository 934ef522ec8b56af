"""The inner half trains inside the study's own environment, with the same first weights and the same record."""

import json
import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import few_steps
import pytest
from miniature_imagenet import Miniature, make
from real_runs import Bench

from ndrepro.execution.environments.matrix import cell, create
from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.run import Finished
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.protocol.errors import EnvironmentMissing
from ndrepro.protocol.experiment.determinism import variables
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.project_folders import CODE
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.trail import Trail, compare

pytestmark = pytest.mark.old_environment
CELL = "torch-1.13.1"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Finished]:
    """A run of a few steps under Python 3.10, torch 1.13.1, torchvision 0.14.1, numpy 1.23.5."""
    try:
        create(cell(CELL))
    except EnvironmentMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{missing.message}; {missing.cure}")
    bench = Bench(tmp_path_factory.mktemp("old"))
    bench.options = replace(bench.options, environment=CELL)
    return bench, bench.run()


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return make(tmp_path_factory.mktemp("imagenet"))


def test_it_trains_and_verifies(old: tuple[Bench, Finished]) -> None:
    bench, ended = old
    assert ended.error is None
    ledger = Ledger(bench.options.runs.ledger)
    verdict = verify(ended.folder.root, trust=TrustPolicy.load(bench.options.home), ledger=ledger, extra_checks=CHECKS)
    assert [check.message for check in verdict.checks if check.status != "pass"] == []
    assert verdict.manifest is not None
    versions = {
        resource.name: resource.uri for resource in verdict.manifest.dependencies if "distribution:" in resource.name
    }
    assert versions["distribution:torch"] == "pkg:pypi/torch@1.13.1"
    assert versions["distribution:torchvision"] == "pkg:pypi/torchvision@0.14.1"
    assert versions["distribution:numpy"] == "pkg:pypi/numpy@1.23.5"
    assert verdict.manifest.external_parameters["environment"] == CELL
    assert "3.10." in json.dumps(verdict.manifest.machine["interpreter"])


def test_first_weights_are_the_same(old: tuple[Bench, Finished], finished: Finished) -> None:
    """Whether arithmetic then differs is a matter of the processor's kernels; on those that were seen it does."""
    _, ended = old
    comparison = compare(Trail(ended.folder.trail), Trail(finished.folder.trail))
    assert comparison.lengths[0] == comparison.lengths[1]
    assert comparison.divergence is None or comparison.divergence.step >= 1


@pytest.mark.slow
def test_small_networks_and_imagenet_train_there_too(
    old: tuple[Bench, Finished], miniature: Miniature, tmp_path: Path
) -> None:
    level = variables("deterministic", 1)
    digits = data_check.locate(Experiment.from_name("lenet_bn_1_digits"), None)
    folders = [str(tmp_path / "runs"), str(digits), str(miniature.folders)]
    ended = subprocess.run(
        [create(cell(CELL)), "-W", "error", few_steps.__file__, *folders],
        env={**os.environ, **level, "PYTHONPATH": str(CODE), "NDREPRO_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["torch"].startswith("1.13.1") and "unavailable" in told["flags"]["matmul_bf16_reduced_precision"]
    networks = told["networks"]
    refused = networks.pop("lenet_bn_1_digits")
    assert "has no torch.compile, which came with 2.0" in refused["refused"]
    assert [each.get("steps") for each in networks.values()] == [1] * 5, networks
    assert all(math.isfinite(each["loss"]) for each in networks.values())
