"""The study of instruction sets that is kept: every signature holds, no run is left out, and the pages say what its
manifests say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kept_sensitivity import analysed, numbers, unpacked
from run_moves import along, equivalent, leads, moves, numbers_of, share, shift, visible

from ndrepro.analysis.sensitivity.analysis import AnalysisOptions, Sensitivity, sensitivity_of
from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import identity
from ndrepro.report.sections.sensitivity_text import markdown
from provenance.attestation.ledger import Ledger

DOCS = Path(__file__).resolve().parents[1] / "docs"
KEPT, PAGE = DOCS / "runs" / "cpu_isa", DOCS / "sensitivity" / "cpu_isa" / "sensitivity.md"
SUMMARY = DOCS / "findings" / "sensitivity.md"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunsFolder:
    return unpacked(KEPT, tmp_path_factory.mktemp("cpu_isa"))


@pytest.fixture(scope="module")
def found(runs: RunsFolder) -> Sensitivity:
    return analysed(KEPT, runs)


def single_runs(found: Sensitivity) -> list[str]:
    """For each cell, how single runs differ from the reference's run of the same seed; bits by the signed digests."""
    lines = []
    design = found.design
    for cell in design.cells:
        if cell == design.reference:
            continue
        words: list[str] = []
        for subject, method in zip(design.subjects, ("bn", "nd"), strict=True):
            ours, theirs = design.of(subject, cell), design.of(subject, design.reference)
            equal = sum(ours[seed].content == theirs[seed].content for seed in theirs)
            moved = moves(found, method, cell.label)
            words += [str(equal), str(moved.count), f"{moved.rms:.2f}", f"{moved.largest:.2f}"]
        bn, nd = words[:4], words[4:]
        lines.append(
            f"| {cell.label} | {bn[0]} | {bn[1]} | {bn[2]} | {bn[3]} | {nd[0]} | {nd[1]} | {nd[2]} | {nd[3]} |"
        )
    return lines


def test_every_run_of_the_study_file_is_kept_and_verifies(runs: RunsFolder, found: Sensitivity) -> None:
    ledger = Ledger(runs.ledger)
    assert ledger.verify() == []
    assert {entry.run for entry in ledger.entries() if entry.run} == {folder.root.name for folder in runs.runs()}
    scores = found.scores
    assert (len(scores.rows), scores.started, scores.refused, scores.unfinished) == (140, 140, (), ())
    requests = [Request.from_json(read_json(folder.request)) for folder in runs.runs()]
    there = {identity(request.experiment, request.environment or MAIN) for request in requests}
    assert there == {run.identity for run in load_study(find_study("cpu_isa")).runs()}
    assert set(found.design.axes) == {"environment", "threads", "cpu_isa", "nudge"} and not found.design.missing


def test_every_number_of_the_pages_comes_out_of_the_manifests(found: Sensitivity) -> None:
    kept = numbers(PAGE.read_text(encoding="utf-8"))
    assert numbers(markdown(found)) == kept and len(kept) > 60
    summary = SUMMARY.read_text(encoding="utf-8")
    assert all(line in summary for line in single_runs(found)), "\n".join(single_runs(found))
    words = " ".join(summary.split())
    assert f"in all seven cells ({min(leads(found)):+.1f} to {max(leads(found)):+.1f} points)" in words
    row = found.scores.rows[0]
    rows = (replace(row, test_accuracy_percent=row.test_accuracy_percent + 1), *found.scores.rows[1:])
    changed = sensitivity_of(replace(found.scores, rows=rows), AnalysisOptions())
    assert numbers(markdown(changed)) != kept and single_runs(changed) != single_runs(found)


def test_means_power_and_variance_are_as_the_summary_says(found: Sensitivity) -> None:
    text = " ".join(SUMMARY.read_text(encoding="utf-8").split())
    limits = ("cpu_isa=avx2", "cpu_isa=sse41")
    cells = [cell.label for cell in found.design.cells if cell != found.design.reference]
    assert set(equivalent(found, "bn")) == {*cells} and equivalent(found, "nd") == ()
    avx2, sse41 = (shift(found, "nd", cell) for cell in limits)
    first, second = visible(found, "nd", limits).split(", ")
    bn, nd = (along(numbers_of(found, method).components, "cpu_isa") for method in ("bn", "nd"))
    nudged = next(cell.found for cell in found.contrasts[0].cells if cell.cell == "nudge")
    assert nudged is not None
    wins = nudged.superiority.share * nudged.superiority.n - nudged.superiority.ties / 2
    said = [
        f"All {len(found.scores.rows)} runs completed, all manifests verify, and a test",
        f"AVX2 moved the mean by {avx2}, SSE 4.1 by {sse41}; ten pairs would have shown {first} and {second} points",
        f"the limit has {share(bn, 'cpu_isa')} with `bn` and {share(nd, 'cpu_isa')} with `nd`;",
        f"limit and seed together, which is rounding, {share(bn, 'residual')} and {share(nd, 'residual')}.",
        f"with the flipped bit it does not ({wins:.0f} of {nudged.superiority.n} pairs)",
    ]
    assert [each for each in said if each not in text] == []
