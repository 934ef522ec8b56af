"""The signed manifests that are kept beside the documentation hold, and say what the table says."""

import csv
import json
import lzma
import sys
import tarfile
from datetime import datetime
from pathlib import Path
from statistics import mean, stdev

import pytest

from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.study.study import identity
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.digest import file_digest
from provenance.signatures.public_key import PublicKey

ROOT = Path(__file__).parents[1]
RESULTS = (ROOT / "docs" / "findings" / "results.md").read_text(encoding="utf-8")
KEPT = sorted((ROOT / "docs" / "runs").glob("*/manifest.dsse.json"))
STUDIES = sorted((ROOT / "docs" / "runs").glob("small_studies/manifests.tar.xz"))


def trusting(key: Path) -> TrustPolicy:
    public = PublicKey.from_pem(key.read_bytes())
    return TrustPolicy(Path(), None, (TrustedKey(public.pem, public.keyid, "the author", ""),))


@pytest.mark.parametrize("manifest", KEPT, ids=lambda path: path.parent.name)
def test_a_kept_manifest_verifies_and_sums_up_its_metrics(manifest: Path) -> None:
    trust = trusting(manifest.with_name("author.pub"))
    verdict = verify(manifest, trust=trust, manifest_only=True)
    assert verdict.ok and verdict.manifest is not None
    (summary,) = (item for item in verdict.manifest.byproducts if item.name == "metrics summary")
    last = json.loads(manifest.with_name("metrics.jsonl").read_text().splitlines()[-1])
    assert summary.annotations is not None and summary.annotations["last"] == last
    train, test = (f"{100 * last[f'{side}_accuracy']:.2f} %" for side in ("train", "test"))
    row = next(line for line in RESULTS.splitlines() if line.startswith(f"| {manifest.parent.name}, seed 0 |"))
    name, data = manifest.parent.name, row.split(" | ")[1]
    assert row == f"| {name}, seed 0 | {data} | {train} | {test} | 1 | {published(name)} |"
    if manifest.parent.name == "vgg16_nd_1":
        there = float(published(name).partition(" ")[0])
        assert f"deconvolved it is at {100 * last['test_accuracy']:.0f} % here, at {there:.0f} % there" in RESULTS
        started, finished = map(datetime.fromisoformat, (verdict.manifest.started_on, verdict.manifest.finished_on))
        assert verdict.manifest.internal_parameters["threads"] == 2
        assert f"Vgg16_nd_1 took {(finished - started).total_seconds() / 60:.1f} minutes with two threads" in RESULTS
    else:
        assert verdict.manifest.internal_parameters["threads"] == 1


