"""The study of a canonical epoch that is kept: every signature holds, and all its runs have the same bits."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest

from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.experiment.determinism import CPU_ISAS
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import identity
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.attestation.verify import verify
from provenance.signatures.public_key import PublicKey

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "runs" / "canonical_epoch"
GOLDEN = json.loads((ROOT / "tests" / "execution" / "runs" / "golden" / "canonical.json").read_text(encoding="utf-8"))
RESULTS = ("trail.bin", "weights.safetensors", "metrics.jsonl", "states.jsonl")


def trusting() -> TrustPolicy:
    key = PublicKey.from_pem((KEPT / "author.pub").read_bytes())
    return TrustPolicy(Path(), None, (TrustedKey(key.pem, key.keyid, "the author", ""),))


def unpacked(name: str, folder: Path) -> RunsFolder:
    with tarfile.open(KEPT / name) as archive:
        archive.extractall(folder, filter="data")
    return RunsFolder(folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunsFolder:
    return unpacked("manifests.tar.xz", tmp_path_factory.mktemp("canonical_epoch"))


def of(runs: RunsFolder, method: str) -> dict[tuple[str, str], Manifest]:
    """The runs of a method by environment and instruction sets."""
    found = {}
    for folder in runs.runs():
        request = Request.from_json(read_json(folder.request))
        if request.experiment.method == method:
            conditions = (request.environment or MAIN, request.experiment.cpu_isa)
            found[conditions] = read_recorded(folder).manifest
    return found


def results(manifest: Manifest) -> dict[str, str]:
    return {item.path: item.sha256 for item in manifest.artifacts if item.path in RESULTS}


def test_every_run_of_the_study_is_kept_and_verifies(runs: RunsFolder) -> None:
    ledger = Ledger(runs.ledger)
    assert ledger.verify() == []
    assert {entry.run for entry in ledger.entries() if entry.run} == {folder.root.name for folder in runs.runs()}
    for folder in runs.runs():
        verdict = verify(folder.manifest, trust=trusting(), ledger=ledger, manifest_only=True)
        assert verdict.ok and verdict.manifest is not None and verdict.manifest.outcome == "completed", folder.root
    requests = [Request.from_json(read_json(folder.request)) for folder in runs.runs()]
    there = [identity(request.experiment, request.environment or MAIN) for request in requests]
    assert sorted(there) == sorted(run.identity for run in load_study(find_study("canonical_epoch")).runs())


def test_the_page_says_what_the_runs_scored_and_cost(runs: RunsFolder) -> None:
    text = " ".join((ROOT / "docs" / "explanation" / "determinism.md").read_text(encoding="utf-8").split())
    scores, seconds = {}, {}
    for method in ("bn", "nd"):
        manifests = of(runs, method).values()
        summaries = [item for each in manifests for item in each.byproducts if item.name == "metrics summary"]
        (summary,) = {json.dumps((item.annotations or {})["last"]) for item in summaries}
        scores[method] = 100 * json.loads(summary)["test_accuracy"]
        usage = [each.internal_parameters["usage"] for each in manifests]
        seconds[method] = sorted(each["user_seconds"] + each["system_seconds"] for each in usage)
    assert f"test accuracy {scores['bn']:.2f} % (bn) and {scores['nd']:.2f} % (nd)" in text
    bn, nd = (f"{each[0]:.0f} to {each[-1]:.0f}" for each in seconds.values())
    assert f"A run took {bn} CPU seconds (bn) and {nd} (nd)" in text


@pytest.mark.parametrize("method", ["bn", "nd"])
def test_every_limit_and_release_has_the_bits_of_the_golden_digests(runs: RunsFolder, method: str) -> None:
    manifests = of(runs, method)
    assert {isa for environment, isa in manifests if environment == MAIN} == CPU_ISAS.keys()
    assert len({environment for environment, _ in manifests}) == 5
    (first, *others) = (results(manifest) for manifest in manifests.values())
    assert len(first) == len(RESULTS) and all(other == first for other in others)
    (golden,) = (
        run for run in GOLDEN["runs"] if run["name"] == f"lenet_{method}_1_fashion_mnist" and not run["settings"]
    )
    digests = [golden["trail"], golden["weights"], golden["metrics"]]
    assert [first[name][:12] for name in RESULTS[:3]] == digests


def test_the_level_was_set_in_every_release(runs: RunsFolder) -> None:
    for folder in runs.runs():
        flags = read_recorded(folder).manifest.internal_parameters["determinism"]
        assert flags["level"] == "canonical" and flags["start"] == flags["end"]
        assert flags["start"]["cpu_capability"] in ("DEFAULT", "NO AVX") and not flags["start"]["mkldnn_enabled"]


def test_a_whole_run_of_either_method_is_kept_and_passes_every_check(tmp_path: Path) -> None:
    whole = unpacked("whole.tar.xz", tmp_path)
    folders: list[RunFolder] = list(whole.runs())
    assert {folder.root.parent.name.split("_")[1] for folder in folders} == {"bn", "nd"}
    page = (ROOT / "docs" / "explanation" / "determinism.md").read_text(encoding="utf-8")
    named = re.findall(r"ndrepro reproduce canonical/(\S+)", page)
    assert named and all((tmp_path / each).is_dir() for each in named)
    for folder in folders:
        assert verify(folder.root, trust=trusting(), extra_checks=checks_of).ok, folder.root
    folders[0].trail.write_bytes(b"other")
    assert not verify(folders[0].root, trust=trusting(), extra_checks=checks_of).ok, "the control"
