"""Which runs a table or a figure of a study takes, which it refuses, and what a claim's verdict rests on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from signed_runs import SignedRuns, rows

from ndrepro.analysis.results.results import ResultRow
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.report.elements.table import MISSING, Column, Table, Value, without_constants, word
from ndrepro.report.elements.text_formats import latex, latex_text, markdown
from ndrepro.report.figures.curves import curve_of
from ndrepro.report.figures.generalization_figures import generalization_figures
from ndrepro.report.figures.generalization_numbers import generalization_numbers
from ndrepro.report.figures.generalization_series import condition
from ndrepro.report.figures.published_tables import own_cells, published_with_own
from ndrepro.report.figures.seeds_agreement import agreement_figures, agreement_tables
from ndrepro.report.figures.seeds_figures import BIASED, UNBIASED, scenarios_of, seeds_figures
from ndrepro.report.sections.claims_held import FAILS, HOLDS, OPEN, findings_of
from ndrepro.report.sections.seed_groups import PERCENT, Spread, cells_of

Made = Callable[..., tuple[ResultRow, ...]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Signs runs, (name, settings, test accuracy) each, and reads them back."""
    signed = SignedRuns(tmp_path)

    def make(*planned: tuple[str, dict[str, str], float], official: bool = True, **more: Any) -> tuple[ResultRow, ...]:
        for name, settings, test in planned:
            one = Experiment.from_name(name, settings)
            signed.add(one, rows(one.epochs, test, **more), official=official)
        signed.close()
        return signed.scores().rows

    return make


def seeded(name: str, tests: list[float], **settings: str) -> list[tuple[str, dict[str, str], float]]:
    return [(name, {**settings, "seed": str(seed)}, test) for seed, test in enumerate(tests)]


def finding(runs: tuple[ResultRow, ...], key: str) -> Any:
    return next((found for found in findings_of(runs) if found.key == key), None)


def test_one_value_has_no_interval_and_nan_no_mean() -> None:
    assert (Spread.of([1.0], PERCENT).low, Spread.of([1.0], PERCENT).text) == (None, "1.00")
    assert Spread.of([1.0, float("nan")], PERCENT).mean is None and Spread.of([], PERCENT).text == MISSING
    three = Spread.of([10.0, 20.0, 30.0], PERCENT)
    assert three.mean == 20 and three.high == pytest.approx(20 + 4.3027 * 10 / 3**0.5, abs=1e-3)


def test_deconvolution_is_called_better_only_by_enough_pairs(made: Made) -> None:
    runs = made(*seeded("vgg16_bn_1", [0.5] * 8), *seeded("vgg16_nd_1", [0.6 + 0.01 * n for n in range(8)]))
    assert finding(runs, "deconvolution_better").verdict == HOLDS
    assert "8 of 8 pairs" in finding(runs, "deconvolution_better").reason
    few = finding(runs[:3] + runs[8:11], "deconvolution_better")
    assert few.verdict == OPEN and "Too few pairs for the rule: even if all are won it takes 6" in few.reason
    assert finding(runs[:1] + runs[8:9], "deconvolution_better").verdict == OPEN
    assert finding(runs[:8], "deconvolution_better") is None


def test_deconvolution_is_called_worse_where_it_is(made: Made) -> None:
    runs = made(*seeded("vgg16_bn_1", [0.7] * 8), *seeded("vgg16_nd_1", [0.6] * 8))
    assert finding(runs, "deconvolution_better").verdict == FAILS


@pytest.mark.parametrize(
    ("name", "settings"),
    [("lenet_{}_1_digits", {}), ("vgg16_{}_2", {}), ("vgg16_{}_1", {"train_images": "1000"})],
    ids=["another network", "another length", "part of the data"],
)
def test_a_published_claim_is_judged_by_its_own_settings_only(name: str, settings: dict[str, str], made: Made) -> None:
    runs = made(*(run for method in ("bn", "nd") for run in seeded(name.format(method), [0.5] * 3, **settings)))
    assert findings_of(runs) == ()
    assert {found.key for found in findings_of(made(("vgg16_bn_1", {}, 0.5), ("vgg16_nd_1", {}, 0.6)))} == {
        "deconvolution_better",
        "deconvolution_slower",
    }


def test_wins_that_decide_nothing_have_a_reason_in_words(made: Made) -> None:
    tests = [0.4] * 3 + [0.6] * 5
    runs = made(*seeded("vgg16_bn_1", [0.5] * 8), *seeded("vgg16_nd_1", tests))
    found = finding(runs, "deconvolution_better")
    assert found.verdict == OPEN and "The interval includes one half" in found.reason
    assert found.reason.count("interval 0.24 to 0.91") == 1, "one interval of one quantity"


def test_a_seed_that_was_run_in_many_places_counts_once(tmp_path: Path) -> None:
    signed = SignedRuns(tmp_path)
    for version in ("1.13.1", "2.0.1", "2.4.1", "2.8.0"):
        for name, test in (("vgg16_bn_1", 0.5), ("vgg16_nd_1", 0.6)):
            for seed in ("0", "1"):
                signed.add(Experiment.from_name(name, {"seed": seed}), rows(1, test), versions={"torch": version})
    signed.close()
    found = finding(signed.scores().rows, "deconvolution_better")
    assert found.verdict == OPEN and "n = 2" in found.reason and "2 from 8" in found.reason


