"""The study of releases that is kept: every signature holds, every run of the study file is there, and the
bisection's runs say what the page says of them."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path

import pytest

from ndrepro.execution.bisect.lock_diff import changes
from ndrepro.execution.environments.matrix import cell
from ndrepro.execution.imports.run_import import Imported, import_runs
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.execution.studies.study_file import load_study
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import identity
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.formats.trail import Trail, compare
from provenance.signatures.public_key import PublicKey

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "runs" / "versions"


def trusting() -> TrustPolicy:
    public = PublicKey.from_pem((KEPT / "author.pub").read_bytes())
    return TrustPolicy(Path(), None, (TrustedKey(public.pem, public.keyid, "the author", ""),))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return import_runs(KEPT / "study.tar.xz", tmp_path_factory.mktemp("kept"), "study", trusting())


def test_every_kept_manifest_verifies_with_the_ledger(study: Imported) -> None:
    assert [run for run in study.runs if not run.taken] == []
    assert {run.signer for run in study.runs} == {"the author"}


def test_every_run_of_the_study_is_there_and_completed(study: Imported) -> None:
    """A run that was made twice is no harm (the second is a repeat); one that is missing would be."""
    assert study.folder is not None
    there: set[str] = set()
    for run in RunsFolder(study.folder).runs():
        if read_recorded(run).manifest.outcome == "completed":
            request = Request.from_json(read_json(run.request))
            there.add(identity(request.experiment, request.environment or MAIN))
    asked = {run.identity for run in load_study(ROOT / "studies" / "versions.toml").runs()}
    assert len(asked) == 140
    assert asked - there == set()


def test_releases_part_where_the_page_says(study: Imported) -> None:
    """Seeds 0: which cells leave the same trail, bit for bit."""
    assert study.folder is not None
    for method, groups in {"bn": 4, "nd": 4}.items():
        trails: dict[bytes, set[str]] = {}
        for run in RunsFolder(study.folder).runs():
            request = Request.from_json(read_json(run.request))
            experiment = request.experiment
            plain = experiment.threads == 1 and experiment.nudge == "none" and experiment.seeds.order is None
            if (experiment.method, experiment.seed) == (method, 0) and plain:
                trails.setdefault(run.trail.read_bytes(), set()).add(request.environment)
        assert len(trails) == groups
        assert {"torch-2.8.0", "torch-2.13.0"} in trails.values()


def test_the_bisection_turns_between_the_releases_that_it_names(tmp_path: Path) -> None:
    taken = import_runs(KEPT / "bisect-torch-2.4.1-2.8.0.tar.xz", tmp_path, "bisect", trusting())
    assert taken.folder is not None and all(run.taken for run in taken.runs)
    completed = (run for run in RunsFolder(taken.folder).runs() if read_recorded(run).manifest.outcome == "completed")
    runs = {run.root.name: run for run in completed}

    def at(environment: str) -> RunFolder:
        return next(
            run
            for run in runs.values()
            if Request.from_json(read_json(run.request)).environment.startswith(environment)
        )

    first, last = at("torch-2.4.1"), at("torch-2.8.0")
    versions = {name: Trail(run.trail) for name, run in runs.items()}
    same = [name for name, trail in versions.items() if compare(trail, Trail(first.trail)).identical]
    assert len(same) == len(runs) - 1 and last.root.name not in same
    divergence = compare(Trail(first.trail), Trail(last.trail)).divergence
    assert divergence is not None and (divergence.step, divergence.loss_differs, len(divergence.tensors)) == (
        1,
        False,
        26,
    )


PAGE = ROOT / "docs" / "findings" / "sensitivity.md"


@pytest.mark.parametrize(("first", "second"), [("torch-2.4.1", "torch-2.8.0"), ("torch-1.13.1", "torch-2.0.1")])
def test_the_ends_of_a_bisection_diverge_as_the_page_says(first: str, second: str, tmp_path: Path) -> None:
    archive = f"bisect-{first}-{second.removeprefix('torch-')}.tar.xz"
    taken = import_runs(KEPT / archive, tmp_path, "bisect", trusting())
    assert taken.folder is not None
    trails = {}
    for run in RunsFolder(taken.folder).runs():
        if run.trail.exists():
            trails.setdefault(Request.from_json(read_json(run.request)).environment, Trail(run.trail))
    divergence = compare(trails[first], trails[second]).divergence
    assert divergence is not None
    differing, total = len(divergence.tensors), len(trails[first].tensors)
    page = PAGE.read_text(encoding="utf-8")
    line = f"| B: {second} | changed | from step {divergence.step}, in {differing} of {total} tensors"
    assert line in page
    if second == "torch-2.0.1":
        assert (
            f"the rest as it needs | changed | from step {divergence.step}, in {differing} of {total} tensors |" in page
        )


def test_the_locks_differ_as_the_page_says() -> None:
    differences = changes(cell("torch-2.4.1"), cell("torch-2.8.0"))
    libraries = sum(change.name.startswith("nvidia-") for change in differences)
    text = PAGE.read_text(encoding="utf-8")
    assert f"All {len(differences)} differences of the two locks move together" in text
    assert f"torchvision, triton, setuptools and {libraries} CUDA libraries of B" in text


def test_a_kept_manifest_that_was_changed_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    with lzma.open(KEPT / "bisect-torch-2.4.1-2.8.0.tar.xz") as stream, tarfile.open(fileobj=stream) as archive:
        archive.extractall(folder, filter="data")
    manifest = next(folder.rglob("manifest.dsse.json"))
    manifest.write_bytes(manifest.read_bytes().replace(b'"payload":"e', b'"payload":"f', 1))
    taken = import_runs(folder, tmp_path, "bisect", trusting())
    assert sum(not run.taken for run in taken.runs) == 1
