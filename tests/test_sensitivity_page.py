"""The page about releases of torch says what its kept, signed manifests say."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from run_moves import leads, moves

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.sensitivity.analysis import AnalysisOptions, Sensitivity, sensitivity_of
from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.report.sections.sensitivity_text import markdown
from ndrepro.text.markdown import markdown_text
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.signatures.public_key import PublicKey

DOCS = Path(__file__).resolve().parents[1] / "docs"
KEPT, PAGE = DOCS / "runs" / "versions", DOCS / "sensitivity" / "sensitivity.md"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Sensitivity:
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(KEPT / "study.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    key = PublicKey.from_pem((KEPT / "author.pub").read_bytes())
    policy = TrustPolicy(Path(), None, (TrustedKey(key.pem, key.keyid, "the author", ""),))
    return sensitivity_of(read_results(folder / "study", policy=policy, checks=checks_of), AnalysisOptions())


def numbers(page: str) -> list[str]:
    """The rows of every table from the numbers on: trails are kept of one seed only, and bits are above them."""
    return [line for line in page[page.index("## Numbers") :].splitlines() if line.startswith("| ")]


def test_every_number_of_the_page_comes_out_of_the_manifests(found: Sensitivity) -> None:
    assert len(found.scores.rows) == 154 and not found.scores.refused and not found.design.missing
    kept = numbers(PAGE.read_text(encoding="utf-8"))
    assert numbers(markdown(found)) == kept and len(kept) > 40


def test_the_bits_of_the_seed_that_is_kept_fall_into_the_groups_of_the_page(found: Sensitivity) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for bits in found.bits:
        assert ("torch-2.8.0", "torch-2.13.0") in bits.groups
        assert f"{markdown_text(bits.subject)}: {len(bits.groups)} groups of equal bits: " in page


def test_another_number_would_be_seen(found: Sensitivity) -> None:
    from dataclasses import replace

    row = found.scores.rows[0]
    rows = (replace(row, test_accuracy_percent=row.test_accuracy_percent + 1), *found.scores.rows[1:])
    changed = sensitivity_of(replace(found.scores, rows=rows), AnalysisOptions())
    assert numbers(markdown(changed)) != numbers(PAGE.read_text(encoding="utf-8"))


def test_what_single_runs_moved_is_as_the_summary_says(found: Sensitivity) -> None:
    text = " ".join((DOCS / "findings" / "sensitivity.md").read_text(encoding="utf-8").split())
    releases = [cell.label for cell in found.design.cells if cell.label.startswith("torch-")]
    bn, nd = (
        max(moves(found, method, cell).largest for cell in releases if cell != "torch-2.8.0") for method in ("bn", "nd")
    )
    bit_bn, bit_nd = (moves(found, method, "nudge") for method in ("bn", "nd"))
    seed = max(range(10), key=lambda each: abs(bit_bn.points[each]))
    assert (
        f"ended up to {bn:.1f} points away with `bn`, {nd:.1f} with `nd`; one flipped bit moved a run of `bn` by"
        f" {bit_bn.largest:.1f} (seed {seed}) and of `nd` by {bit_nd.largest:.1f}"
    ) in text
    assert f"the mean difference is {min(leads(found)):+.1f} to {max(leads(found)):+.1f} points" in text