@pytest.mark.parametrize(("nd", "bn", "verdict"), [(90, 60, HOLDS), (50, 60, FAILS), (4, 2, OPEN)])
def test_training_times_are_judged_where_they_were_long_enough(
    nd: float, bn: float, verdict: str, tmp_path: Path
) -> None:
    signed = SignedRuns(tmp_path)
    for name, seconds in (("vgg16_nd_1", nd), ("vgg16_bn_1", bn)):
        signed.add(Experiment.from_name(name), rows(1, 0.5), seconds=seconds)
    signed.close()
    assert finding(signed.scores().rows, "deconvolution_slower").verdict == verdict


def test_runs_of_other_settings_are_no_pair(made: Made) -> None:
    runs = made(("vgg16_bn_1", {}, 0.5), ("vgg16_nd_1", {"learning_rate": "0.05"}, 0.6))
    assert finding(runs, "deconvolution_better") is None


def test_an_own_value_needs_the_whole_recipe(made: Made) -> None:
    runs = made(("vgg16_bn_1", {}, 0.5), ("vgg16_nd_1", {"train_images": "1000"}, 0.9), ("resnet18_bn_1", {}, 0.5))
    cells = cells_of(runs)
    assert set(own_cells(cells)) == {("vgg16", "bn", 1, "cifar10"), ("resnet18", "bn", 1, "cifar10")}
    table4 = published_with_own(cells)[0]
    owned = [row[0].text for row in table4.rows if any(value.href for value in row)]
    assert owned == ["vgg16"], "the replication's ResNet-18 is resnet18d, and that was not run"
    assert published_with_own(cells_of(runs[1:2])) == ()


@pytest.mark.parametrize("official", [True, False])
def test_an_own_value_from_other_files_is_marked(official: bool, made: Made) -> None:
    table4 = published_with_own(cells_of(made(("vgg16_bn_1", {}, 0.5), official=official)))[0]
    (own,) = [value for row in table4.rows for value in row if value.href]
    assert own.text == ("50.00" if official else "50.00 †")


def test_models_with_the_same_hyperparameters_are_biased_and_with_their_own_unbiased(made: Made) -> None:
    rates = {"lenet": "0.08", "vgg11": "0.05", "resnet18d": "0.02"}
    planned = [run for arch in rates for run in seeded(f"{arch}_bn_1_digits", [0.5, 0.6])]
    tuned = [
        run for arch, rate in rates.items() for run in seeded(f"{arch}_nd_1_digits", [0.5, 0.6], learning_rate=rate)
    ]
    biased, unbiased = scenarios_of(made(*planned, *tuned))
    assert (biased.name, set(biased.models)) == (BIASED, {f"{arch} bn" for arch in rates})
    assert (unbiased.name, set(unbiased.models)) == (UNBIASED, {f"{arch} nd" for arch in rates})
    assert scenarios_of(made()[:4]) == (), "two models are no ranking"


def test_rankings_use_seeds_that_all_models_have_and_say_what_diverged(made: Made) -> None:
    planned = [run for arch in ("lenet", "vgg11") for run in seeded(f"{arch}_bn_1_digits", [0.5, 0.6, 0.7])]
    runs = made(*planned, *seeded("resnet18d_bn_1_digits", [0.4, 0.5]))
    (scenario,) = scenarios_of(runs)
    assert {len(seeds) for seeds in scenario.accuracies["digits"].values()} == {2}
    wild = made(*seeded("mobilenetv2_bn_1_digits", [0.4]), loss=float("nan"))
    assert any("without a finite result" in note for note in seeds_figures(wild)[1])


def both_scenarios(made: Made, datasets: tuple[str, ...] = ("digits",)) -> tuple[ResultRow, ...]:
    """Four networks with the same learning rate, and then each with its own, which turns the order of two round."""
    networks = {"lenet": (0.80, 0.81, "0.08"), "vgg11": (0.70, 0.60, "0.05"), "resnet18d": (0.60, 0.70, "0.02")}
    networks["mobilenetv2"] = (0.50, 0.51, "0.01")
    planned = []
    for dataset in datasets:
        for arch, (biased, tuned, rate) in networks.items():
            name = f"{arch}_bn_1_{dataset}"
            planned += seeded(name, [biased, biased + 0.01, biased - 0.01])
            planned += seeded(name, [tuned, tuned + 0.01, tuned - 0.01], learning_rate=rate)
    return made(*planned)


