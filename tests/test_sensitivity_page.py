"""The page about releases of torch says what its kept, signed manifests say."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from run_moves import along, equivalent, leads, line_of, moves, numbers_of, share, shift, visible

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.sensitivity.analysis import AnalysisOptions, Sensitivity, sensitivity_of
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
    return sensitivity_of(read_results(folder / "study", policy=policy), AnalysisOptions())


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


RELEASES = ("torch-1.13.1", "torch-2.0.1", "torch-2.4.1")


def test_the_summary_counts_the_runs_and_their_equal_bits(found: Sensitivity) -> None:
    text = " ".join((DOCS / "findings" / "sensitivity.md").read_text(encoding="utf-8").split())
    design = found.design
    runs = sum(len(each) for each in design.runs.values())
    first = {run.identity: run.content for each in design.runs.values() for run in each.values()}
    equal = sum(run.content == first[run.identity] for run in design.repeats)
    counted = (
        f"{len(found.scores.rows)} runs were started; all completed, and all manifests verify. {len(design.repeats)}"
        f" repeat another run and are no sample of their own; the other {runs} are the whole design"
    )
    assert counted in text and found.scores.started == len(found.scores.rows)
    assert f"{len(design.repeats)} of its {runs} runs were made twice" in text
    assert f"{len(design.repeats)} runs were run again with nothing changed: all {equal} had equal bits" in text
    newest = next(cell for cell in design.cells if cell.label == "torch-2.13.0")
    pairs = []
    for subject in design.subjects:
        ours, theirs = design.of(subject, newest), design.of(subject, design.reference)
        pairs.append(sum(ours[seed].content == theirs[seed].content for seed in theirs))
    assert f"in all {pairs[0]} + {pairs[1]} pairs" in text
    assert f"(360 images: one is {100 / 360:.2f} points)" in text


def test_differences_grow_as_fast_as_the_summary_says(found: Sensitivity) -> None:
    """From the trails that are kept, those of seeds 0 to 2."""
    text = " ".join((DOCS / "findings" / "sensitivity.md").read_text(encoding="utf-8").split())
    steps = []
    for bits in sorted(found.bits, key=lambda each: "_nd_" not in each.subject):
        grown = [growth for growth in bits.growth if growth.identical < growth.pairs]
        apart = [next(step for step, far in zip(each.steps, each.median, strict=True) if far >= 0.01) for each in grown]
        steps.append(f"{min(apart)} to {max(apart)}")
    assert f"(median of seeds 0 to 2) after {steps[0]} steps with `nd`, after {steps[1]} with `bn`" in text


def test_means_equivalence_and_power_are_as_the_summary_says(found: Sensitivity) -> None:
    text = " ".join((DOCS / "findings" / "sensitivity.md").read_text(encoding="utf-8").split())
    p_value = line_of(found, "nd", "torch-2.4.1").p_holm
    assert f"corrected for {len(found.design.cells) - 1} comparisons its p is {p_value:.2f}" in text
    bn, nd = (", ".join(shift(found, method, cell) for cell in RELEASES) for method in ("bn", "nd"))
    assert f"moved the mean of `bn` by {bn} and that of `nd` by {nd} (1.13.1, 2.0.1, 2.4.1)" in text
    (only,) = equivalent(found, "nd")
    assert f"establish for `bn` {', '.join(equivalent(found, 'bn'))}, for `nd` {only} alone" in text
    bn, nd = (visible(found, method, RELEASES) for method in ("bn", "nd"))
    assert f"(in four cases of five) {bn} points with `bn` and {nd} with `nd`" in text


def test_the_variance_and_the_conclusion_are_as_the_summary_says(found: Sensitivity) -> None:
    text = " ".join((DOCS / "findings" / "sensitivity.md").read_text(encoding="utf-8").split())
    bn, nd = (along(numbers_of(found, method).components, "environment") for method in ("bn", "nd"))
    spread = [each.components.of("residual").variance ** 0.5 for each in (bn, nd)]
    said = [
        f"accounts for {share(bn, 'environment')} of the variance with `bn` and {share(nd, 'environment')} with `nd`;",
        f"the seed for {share(bn, 'seed')} and {share(nd, 'seed')}; the rest, release and seed together, for"
        f" {share(bn, 'residual')} and {share(nd, 'residual')}, a standard deviation of {spread[0]:.2f} and"
        f" {spread[1]:.2f} points",
    ]
    said += [
        f"which is rounding, had {nd.components.of('residual').share:.0%} of the variance with `nd` and"
        f" {bn.components.of('residual').share:.0%} with `bn`".replace("%", " %")
    ]
    (contrast,) = found.contrasts
    wins = [100 * cell.found.superiority.share for cell in contrast.cells if cell.found]
    difference = share(along(contrast.breakdowns, "environment"), "environment")
    said += [
        f"ND wins {min(wins):.0f} % to {max(wins):.0f} % of the pairs",
        f"it is better in {len(contrast.holds)} of {len(contrast.judged)} cells:"
        f" {'; '.join(cell.cell for cell in contrast.holds)}.",
        f"the release's share of the variance of the difference is {difference}.",
        f"in up to {100 - min(wins):.0f} % of the pairs ND did not win",
    ]
    assert [each for each in said if each not in text] == []
