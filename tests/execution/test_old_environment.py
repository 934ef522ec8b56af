"""The inner half trains inside the study's own environment, with the same first weights and the same record."""

import json
import os
from dataclasses import replace

import pytest
from real_runs import Bench

from ndrepro.execution.checks import CHECKS
from ndrepro.execution.environments import cell, create
from ndrepro.execution.run import Finished
from ndrepro.spec.errors import EnvironmentMissing
from provenance.ledger import Ledger
from provenance.trail import Trail, compare
from provenance.trust import TrustPolicy
from provenance.verify import verify

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


def test_first_weights_are_the_same_and_then_arithmetic_differs(
    old: tuple[Bench, Finished], finished: Finished
) -> None:
    _, ended = old
    comparison = compare(Trail(ended.folder.trail), Trail(finished.folder.trail))
    assert comparison.lengths[0] == comparison.lengths[1]
    assert comparison.divergence is not None
    assert comparison.divergence.step == 1
