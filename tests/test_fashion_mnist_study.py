"""The study of Fashion-MNIST that is kept: official files, every signature holds, and the table is of its manifests."""

from __future__ import annotations

import tarfile
from pathlib import Path
from statistics import mean

import pytest

from ndrepro.analysis.results.result_row import ResultRow
from ndrepro.analysis.results.results import Results, read_results
from ndrepro.analysis.statistics.intervals import mean_interval, prediction_interval
from ndrepro.analysis.statistics.paired import paired_t_test
from ndrepro.execution.studies.study_file import find_study, load_study
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.signatures.public_key import PublicKey

DOCS = Path(__file__).resolve().parents[1] / "docs"
KEPT, PAGE = DOCS / "runs" / "fashion_mnist", DOCS / "findings" / "results.md"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("fashion_mnist")
    with tarfile.open(KEPT / "manifests.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    key = PublicKey.from_pem((KEPT / "author.pub").read_bytes())
    policy = TrustPolicy(Path(), None, (TrustedKey(key.pem, key.keyid, "the author", ""),))
    return read_results(folder, policy=policy)


def of(results: Results, arch: str, method: str) -> list[ResultRow]:
    rows = (row for row in results.rows if (row.arch, row.method) == (arch, method))
    return sorted(rows, key=lambda row: row.seed)


def test_every_run_is_there_on_the_official_files(results: Results) -> None:
    asked = [run.experiment for run in load_study(find_study("fashion_mnist")).runs()]
    assert sorted((row.arch, row.method, row.seed) for row in results.rows) == sorted(
        (experiment.arch, experiment.method, experiment.seed) for experiment in asked
    )
    assert all(row.official_data is True for row in results.rows)
    assert not results.refused and not results.unfinished
    assert not results.lost and results.started == results.cost().runs == 12


@pytest.mark.parametrize("arch", ["lenet", "vgg11"])
def test_the_table_is_of_the_manifests(results: Results, arch: str) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("\n", " ")
    for method in ("bn", "nd"):
        rows = of(results, arch, method)
        train, test = ([getattr(row, f"{side}_accuracy_percent") for row in rows] for side in ("train", "test"))
        intervals = [mean_interval(values) for values in (train, test)]
        cells = [f"{each.estimate:.2f} +- {each.high - each.estimate:.2f} %" for each in intervals]
        more = prediction_interval(test)
        seconds = [row.cost.cpu_seconds or 0.0 for row in rows]
        one_more, took = f"+- {more.high - mean(test):.2f}", f"{min(seconds):.0f} to {max(seconds):.0f}"
        line = f"| {arch} {method} | {len(rows)} | {cells[0]} | {cells[1]} | {one_more} | {took} |"
        assert line in page, line
    pairs = zip(of(results, arch, "nd"), of(results, arch, "bn"), strict=True)
    moved = [nd.test_accuracy_percent - bn.test_accuracy_percent for nd, bn in pairs]
    found = mean_interval(moved)
    assert f"by {found.estimate:.2f} points ({found.low:.2f} to {found.high:.2f}; three pairs" in page
    if arch == "lenet":
        p_value = paired_t_test(moved)
        assert min(moved) > 5 and f"each of the three above 5; paired t-test, p = {p_value:.3f})" in page
    else:
        bn = [row.test_accuracy_percent for row in of(results, arch, "bn")]
        assert f"the three seeds ended at {bn[0]:.2f}, {bn[1]:.2f} and {bn[2]:.2f} %" in page
        deconvolved = [row.test_accuracy_percent for row in of(results, arch, "nd")]
        assert f"independent of the seed ({min(deconvolved):.2f} to {max(deconvolved):.2f} %)" in page
