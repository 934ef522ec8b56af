"""The study of image compression that is kept: every signature holds, and the table is of its manifests."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from ndrepro.analysis.results.results import Results, read_results
from ndrepro.analysis.statistics.intervals import Interval, mean_interval
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.signatures.public_key import PublicKey

DOCS = Path(__file__).resolve().parents[1] / "docs"
KEPT, PAGE = DOCS / "runs" / "jpeg_quality", DOCS / "findings" / "results.md"
AS_GIVEN, COPIES = 75, (50, 30, 15)
SIMULTANEOUS = 1 - 0.05 / (2 * len(COPIES))  # Bonferroni: two methods, three copies


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Results]:
    key = PublicKey.from_pem((KEPT / "author.pub").read_bytes())
    policy = TrustPolicy(Path(), None, (TrustedKey(key.pem, key.keyid, "the author", ""),))
    found = {}
    for quality in (AS_GIVEN, *COPIES):
        folder = tmp_path_factory.mktemp(f"quality-{quality}")
        with tarfile.open(KEPT / f"quality-{quality}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        found[quality] = read_results(folder, policy=policy)
    return found


def accuracies(results: Results, method: str) -> list[float]:
    rows = sorted((row for row in results.rows if row.method == method), key=lambda row: row.seed)
    return [row.test_accuracy_percent for row in rows]


def test_every_run_is_there_and_each_copy_has_data_of_its_own(results: dict[int, Results]) -> None:
    asked = {(run.experiment.method, run.experiment.seed) for run in load_study(find_study("jpeg_quality")).runs()}
    for found in results.values():
        assert {(row.method, row.seed) for row in found.rows} == asked
        assert not found.refused and not found.unfinished and not found.lost
        assert {row.official_data for row in found.rows} == {False}
    data = [{_data(row.folder) for row in found.rows} for found in results.values()]
    assert all(len(each) == 1 for each in data) and len(set.union(*data)) == len(results)


def test_the_table_is_of_the_manifests(results: dict[int, Results]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for quality, found in results.items():
        cells = [_mean(mean_interval(accuracies(found, method))) for method in ("bn", "nd")]
        for method in ("bn", "nd"):
            before, after = accuracies(results[AS_GIVEN], method), accuracies(found, method)
            moved = [late - early for early, late in zip(before, after, strict=True)]
            interval = None if quality == AS_GIVEN else mean_interval(moved, confidence=SIMULTANEOUS)
            cells.append("as given" if interval is None else _difference(interval))
        row = f"| {quality} | {cells[0]} | {cells[1]} | {cells[2]} | {cells[3]} |"
        assert row in page, row


def test_the_lead_of_deconvolution_is_of_the_manifests(results: dict[int, Results]) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("\n", " ")
    first, last = (
        sum(accuracies(results[quality], "nd")) / 5 - sum(accuracies(results[quality], "bn")) / 5
        for quality in (AS_GIVEN, COPIES[-1])
    )
    assert f"its lead shrinks from {first:.2f} points to {last:.2f}" in page


def test_the_qualities_at_which_deconvolution_loses_are_those_of_the_page(results: dict[int, Results]) -> None:
    below = []
    for quality in COPIES:
        for method in ("bn", "nd"):
            before, after = accuracies(results[AS_GIVEN], method), accuracies(results[quality], method)
            moved = [late - early for early, late in zip(before, after, strict=True)]
            below += [(method, quality)] if mean_interval(moved, confidence=SIMULTANEOUS).high < 0 else []
    (_, one), (_, two) = below
    assert {method for method, _ in below} == {"nd"}
    assert f"Deconvolution loses at quality {one} and {two}; for batch norm, and for quality 50" in PAGE.read_text(
        encoding="utf-8"
    ).replace("\n", " ")


def _data(folder: Path) -> str:
    manifest = read_recorded(RunFolder(folder)).manifest
    (found,) = (item.digest["sha256"] for item in manifest.dependencies if item.name.startswith("dataset"))
    return found


def _mean(interval: Interval) -> str:
    return f"{interval.estimate:.2f} +- {interval.high - interval.estimate:.2f} %"


def _difference(interval: Interval) -> str:
    return f"{interval.estimate:+.2f} ({interval.low:.2f} to {interval.high:.2f})"
