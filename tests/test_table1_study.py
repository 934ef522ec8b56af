"""What is there of Table 1's first column: every signature holds, and the page's table is of the manifests."""

from __future__ import annotations

import csv
import tarfile
from collections import defaultdict
from pathlib import Path

import pytest

from ndrepro.analysis.results.result_row import ResultRow
from ndrepro.analysis.results.results import Results, read_results
from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.execution.verification.checks_by_kind import checks_of
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.signatures.public_key import PublicKey

ROOT = Path(__file__).resolve().parents[1]
KEPT, PAGE = ROOT / "docs" / "runs" / "table1_epoch1", ROOT / "docs" / "findings" / "results.md"
# the replication's ResNet-18 is another network than the original's
REPLICATED_AS = {"resnet18d": "resnet18"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("table1")
    with tarfile.open(KEPT / "manifests.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    key = PublicKey.from_pem((KEPT / "author.pub").read_bytes())
    policy = TrustPolicy(Path(), None, (TrustedKey(key.pem, key.keyid, "the author", ""),))
    return read_results(folder, policy=policy, checks=checks_of)


def published() -> dict[tuple[str, str], tuple[float, list[float]]]:
    """Accuracy in % after one epoch of CIFAR-10, by network and method: the original's, and the replication's."""
    found: dict[tuple[str, str], tuple[float, list[float]]] = {}
    attempts: dict[tuple[str, str], list[float]] = defaultdict(list)
    with (ROOT / "published" / "table1_attempts.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["dataset"], row["epochs"]) == ("cifar10", "1"):
                cell = row["architecture"], row["method"]
                attempts[cell].append(float(row["reproduced_accuracy_pct"]))
                found[cell] = float(row["original_accuracy_pct"]), attempts[cell]
    return found


def line(row: ResultRow) -> str:
    """The page's line of one run."""
    original, replication = published()[REPLICATED_AS.get(row.arch, row.arch), row.method]
    here = row.test_accuracy_percent
    beside = "other network" if row.arch in REPLICATED_AS else f"{original:.2f} ({here - original:+.2f})"
    within = "yes" if min(abs(here - each) / each for each in replication) <= 0.1 else "no"
    attempts = ", ".join(f"{each:.2f}" for each in replication)
    trained = row.train_accuracy_percent
    return f"| {row.arch} {row.method} | {trained:.2f} | {here:.2f} | {beside} | {attempts} | {within} |"


def test_the_table_is_of_the_manifests(results: Results) -> None:
    asked = {run.experiment for run in load_study(find_study("table1_epoch1")).runs()}
    assert len(asked) == 22 and not results.refused
    counted = results.rows
    assert {row.seed for row in counted} == {0}
    page = PAGE.read_text(encoding="utf-8")
    lines = {line(row) for row in counted}
    for each in lines:
        assert each in page, each
    assert f"{len(lines)} of its 22 cells" in page
    section = page.partition("## Table 1's first column")[2].partition("\n## ")[0]
    assert sum(text.startswith("| ") for text in section.splitlines()) == len(lines) + 2, "no other cell is there"
