"""What docs/findings/ (seeds.md, generalization.md) says comes out of the manifests that are kept beside them."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from itertools import product
from math import isfinite
from pathlib import Path
from statistics import mean, median

import pytest

from ndrepro.analysis.results.results import ResultRow, read_results
from ndrepro.analysis.statistics.intervals import mean_interval
from ndrepro.analysis.statistics.paired import superiority
from ndrepro.analysis.statistics.rankings import SAMPLES
from ndrepro.report.elements.table import MINUS, Table
from ndrepro.report.figures.curves import curve_of
from ndrepro.report.figures.generalization_figures import FITTED_PERCENT
from ndrepro.report.figures.generalization_numbers import generalization_numbers
from ndrepro.report.figures.generalization_series import Reader, normalised, regularised
from ndrepro.report.figures.seeds_figures import scenarios_of
from ndrepro.report.sections.comparisons import comparison_tables
from ndrepro.report.sections.seed_groups import cells_of
from provenance.attestation.trust import TrustPolicy

DOCS = Path(__file__).resolve().parents[3] / "docs"
KEPT = DOCS / "runs" / "small_studies"
SEEDS = re.compile(
    r"\| (\w+) (\w+) \| (\w+) \| ([\d.]+) \[([\d.]+), ([\d.]+)\] \| ([\d.]+) \|"
    r" ([\d.]+) to ([\d.]+) \| ([\d.]+) \| (\d+) \|"
)
FITTED = re.compile(r"\| ([\w %]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| (\d+|no) \| ([\d.]+) \| ([\d.]+) \|")
LINES = re.compile(
    r"\| (batch norm[\w ,]*|no batch norm) \| (\d) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|"
)
DIFFERENCES = re.compile(
    r"\| (\w+) \| \d+ of 10 \| [^|]+ \| \+?([-\d.]+) \[\+?([-\d.]+), \+?([-\d.]+)\] \| ([<\d. ]+) \| (\d+) \| (\d+) \|"
)
CONDITIONS = {
    "true labels": {},
    "25 % random labels": {"corrupt.labels": 0.25},
    "50 % random labels": {"corrupt.labels": 0.5},
    "75 % random labels": {"corrupt.labels": 0.75},
    "random labels": {"corrupt.labels": 1},
    "shuffled pixels": {"corrupt.pixels": "shuffled"},
    "random pixels": {"corrupt.pixels": "random"},
    "Gaussian pixels": {"corrupt.pixels": "gaussian"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResultRow, ...]:
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(KEPT / "manifests.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    scores = read_results(folder, policy=TrustPolicy.from_files([KEPT / "author.pub"]))
    assert (scores.refused, scores.unfinished, scores.lost) == ((), (), ())
    return scores.distinct()[0]


def test_the_table_of_seeds_comes_out_again(runs: tuple[ResultRow, ...]) -> None:
    found = {}
    for cell in (cell for cell in cells_of(runs) if cell.first.epochs == 6):
        lowest, highest = min(cell.test.values), max(cell.test.values)
        numbers = (cell.test.mean, cell.test.low, cell.test.high, cell.test.deviation, lowest, highest, cell.train.mean)
        found[cell.first.arch, cell.first.method, cell.first.dataset] = [f"{value:.2f}" for value in numbers] + [
            f"{cell.n}"
        ]
    text = (DOCS / "findings" / "seeds.md").read_text(encoding="utf-8")
    assert said_of_seeds(text) == found and len(found) == 10
    assert said_of_seeds(text.replace("91.11 [", "91.12 [")) != found


def said_of_seeds(text: str) -> dict[tuple[str, str, str], list[str]]:
    return {(arch, method, dataset): numbers for arch, method, dataset, *numbers in SEEDS.findall(text)}


def test_deconvolution_against_batch_norm_comes_out_again(runs: tuple[ResultRow, ...]) -> None:
    text = (DOCS / "findings" / "seeds.md").read_text(encoding="utf-8")
    each, overall = (table_rows(table) for table in comparison_tables(runs))
    places = ("ND - BN", "95 % interval", "p (Holm)", "Seeds needed", "Seeds for 1 point")
    found = {row["Data set"]: [row[place] for place in places] for row in each}
    assert said_of_differences(text) == found and len(found) == 2
    assert said_of_differences(text.replace("| < 0.001 | 3 |", "| < 0.001 | 4 |")) != found
    (both,) = overall
    low, high = both["95 % interval"].split(" to ")
    assert f"each counting alike, the mean difference is +{both['ND - BN']} [+{low}, +{high}]" in words("seeds.md")


def test_pairs_of_deconvolution_and_batch_norm_are_counted_and_timed_as_the_page_says(
    runs: tuple[ResultRow, ...],
) -> None:
    pairs: dict[tuple[str, int], dict[str, ResultRow]] = {}
    for run in runs:
        if run.arch == "lenet" and run.epochs == 6:
            pairs.setdefault((run.dataset, run.seed), {})[run.method] = run
    text = words("seeds.md")
    for dataset in ("digits", "cifar10"):
        of = [pair for (name, _), pair in pairs.items() if name == dataset]
        won = sum(pair["nd"].test_accuracy_percent > pair["bn"].test_accuracy_percent for pair in of)
        assert f"| {dataset} | {won} of {len(of)} | {won / len(of):.2f} [" in text
    times = sorted(pair["nd"].train_seconds / pair["bn"].train_seconds for pair in pairs.values())
    said = f"{times[0]:.1f} to {times[-1]:.1f} times as long with deconvolution"
    assert f"{said} ({len(times)} pairs, median {median(times):.1f})" in text


def test_the_draws_and_the_pooled_pairs_are_as_the_page_on_seeds_says(runs: tuple[ResultRow, ...]) -> None:
    text, runs = words("seeds.md"), tuple(run for run in runs if run.epochs == 6)
    (scenario,) = scenarios_of(runs)
    values = {
        data: {model: [*seeds.values()] for model, seeds in of.items()} for data, of in scenario.accuracies.items()
    }
    first = {}
    for data, of in values.items():
        choices = [(choice, max(choice)) for choice in product(*of.values())]
        for place, model in enumerate(of):
            first[data, model] = 100 * sum(choice[place] == best for choice, best in choices) / len(choices)
    models = ("resnet18d bn", "small_alexnet none")
    resnet, alexnet = (first["digits", model] for model in models)
    resnets, alexnets = (values["digits"][model] for model in models)
    lead = mean_interval([a - b for a, b in zip(resnets, alexnets, strict=True)])
    lenets = [
        [run for run in sorted(runs, key=by_data) if (run.arch, run.method) == ("lenet", method)]
        for method in ("nd", "bn")
    ]
    pooled = superiority(*([run.test_accuracy_percent for run in each] for each in lenets))
    trained = [mean(run.train_accuracy_percent for run in of if run.dataset == "cifar10") for of in lenets]
    said = [
        f"The figure draws one seed of each model, {SAMPLES} times. Of all {len(choices):,} choices ResNet-18 is first"
        f" on the digits in {resnet:.0f} % and the small AlexNet in {alexnet:.0f} %",
        f"by {lead.estimate:.2f} points, 95 % interval of the difference {lead.low:.2f} to {lead.high:+.2f})",
        f"On CIFAR-10 the small AlexNet is first in {first['cifar10', 'small_alexnet none']:.0f} % of all choices",
        f"Pooled, P(ND > BN) is {pooled.share:.2f} [{pooled.low:.2f}, {pooled.high:.2f}] (exact)",
        f"images far better ({trained[0]:.0f} % against {trained[1]:.0f} %)",
    ]
    assert [each for each in said if each not in text] == []


def by_data(run: ResultRow) -> tuple[str, int]:
    return run.dataset, run.seed


def table_rows(table: Table) -> list[dict[str, str]]:
    heads = [head.replace(MINUS, "-") for head in table.heads]
    return [dict(zip(heads, (value.text.replace(MINUS, "-") for value in row), strict=True)) for row in table.rows]


def said_of_differences(text: str) -> dict[str, list[str]]:
    said = DIFFERENCES.findall(text)
    return {data: [mean, f"{low} to {high}", *numbers] for data, mean, low, high, *numbers in said}


def test_the_table_of_generalization_comes_out_again(runs: tuple[ResultRow, ...]) -> None:
    said = FITTED.findall((DOCS / "findings" / "generalization.md").read_text(encoding="utf-8"))
    assert [line[0] for line in said] == list(CONDITIONS)
    for condition, *numbers in said:
        for arch, (fitted, train, test) in zip(("mlp512", "small_alexnet"), (numbers[:3], numbers[3:]), strict=True):
            (run,) = (
                run for run in runs if run.arch == arch and run.epochs == 25 and _done(run) == CONDITIONS[condition]
            )
            curve = curve_of(run)
            assert curve is not None
            assert str(curve.fitted_at(FITTED_PERCENT) or "no") == fitted
            assert (f"{run.train_accuracy_percent:.2f}", f"{run.test_accuracy_percent:.2f}") == (train, test)


def test_the_table_of_regularisers_and_batch_norm_comes_out_again(runs: tuple[ResultRow, ...]) -> None:
    runs = tuple(run for run in runs if run.arch == "small_inception" and run.seed < 2)
    (table,) = generalization_numbers(runs)
    place = {column.title: number for number, column in enumerate(table.columns)}
    found = {}
    for row in table.rows[:3] + table.rows[4:]:  # batch norm without a regulariser is in both figures
        figure, line = row[0].text, row[place["Line"]].text
        name = f"batch norm, {line}" if figure == "2a" else line.replace("only", "batch norm only")
        found[name] = [row[place[head]].text for head in ("n", "Train %", "Test %", "Highest test %")]
    reader = Reader()
    for lines in (regularised(runs, reader), normalised(runs, reader)):
        for line, curves in lines.items():
            name = next((name for name in (f"batch norm, {line}", f"batch norm {line}", line) if name in found), "")
            if name and len(found[name]) == 4:
                found[name] += [f"{curve.test_accuracy_percent[-1]:.2f}" for curve in curves]
    text = (DOCS / "findings" / "generalization.md").read_text(encoding="utf-8")
    assert said_of_lines(text) == found and len(found) == 5
    assert said_of_lines(text.replace("| 29.33 | 26.00 |", "| 29.33 | 26.01 |")) != found


def test_what_the_page_on_generalization_says_of_its_tables(runs: tuple[ResultRow, ...]) -> None:
    text = words("generalization.md")
    wrong = {
        (run.arch, run.settings.get("corrupt.labels", 0)): 100 - run.test_accuracy_percent
        for run in runs
        if run.epochs == 25 and "corrupt.pixels" not in run.settings
    }
    mlp, alexnet = ([wrong[arch, share] for share in (0, 0.25, 0.5, 0.75, 1)] for arch in ("mlp512", "small_alexnet"))
    assert f"in both, from {mlp[0]:.0f} and {alexnet[0]:.0f} % to {mlp[-1]:.0f} and {alexnet[-1]:.0f} %, all" in text
    assert [a > b for a, b in zip(mlp[:4], alexnet[:4], strict=True)] == [True, True, False, True]
    assert "MLP above AlexNet, holds at 0, 25 and 75 %, and not at 50 %" in text
    curves = [curve_of(run) for run in runs if run.arch == "small_alexnet" and run.epochs == 25]
    fitted = [curve.fitted_at(FITTED_PERCENT) for curve in curves if curve is not None]
    epochs = [each for each in fitted if each is not None]
    assert f"up to {max(epochs) / min(epochs):.2f} times" in text and f"({min(epochs)} to {max(epochs)})" in text
    assert f"corrupted labels ({min(epochs)} to {max(epochs)}); the MLP takes {mlp_epochs(runs)} whatever" in text
    random = [run.test_accuracy_percent for run in runs if run.settings.get("corrupt.labels") == 1]
    assert f"nothing of the test images ({min(random):.1f} and {max(random):.1f} %" in text
    (third,) = (run for run in runs if run.arch == "small_inception" and run.seed == 2)
    assert f"(no regulariser, {third.test_accuracy_percent:.2f} % test)" in text


def mlp_epochs(runs: tuple[ResultRow, ...]) -> int:
    """The one number of epochs in which the MLP fits whatever share of its labels is random."""
    of = [run for run in runs if run.arch == "mlp512" and run.epochs == 25 and "corrupt.pixels" not in run.settings]
    (fitted,) = {curve.fitted_at(FITTED_PERCENT) for run in of if (curve := curve_of(run)) is not None}
    assert fitted is not None
    return fitted


def test_what_the_page_on_generalization_says_of_regularisers(runs: tuple[ResultRow, ...]) -> None:
    text = words("generalization.md")
    runs = tuple(run for run in runs if run.arch == "small_inception" and run.seed < 2)
    lines = regularised(runs, Reader())
    tests = [[curve.test_accuracy_percent[-1] for curve in curves] for curves in lines.values()]
    means, spreads = [mean(each) for each in tests], [max(each) - min(each) for each in tests]
    best = max(run.train_accuracy_percent for run in runs)
    halved = [run for run in runs if run.method == "bn_downsample"]
    (curve,) = (curve for run in halved if (curve := curve_of(run)) is not None and not run.finite)
    diverged = next(n for n, loss in enumerate(curve.train_loss, 1) if not isfinite(loss))
    said = [
        f"the means of test accuracy are {max(means) - min(means):.1f} points apart, two seeds of one row up to"
        f" {max(spreads):.1f}, and",
        f"(at most {best:.0f} %), where the paper's curves",
        f"(its loss is no number from epoch {diverged} on,",
        f"the other came to {max(run.test_accuracy_percent for run in halved):.1f} %",
    ]
    assert [each for each in said if each not in text] == []


def test_the_orders_of_the_models_are_counted_as_the_page_says(runs: tuple[ResultRow, ...]) -> None:
    text, names = words("seeds.md"), {"resnet18d": "ResNet-18", "small_alexnet": "the small AlexNet", "lenet": "LeNet"}
    for dataset, start in (("digits", "On the digits"), ("cifar10", "On CIFAR-10")):
        orders = []
        for seed in range(10):
            of = [run for run in runs if (run.dataset, run.seed, run.epochs) == (dataset, seed, 6)]
            assert len(of) == 5
            ranked = sorted(of, key=lambda run: -run.test_accuracy_percent)
            orders.append(tuple((run.arch, run.method) for run in ranked))
        first = Counter(names.get(order[0][0], order[0][0]) for order in orders).most_common()
        assert f"{start} ten seeds give {len(set(orders))} orders" in text
        assert f"{first[0][0]} is first under {first[0][1]}" in text
        assert (
            dataset != "digits"
            or f"{first[1][0]} under {first[1][1]}, LeNet with deconvolution under {first[2][1]}" in text
        )


def words(page: str) -> str:
    return " ".join((DOCS / "findings" / page).read_text(encoding="utf-8").split())


def said_of_lines(text: str) -> dict[str, list[str]]:
    return {name: numbers for name, *numbers in LINES.findall(text)}


def _done(run: ResultRow) -> dict[str, object]:
    return {key: value for key, value in run.settings.items() if key.startswith("corrupt.")}