def published(name: str) -> str:
    """The test accuracies of Table 1, the original's and those of the replication's attempts, as the page has them."""
    arch, method, epochs = name.split("_")
    with (ROOT / "published" / "table1_attempts.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["dataset"] == "cifar10" and row["architecture"] == arch]
    rows = [row for row in rows if (row["method"], row["epochs"]) == (method, epochs)]
    if not rows:
        return "none"
    again = ", ".join(f"{float(row['reproduced_accuracy_pct']):.2f}" for row in rows)
    return f"{float(rows[0]['original_accuracy_pct']):.2f} % (original), {again} % (replication)"


def test_a_changed_one_does_not(tmp_path: Path) -> None:
    content = KEPT[0].read_bytes()
    changed = tmp_path / "manifest.dsse.json"
    changed.write_bytes(content.replace(b'"payload":"e', b'"payload":"f', 1))
    assert not verify(changed, trust=trusting(KEPT[0].with_name("author.pub")), manifest_only=True).ok


@pytest.fixture(params=STUDIES, ids=lambda path: path.parent.name)
def unpacked(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, RunsFolder]:
    """The archive of a folder of runs, and that folder again, without what was not kept."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return request.param, RunsFolder(tmp_path)


def test_every_kept_manifest_of_the_studies_verifies(unpacked: tuple[Path, RunsFolder]) -> None:
    archive, runs = unpacked
    assert archive.stat().st_size < 3_000_000
    trust, ledger = trusting(archive.with_name("author.pub")), Ledger(runs.ledger)
    assert ledger.verify() == []
    begun = {entry.run for entry in ledger.entries() if entry.run}
    assert begun == {folder.root.name for folder in runs.runs()}, "no run is left out"
    done: dict[str, bytes] = {}
    for folder in runs.runs():
        verdict = verify(folder.manifest, trust=trust, ledger=ledger, manifest_only=True)
        assert verdict.ok and verdict.manifest is not None, folder.root
        assert verdict.manifest.outcome == "completed"
        signed = {item.path: item.sha256 for item in verdict.manifest.artifacts}
        assert signed["metrics.jsonl"] == file_digest(folder.metrics).sha256
        asked = verdict.manifest.external_parameters
        key = identity(Experiment.from_json(asked["experiment"]), asked["environment"])
        results = folder.metrics.read_bytes()
        assert done.setdefault(key, results) == results, "a run that was run twice has the same results, bit for bit"
    for name in ("seeds_small", "generalization_small"):
        assert {run.identity for run in load_study(find_study(name)).runs()} <= set(done), "every run is here"
    assert len(done) == 127, "and a third seed of one"
    assert f"ledger of the {len(done) - 1} runs of `seeds_small` and `generalization_small` (and one more seed)" in (
        " ".join(RESULTS.split())
    )
    assert not verify(folder.manifest, trust=trusting(KEPT[0].with_name("author.pub")), manifest_only=True).ok


def test_packing_the_same_runs_again_gives_the_same_archive(unpacked: tuple[Path, RunsFolder]) -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import kept_runs
    finally:
        sys.path.remove(str(ROOT / "tools"))
    archive, runs = unpacked
    packed = lzma.decompress(archive.read_bytes())
    assert kept_runs.tar(runs) == packed
    runs.runs()[0].metrics.write_text("other results")
    assert kept_runs.tar(runs) != packed


def test_either_kernel_trains_to_the_same_accuracy_within_the_noise_of_seeds(tmp_path: Path) -> None:
    """One epoch of CIFAR-10 from its JPEG images, three seeds each: docs/findings/performance.md."""
    archive = ROOT / "docs" / "runs" / "kernels" / "manifests.tar.xz"
    with tarfile.open(archive) as content:
        content.extractall(tmp_path, filter="data")
    runs = RunsFolder(tmp_path)
    trust, ledger = trusting(archive.with_name("author.pub")), Ledger(runs.ledger)
    accuracies: dict[str, list[float]] = {"reference": [], "fast": []}
    timings: dict[str, list[dict[str, float]]] = {"reference": [], "fast": []}
    for folder in runs.runs():
        verdict = verify(folder.manifest, trust=trust, ledger=ledger, manifest_only=True)
        assert verdict.ok and verdict.manifest is not None, folder.root
        (summary,) = (item for item in verdict.manifest.byproducts if item.name == "metrics summary")
        kernel = verdict.manifest.external_parameters["experiment"]["deconv_kernel"]
        accuracies[kernel].append(100 * summary.annotations["last"]["test_accuracy"])
        timings[kernel].append(json.loads(folder.timing.read_text(encoding="utf-8")))
    (reference, fast), deviation = accuracies.values(), max(map(stdev, accuracies.values()))
    assert len(reference) == len(fast) == 3
    assert abs(mean(reference) - mean(fast)) < 2 * deviation * (2 / 3) ** 0.5
    page = (ROOT / "docs" / "findings" / "performance.md").read_text(encoding="utf-8")
    for kernel, rows in timings.items():
        seconds, of = [row["train_seconds"] for row in rows], accuracies[kernel]
        assert f"| {kernel} | {mean(of):.2f} % ({stdev(of):.2f}) | {min(seconds):.0f} to {max(seconds):.0f} |" in page
    apart, error = mean(reference) - mean(fast), ((stdev(reference) ** 2 + stdev(fast) ** 2) / 3) ** 0.5
    assert f"The difference of {apart:.1f} points is {apart / error:.1f} standard errors" in page
    assert "mean and standard deviation of seeds (n=3)" in page
    trail, test = (
        [100 * row[f"{part}_seconds"] / row["train_seconds"] for row in timings["fast"]] for part in ("trail", "test")
    )
    assert f"the trail took {min(trail):.1f} to {max(trail):.1f} % of the fast runs' training time" in page
    assert f"and evaluation {min(test):.1f} to {max(test):.1f} %" in page