def test_both_scenarios_are_held_against_each_other_with_an_interval(made: Made) -> None:
    runs = both_scenarios(made)
    (table,) = agreement_tables(runs)
    heads = [column.title for column in table.columns]
    (row,) = table.rows
    told = dict(zip(heads, (value.text for value in row), strict=True))
    assert (told["Data set"], told["Networks"], told["Seeds"]) == ("digits", "4", "3")
    assert row[heads.index("Tau")].number == pytest.approx(4 / 6)  # one pair of six turned round
    assert told["Pairs turned round"] == "1 of 6: resnet18d bn and vgg11 bn"
    assert told["First, biased"] == told["First, unbiased"] == "lenet bn"
    assert "seeds are drawn (too few data sets)" in table.caption
    (figure,) = agreement_figures(runs)
    assert figure.data["places"]["digits"]["biased"]["vgg11 bn"] == 2
    assert figure.data["places"]["digits"]["unbiased"]["vgg11 bn"] == 3
    biased = [run for run in runs if "learning_rate" not in run.settings]
    assert agreement_tables(biased) == () == agreement_figures(biased), "one scenario says nothing of the other"


def test_agreement_over_several_data_sets_has_a_line_of_its_own(made: Made, tmp_path: Path) -> None:
    runs = both_scenarios(made, ("digits", "svhn", "cifar100"))
    (table,) = agreement_tables(runs)
    assert [row[0].text for row in table.rows] == ["digits", "svhn", "cifar100", "mean of all"]
    assert "seeds and data sets are drawn" in table.caption
    (figure,) = agreement_figures(runs)
    figure.draw(tmp_path / "figure")
    assert (tmp_path / "figure.svg").stat().st_size > 1000


def test_lines_of_several_seeds_are_means_in_a_band_and_say_so(made: Made) -> None:
    inception = "small_inception_bn_2"
    planned = seeded(inception, [0.5, 0.6, 0.7]) + seeded(inception, [0.8, 0.8, 0.8], weight_decay="1e-3")
    planned += seeded("small_inception_none_2", [0.1])
    runs = made(*planned)
    figures, notes = generalization_figures(runs)
    assert [drawn.key for drawn in figures] == ["generalization2a", "generalization2b"] and notes == ()
    assert "Means over 3 seeds" in figures[0].caption and "Means over 1 to 3 seeds" in figures[1].caption
    lines = figures[0].data["small_inception, batch norm"]
    assert [curve["test_accuracy"][-1] for curve in lines["no regulariser"]] == pytest.approx([50, 60, 70])
    (table,) = generalization_numbers(runs)
    ends = {(row[0].text, row[2].text): row for row in table.rows}
    assert set(ends) == {
        ("2a", "no regulariser"),
        ("2a", "weight decay"),
        ("2b", "batch norm"),
        ("2b", "no batch norm"),
    }
    heads = [column.title for column in table.columns]
    test, n = heads.index("Test %"), heads.index("n")
    assert (
        ends["2a", "no regulariser"][test].number == pytest.approx(60)
        and "[80.00, 80.00]" in ends["2a", "weight decay"][test].text
    )
    assert (ends["2b", "no batch norm"][n].text, ends["2b", "no batch norm"][test].text) == ("1", "10.00")


def test_a_line_that_is_never_fitted_says_no(made: Made) -> None:
    fitted, not_fitted = made(("mlp512_none_4", {}, 0.97), ("mlp512_none_4", {"corrupt.labels": "1"}, 0.1))
    (table,) = generalization_numbers([fitted, not_fitted])
    place = [column.title for column in table.columns].index("Fitted after")
    assert [row[place].text for row in table.rows] == ["4", "no"]


def test_a_log_that_is_not_the_signed_one_gives_no_curve(made: Made) -> None:
    (run,) = made(("mlp512_none_2", {"corrupt.labels": "1"}, 0.1))
    curve = curve_of(run)
    assert curve is not None and len(curve.steps) == 2 and curve.test_accuracy_percent[-1] == pytest.approx(10)
    log = run.folder / "metrics.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace("0.1", "0.9"), encoding="utf-8")
    assert curve_of(run) is None
    figures, notes = generalization_figures([run])
    assert figures == () and "not the signed one" in notes[0]


def test_what_was_done_to_the_data_has_the_words_of_the_figure(made: Made) -> None:
    planned = [{}, {"corrupt.labels": "1"}, {"corrupt.labels": "0.5"}, {"corrupt.pixels": "gaussian"}]
    runs = made(*(("mlp512_none_1", settings, 0.1) for settings in planned))
    assert [condition(run) for run in runs] == ["true labels", "random labels", "", "Gaussian"]


def test_a_column_that_never_differs_is_said_once() -> None:
    columns = (Column("Run"), Column("Seed"), Column("Test", numeric=True))
    table = Table("t", "T", "C.", columns, tuple((word(name), word("0"), Value(name)) for name in ("a", "b")))
    assert without_constants(table).heads == ("Run", "Test")
    assert without_constants(table).caption == "C. In every row: Seed 0."


def test_text_is_escaped_for_latex_and_markdown() -> None:
    hostile = r"\input{/etc/passwd} $x$ 50 % a_b | <b> `"
    assert "\\input" not in latex_text(hostile) and r"\%" in latex_text(hostile) and r"a\_b" in latex_text(hostile)
    table = Table("t", "T", "C", (Column("A"),), ((word(hostile),),))
    line = markdown(table).splitlines()[2]
    assert len(re.findall(r"(?<!\\)\|", line)) == 2 and r"\<b\>" in line
    assert latex(table).count(r"\\") >= 2
