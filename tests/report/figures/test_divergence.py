"""The divergence of runs is drawn from signed trails, and says no more than they hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from compared_runs import TENSORS, account, parted, put, records_of, sign_pair_member
from signed_runs import SignedRuns, rows

from ndrepro.analysis.results.results import Results, read_results
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.report.figures.divergence import divergence_figures
from ndrepro.report.page.contents import About
from ndrepro.report.page.write import write_report
from ndrepro.report.sections.divergences import (
    Divergences,
    divergence_sentences,
    divergence_tables,
    divergences_of,
    percent,
)
from ndrepro.report.sections.seed_groups import cells_of
from provenance.attestation.trust import TrustPolicy


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds with one thread and with two, which diverge at step 3; four threads have the bits of one."""
    root = tmp_path_factory.mktemp("apart")
    for threads in (1, 2, 4):
        for seed in range(3):
            last = {"epoch": 2, "step": 12, "train_accuracy": 0.9, "test_accuracy": 0.8, "train_loss": 1.0}
            summary = {"metrics summary": {"epochs": 2, "last": {**last, "learning_rate": 0.1, "test_loss": 1.0}}}
            found = account(put("byproducts", summary))
            settings = {"threads": str(threads), "seed": str(seed)}
            found["experiment"] = Experiment.from_name("lenet_bn_2_digits", settings)
            table = records_of(found, 12, rate=1e-3 * (seed + 1))
            table = parted(table, 3, [0, 2], 1e-7, 4.0) if threads == 2 else table
            sign_pair_member(root, f"{seed}-{threads}", found, table, home=root / "keys", tensors=TENSORS)
    return root


def scores_of(root: Path) -> Results:
    return read_results(root / "runs", policy=TrustPolicy.load(root / "keys"))


def apart(root: Path) -> tuple[Divergences, ...]:
    distinct, repeats = scores_of(root).distinct()
    return divergences_of(cells_of(distinct), repeats)


def test_runs_are_compared_seed_by_seed_with_the_reference(runs: Path) -> None:
    (one,) = apart(runs)
    assert one.reference == "1 thread"
    two, four, seeds = one.growths
    assert (two.cell, two.pairs, two.identical, two.first_steps) == ("2 threads", 3, 0, (3, 3, 3))
    assert two.median[:3] == (0, 0, 0) and two.median[3] == pytest.approx(1e-7, rel=0.01)
    assert two.equal_tensors[2:4] == (1.0, 1 - 2 / len(TENSORS)), "two tensors differ"
    assert (four.cell, four.identical, set(four.equal_tensors)) == ("4 threads", 3, {1.0})
    assert (seeds.cell, seeds.pairs) == ("another seed", 2) and seeds.median[-1] > 1e-4


def test_the_summary_and_the_table_say_it_in_words_and_numbers(runs: Path) -> None:
    first, second = divergence_sentences(apart(runs))
    assert "with 2 threads instead of 1 thread, 3 of 3 pairs of runs with equal seeds diverge, first at step 3" in first
    assert "those of different seeds differ by" in first
    assert second.endswith(
        "with 4 threads instead of 1 thread, 3 pairs of runs with equal seeds: bit-identical at every step."
    )
    (one,) = apart(runs)
    (seeds,) = divergence_sentences([replace(one, growths=one.growths[-1:])])
    assert "at step 12 runs of different seeds differ by" in seeds and "(median, 2 pairs)" in seeds
    (table,) = divergence_tables(apart(runs))
    heads = [column.title for column in table.columns]
    shown = [row[heads.index("First step that differs")].text for row in table.rows]
    assert shown[:2] == ["3", "\N{EN DASH}"] and "Reference 1 thread" in table.caption


def test_the_figure_shows_every_step_and_is_in_the_page(runs: Path, tmp_path: Path) -> None:
    report = write_report(scores_of(runs), About("apart", "0"), tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "divergence" in [drawn.key for drawn in report.figures]
    assert "2 threads (3 pairs), step 3: losses 1 \N{MULTIPLICATION SIGN} 10⁻⁵ % apart, 60 % of" in page
    assert "4 threads (3 pairs, 3 bit-identical), step 12: losses 0 % apart, 100 % of tensors equal" in page


def test_runs_without_trails_have_no_figure_and_no_sentence(tmp_path: Path) -> None:
    signed = SignedRuns(tmp_path)
    for seed in ("0", "1"):
        signed.add(Experiment.from_name("lenet_bn_1_digits", {"seed": seed}), rows(1, 0.5))
    signed.close()
    found = divergences_of(cells_of(signed.scores().distinct()[0]), ())
    assert (found, divergence_figures(found), divergence_sentences(found), divergence_tables(found)) == ((), (), (), ())


def test_a_trail_that_was_changed_after_reading_is_not_drawn(runs: Path) -> None:
    distinct, repeats = scores_of(runs).distinct()
    trail = next(run.folder for run in distinct if run.threads == 2 and run.seed == 1) / "trail.bin"
    whole = trail.read_bytes()
    trail.write_bytes(whole[:-8] + bytes(8))
    try:
        (one,) = divergences_of(cells_of(distinct), repeats)
    finally:
        trail.write_bytes(whole)
    assert one.growths[0].pairs == 2


def test_small_shares_are_written_as_powers_of_ten() -> None:
    assert [percent(share) for share in (0, 1, 0.123, 0.02)] == ["0 %", "100 %", "12 %", "2 %"]
    times = "\N{MULTIPLICATION SIGN}"
    assert [percent(share) for share in (2.34e-9, 1e-8)] == [f"2.3 {times} 10⁻⁷ %", f"1 {times} 10⁻⁶ %"]
