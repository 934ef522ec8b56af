"""The study of first weights, order and bits that is kept: every signature holds, no run is left out, and its page says
what its manifests say."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import mean

import pytest
from kept_sensitivity import analysed, numbers, unpacked
from run_moves import Moves, along, leads, moves, numbers_of, share, shift

from ndrepro.analysis.sensitivity.analysis import AnalysisOptions, Sensitivity, sensitivity_of
from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import identity
from ndrepro.report.sections.sensitivity_text import markdown
from provenance.attestation.ledger import Ledger

DOCS = Path(__file__).resolve().parents[1] / "docs"
KEPT, PAGE = DOCS / "runs" / "axes", DOCS / "sensitivity" / "axes" / "sensitivity.md"
SUMMARY = DOCS / "findings" / "sensitivity.md"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunsFolder:
    return unpacked(KEPT, tmp_path_factory.mktemp("axes"))


@pytest.fixture(scope="module")
def found(runs: RunsFolder) -> Sensitivity:
    return analysed(KEPT, runs)


def test_every_run_that_was_begun_is_kept_and_verifies(runs: RunsFolder, found: Sensitivity) -> None:
    ledger = Ledger(runs.ledger)
    assert ledger.verify() == []
    assert {entry.run for entry in ledger.entries() if entry.run} == {folder.root.name for folder in runs.runs()}
    scores = found.scores
    assert (len(scores.rows), scores.started, scores.refused, scores.unfinished) == (288, 288, (), ())


def test_every_run_of_the_study_file_is_there(runs: RunsFolder, found: Sensitivity) -> None:
    requests = [Request.from_json(read_json(folder.request)) for folder in runs.runs()]
    there = {identity(request.experiment, request.environment or MAIN) for request in requests}
    assert there == {run.identity for run in load_study(find_study("axes_small")).runs()}
    assert found.design.missing == () and found.design.repeats == ()
    assert set(found.design.axes) == {"threads", "nudge", "precision"} and len(found.design.replicates) == 36


def test_every_number_of_the_page_comes_out_of_the_manifests(found: Sensitivity) -> None:
    kept = numbers(PAGE.read_text(encoding="utf-8"))
    assert numbers(markdown(found)) == kept and len(kept) > 60
    row = found.scores.rows[0]
    rows = (replace(row, test_accuracy_percent=row.test_accuracy_percent + 1), *found.scores.rows[1:])
    assert numbers(markdown(sensitivity_of(replace(found.scores, rows=rows), AnalysisOptions()))) != kept


def test_what_single_runs_moved_is_as_the_summary_says(found: Sensitivity) -> None:
    """Numbers of one decimal, which the tables do not have; intervals are theirs."""
    text = " ".join(SUMMARY.read_text(encoding="utf-8").split())
    bit, thread = (moves(found, "bn", cell) for cell in ("nudge", "threads=2"))
    orders, weights = (between(found, "bn", stream) for stream in ("order", "init"))
    said = [
        f"A flipped bit changed the accuracy of {bit.count} of 36 runs, by {bit.largest:.1f} points at most; a second",
        f"thread that of {thread.count}, by {thread.largest:.1f} at most",
        f"moves a run by {orders.rms:.1f} points (root mean square over all pairs of orders), other first weights in",
        f"the same order by {weights.rms:.1f}",
    ]
    bit, thread, short = (moves(found, "nd", cell) for cell in ("nudge", "threads=2", "precision=bf16"))
    orders, weights = (between(found, "nd", stream) for stream in ("order", "init"))
    said += [
        f"The flipped bit moved {bit.count} of 36 runs, by {bit.rms:.1f} points (root mean square;",
        f"{bit.largest:.1f} at most), two threads {thread.count} of 36 by {thread.rms:.1f}, bfloat16",
        f"bfloat16 {short.count} of 36 by {short.rms:.1f}; another order moves {orders.rms:.1f}, other first weights"
        f" {weights.rms:.1f}",
    ]
    assert [each for each in said if each not in text] == []
    assert f"by up to {moves(found, 'bn', 'precision=bf16').largest:.1f} points and their mean" in text
    assert f"(by {min(leads(found)):.1f} to {max(leads(found)):.1f} points" in text


def test_the_shares_of_the_variance_are_as_the_summary_says(found: Sensitivity) -> None:
    page = SUMMARY.read_text(encoding="utf-8")
    parts = [along(numbers_of(found, method).components, "nudge") for method in ("bn", "nd")]
    for name, source in (("first weights", "seeds.init"), ("order of the batches", "seeds.order")):
        bn, nd, bn_alone, nd_alone = (share(part, source, alone=alone) for alone in (False, True) for part in parts)
        assert f"| {name} | {bn} | {bn_alone} | {nd} | {nd_alone} |" in page
    bn, nd = (share(part, "seeds.init x seeds.order") for part in parts)
    assert f"| both together, beyond the sum | {bn} | | {nd} | |" in page
    (bn, bn_alone), (nd, nd_alone) = ((share(each, "residual"), share(each, "nudge", alone=True)) for each in parts)
    assert f"| one bit (nearly all in the residual) | {bn} | {bn_alone} | {nd} | {nd_alone} |" in page
    text = " ".join(page.split())
    low, high = re.findall(r"\d+", nd.partition("(")[2])
    assert f"two fifths of the other's variance ({low} to {high} %)." in text
    runs, cost = len(found.scores.rows), found.scores.cost()
    assert f"{runs} runs, {60 * cost.cpu_hours:.0f} minutes of CPU. All {runs} completed" in text
    assert f"All {len(found.design.replicates)} pairs come four times" in text
    assert f"({parts[0].components.n} for each method)" in text
    wins = [100 * cell.found.superiority.share for cell in found.contrasts[0].cells if cell.found]
    assert f"in {min(wins):.0f} % to {max(wins):.0f} % of {len(found.design.replicates)} pairs" in text
    assert f"and their mean by {shift(found, 'bn', 'precision=bf16', 1)}: undecided" in text


def test_the_runs_that_fail_are_those_of_the_summary(found: Sensitivity) -> None:
    text = " ".join(SUMMARY.read_text(encoding="utf-8").split())
    by_order: dict[int, list[float]] = {}
    for (_, order), accuracy in accuracies(found, "bn").items():
        by_order.setdefault(order, []).append(accuracy)
    worst, *others = sorted(by_order.values(), key=mean)
    assert (
        f"(mean {mean(worst):.1f} %, the others {mean(others[0]):.1f} to {mean(others[-1]):.1f}) left"
        f" {sum(each < 70 for each in worst)} of its 6 runs below 70 %"
    ) in text
    good = accuracies(found, "nd").values()
    assert f"no run fails ({min(good):.1f} to {max(good):.1f} %)" in text


def accuracies(found: Sensitivity, method: str) -> dict[tuple[int, int], float]:
    """Test accuracy in the reference by the draws of first weights and order."""
    design = found.design
    (subject,) = (each for each in design.subjects if f"_{method}_" in each)
    runs = design.of(subject, design.reference).values()
    return {(run.seeds["init"], run.seeds["order"]): run.test_accuracy_percent for run in runs}


def between(found: Sensitivity, method: str, stream: str) -> Moves:
    """Every pair of runs of the reference that differ in one stream alone."""
    at = ("init", "order").index(stream)
    pairs = combinations(accuracies(found, method).items(), 2)
    return Moves(tuple(b - a for (one, a), (two, b) in pairs if one[1 - at] == two[1 - at]))
