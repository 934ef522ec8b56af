"""The canonical level's digests, kept in golden/canonical.json, come out on whatever processor this runs.

Every operation of the comparison, two small trainings and, where the official Fashion-MNIST files are, the first steps
of an epoch of them, beside the trail that is kept of the whole, at every change, also under the limits of ``make
test-isa``; under further limits, and the trainings of docs/explanation/determinism.md, among the slow tests. ``make
canonical`` has the whole epochs, which CI leaves out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.child_process import child_variables
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.determinism import INSTRUCTION_LIMITS
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, write_json
from provenance.formats.digest import file_digest
from provenance.formats.trail import Trail, compare

pytestmark = pytest.mark.numerics
ROOT = Path(__file__).resolve().parents[3]
GOLDEN = json.loads((Path(__file__).parent / "golden" / "canonical.json").read_text(encoding="utf-8"))
PAGE = ROOT / "docs" / "explanation" / "determinism.md"
FILES = ("trail", "weights", "metrics")
SMALL = [run for run in GOLDEN["runs"] if not run["slow"]]
EPOCHS, STEPS = ROOT / "docs" / "runs" / "canonical_epoch" / "whole.tar.xz", 8
# Beside those of `make test-isa`. The level sets ATEN_CPU_CAPABILITY and MKL_CBWR itself, whatever they are here.
LIMITS = (
    {
        "ONEDNN_MAX_CPU_ISA": "AVX",
        "MKL_ENABLE_INSTRUCTIONS": "AVX",
        "OPENBLAS_CORETYPE": "Nehalem",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA",
    },
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_ENABLE_INSTRUCTIONS": "AVX512", "MKL_CBWR": "AVX512"},
)


def trained(
    runs: list[dict[str, Any]], root: Path, limits: Mapping[str, str], stop: str = ""
) -> tuple[str, list[RunFolder]]:
    """What one process under ``limits`` printed, and the folders of the runs that it trained."""
    folders, request = [], None
    for run in runs:
        experiment = Experiment.from_name(run["name"], {**run["settings"], "determinism": "canonical"})
        request = Request(experiment, str(data_check.locate(experiment, None)))
        folders.append(RunFolder(root / run["name"]))
        folders[-1].root.mkdir(parents=True)
        write_json(folders[-1].request, request.to_json())
    assert request is not None
    variables = child_variables(request, ROOT, {**os.environ, **limits})
    variables["PYTHONPATH"] += f"{os.pathsep}{ROOT / 'tests' / 'helpers'}"
    script = str(ROOT / "tests" / "helpers" / "canonical_training.py")
    words = [sys.executable, script, *(f"{folder.root}{stop}" for folder in folders)]
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, folders


def computed(runs: list[dict[str, Any]], root: Path, limits: Mapping[str, str]) -> tuple[dict[str, str], list[Any]]:
    """The digests of every operation, and each run with its own, from one process under ``limits``."""
    operations, folders = trained(runs, root, limits)
    digests = [{name: file_digest(getattr(folder, name)).sha256[:12] for name in FILES} for folder in folders]
    return json.loads(operations), [{**run, **each} for run, each in zip(runs, digests, strict=True)]


def differing(operations: Mapping[str, str]) -> list[str]:
    """Operations of the comparison whose digests are not the kept ones; torch's own forms are no promise."""
    golden = GOLDEN["operations"]
    assert operations.keys() == golden.keys()
    return [name for name in golden if operations[name] != golden[name] and not name.startswith("torch ")]


def test_every_operation_and_two_trainings_have_their_digests_here(tmp_path: Path) -> None:
    operations, runs = computed(SMALL, tmp_path, {})
    assert differing(operations) == []
    assert runs == SMALL
    assert len(operations) > 300 and {run["name"].split("_")[1] for run in runs} == {"bn", "nd"}
    changed = next(iter(operations))
    assert differing({**operations, changed: "0" * 16}) == [changed], "the comparison sees one"


@pytest.mark.slow
@pytest.mark.parametrize("limits", LIMITS, ids=lambda each: each["ONEDNN_MAX_CPU_ISA"])
def test_they_are_the_same_under_other_limits_of_the_instruction_sets(limits: dict[str, str], tmp_path: Path) -> None:
    operations, runs = computed(SMALL, tmp_path, limits)
    assert differing(operations) == []
    assert runs == SMALL


@pytest.mark.skipif(
    "CI" in os.environ and any(name in os.environ for name in INSTRUCTION_LIMITS),
    reason="in CI, limits are for the two small trainings",
)
def test_an_epoch_of_fashion_mnist_starts_with_the_steps_of_the_trail_that_is_kept(tmp_path: Path) -> None:
    with tarfile.open(EPOCHS) as archive:
        archive.extractall(tmp_path / "kept", filter="data")
    epochs = [run for run in GOLDEN["runs"] if run["name"].endswith("_fashion_mnist") and not run["settings"]]
    kept = {run["name"]: next((tmp_path / "kept" / run["name"]).glob("*/trail.bin")) for run in epochs}
    assert [file_digest(kept[run["name"]]).sha256[:12] for run in epochs] == [run["trail"] for run in epochs]
    try:
        _, folders = trained(epochs, tmp_path / "here", {}, f"={STEPS}")
    except NdreproError as missing:
        pytest.skip(f"{missing.message}; {missing.cure}")
    for folder in folders:
        found = compare(Trail(folder.trail), Trail(kept[folder.root.name]))
        assert found.divergence is None and found.compared == STEPS + 1, found.divergence
    other = bytearray(folders[-1].trail.read_bytes())
    other[-1] ^= 1
    folders[-1].trail.write_bytes(other)
    divergence = compare(Trail(folders[-1].trail), Trail(kept[folders[-1].root.name])).divergence
    assert divergence is not None and divergence.step == STEPS, "the control"


@pytest.mark.slow
@pytest.mark.parametrize(
    "run", [run for run in GOLDEN["runs"] if run["slow"]], ids=lambda run: "-".join([run["name"], *run["settings"]])
)
def test_the_trainings_of_the_page_have_theirs(run: dict[str, Any], tmp_path: Path) -> None:
    if os.environ.get("CI") and run.get("minutes"):
        pytest.skip("a minute of a core or more: outside of CI, by `make canonical`")
    try:
        _, (found,) = computed([run], tmp_path, {})
    except NdreproError as missing:
        pytest.skip(f"{missing.message}; {missing.cure}")
    assert found == run


def test_the_page_has_these_digests() -> None:
    table = PAGE.read_text(encoding="utf-8").splitlines()
    for run in GOLDEN["runs"]:
        settings = ", ".join(f"{key}={value}" for key, value in run["settings"].items()) or "none"
        (row,) = (line for line in table if line.startswith(f"| `{run['name']}` | {settings} |"))
        assert row.split("|")[-4:-1] == [f" `{run[name]}` " for name in FILES], run["name"]
