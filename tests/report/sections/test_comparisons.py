"""What a report says of deconvolution against batch norm: by network, over data sets, and when it cannot say it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from signed_runs import SignedRuns, rows

from ndrepro.analysis.results.results import ResultRow
from ndrepro.analysis.sensitivity.experimental_design import design_of
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.report.elements.table import MINUS, MISSING, Table
from ndrepro.report.page.contents import About
from ndrepro.report.page.write import write_report
from ndrepro.report.sections.comparisons import comparison_tables, differences_of
from ndrepro.report.sections.run_tables import cell_table
from ndrepro.report.sections.seed_groups import PERCENT, Spread, cells_of

Tests = Mapping[str, Mapping[int, float]]
Made = Callable[[Tests], SignedRuns]
BN = {0: 0.50, 1: 0.52, 2: 0.54}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Signed runs with these test accuracies by name and seed; a setting may stand behind the name."""

    def make(tests: Tests) -> SignedRuns:
        signed = SignedRuns(tmp_path / "signed")
        for text, seeds in tests.items():
            name, *settings = text.split()
            for seed, test in seeds.items():
                asked = dict(setting.split("=") for setting in settings)
                one = Experiment.from_name(name, {**asked, "seed": str(seed)})
                signed.add(one, rows(one.epochs, test))
        signed.close()
        return signed

    return make


def runs(signed: SignedRuns) -> tuple[ResultRow, ...]:
    return signed.scores().distinct()[0]


def by_head(table: Table, row: int = 0) -> dict[str, str]:
    """A row as read on the page, its minus signs as hyphens."""
    return {
        column.title.replace(MINUS, "-"): value.text.replace(MINUS, "-")
        for column, value in zip(table.columns, table.rows[row], strict=True)
    }


def plus(side: Mapping[int, float], *points: float) -> dict[int, float]:
    return {seed: value + by / 100 for (seed, value), by in zip(side.items(), points, strict=True)}


def test_three_pairs_are_compared_as_a_hand_would(made: Made) -> None:
    (table,) = comparison_tables(runs(made({"lenet_bn_1_digits": BN, "lenet_nd_1_digits": plus(BN, 1, 2, 3)})))
    found = by_head(table)
    assert (found["Seeds"], found["ND - BN"]) == ("3", "2.00")
    assert found["95 % interval"] == "-0.48 to 4.48", "2 ± 4.303 / √3"
    assert found["p (Holm)"] == "0.074", "t = 2 √3 at 2 degrees of freedom"
    assert (found["Seeds needed"], found["Seeds for 1 point"]) == ("5", "10")
    assert found["Within 1 point"] == "undecided"


def test_equal_seeds_matter(made: Made) -> None:
    """The control: the same accuracies under other seeds are no pairs, marked, and tested as two samples."""
    other = {seed + 5: value for seed, value in plus(BN, 1, 2, 3).items()}
    (table,) = comparison_tables(runs(made({"lenet_bn_1_digits": BN, "lenet_nd_1_digits": other})))
    found = by_head(table)
    assert (found["Seeds"], found["ND - BN"]) == ("3 *", "2.00") and float(found["p (Holm)"]) > 0.3
    assert found["95 % interval"] != "-0.48 to 4.48"


def test_one_seed_and_nan_are_said_and_one_method_is_not_compared(made: Made) -> None:
    tests = {
        "lenet_bn_1_digits": {0: 0.5},
        "lenet_nd_1_digits": {0: 0.6},
        "vgg11_bn_1_digits": BN,
        "vgg11_nd_1_digits": {**plus(BN, 1, 1, 2), 7: 0.9},
        "mlp512_none_1_digits": BN,
        "resnet18d_bn_1_digits": BN,
        "resnet18d_nd_1_digits": plus(BN, 1, 2, float("nan")),
    }
    (table,) = comparison_tables(runs(made(tests)))
    found = {by_head(table, row)["Network"]: by_head(table, row) for row in range(len(table.rows))}
    assert set(found) == {"lenet", "vgg11", "resnet18d"}
    assert found["lenet"]["ND - BN"] == "n too small" and found["lenet"]["p (Holm)"] == MISSING
    assert found["resnet18d"]["ND - BN"] == "NaN"
    assert found["vgg11"]["Seeds"] == "3 +1", "a run without a partner"
    assert comparison_tables(()) == ()


def test_p_values_are_corrected_over_the_whole_table(made: Made) -> None:
    tests: dict[str, dict[int, float]] = {}
    for arch in ("lenet", "vgg11"):
        side = {seed: 0.5 for seed in range(7)}
        tests |= {f"{arch}_bn_1_digits": side, f"{arch}_nd_1_digits": plus(side, *range(1, 8))}
    found = runs(made(tests))
    (table,) = comparison_tables(found)
    assert "p (Holm) 0.005" in table.caption, "t = 4.9 at 6 degrees of freedom, twice"
    alone = differences_of([run for run in found if run.arch == "lenet"])
    assert [each.p_holm for each in alone.values()] == [pytest.approx(0.0027, abs=1e-4)]


def test_over_data_sets_parts_of_them_may_differ_and_seeds_count_within_each(made: Made) -> None:
    four = {**BN, 3: 0.56}
    tests = {
        "lenet_bn_1_digits test_images=360": BN,
        "lenet_nd_1_digits test_images=360": plus(BN, 1, 2, 3),
        "lenet_bn_1_cifar10 test_images=1000": four,
        "lenet_nd_1_cifar10 test_images=1000": plus(four, -5, -5, -5, -5),
        "vgg11_bn_1_digits": {0: 0.5},
        "vgg11_nd_1_digits": {0: 0.5},
        "vgg11_bn_1_cifar10": BN,
        "vgg11_nd_1_cifar10": plus(BN, 0, 0, 1),
    }
    each, overall = comparison_tables(runs(made(tests)))
    assert len(each.rows) == 4
    found = {row["Network"]: row for row in (by_head(overall, place) for place in range(len(overall.rows)))}
    assert set(found) == {"lenet", "vgg11", "all 2"}
    assert found["lenet"]["ND - BN"] == "-1.50", "(2 - 5) / 2, though there are 3 and 4 pairs"
    assert found["lenet"]["95 % interval"] == "-2.74 to -0.26", "-1.5 - 4.303 / 12**0.5: cifar10 does not vary"
    assert found["lenet"]["ND higher in"] == "1 of 2"
    assert (found["vgg11"]["ND - BN"], found["vgg11"]["Left out"]) == ("n too small", "1")
    assert (found["all 2"]["ND - BN"], found["all 2"]["Left out"]) == ("-0.89", "1")


def test_two_parts_of_one_data_set_are_not_two_data_sets(made: Made) -> None:
    tests = {
        f"lenet_{method}_1_digits train_images={images}": plus(BN, *[float(method == "nd")] * 3)
        for method in ("bn", "nd")
        for images in (100, 200)
    }
    tables = comparison_tables(runs(made(tests)))
    assert len(tables) == 1 and len(tables[0].rows) == 2


def test_one_more_run_is_less_certain_than_the_mean(made: Made) -> None:
    found = Spread.of([50.0, 52.0, 54.0], PERCENT)
    assert found.next is not None and found.low is not None
    assert found.next == pytest.approx((52 - 4.3027 * 2 * (4 / 3) ** 0.5, 52 + 4.3027 * 2 * (4 / 3) ** 0.5), abs=1e-3)
    assert found.next[0] < found.low
    assert Spread.of([50.0], PERCENT).next is None and Spread.of([50.0, float("nan")], PERCENT).next is None
    table = cell_table(cells_of(runs(made({"lenet_bn_1_digits": BN, "vgg11_bn_1_digits": {0: 0.5}}))))
    rows = [by_head(table, row) for row in range(2)]
    assert (rows[0]["95 % interval"], rows[0]["One more run"]) == ("47.03 to 56.97", "42.06 to 61.94")
    assert (rows[1]["95 % interval"], rows[1]["One more run"]) == ("none, n = 1", "none, n = 1")


@pytest.mark.parametrize(
    ("values", "ends"), [([10.0, 12.0], None), ([99.0, 99.9, 100.0], (98.27, 100.0)), ([0.0, 0.0, 4.0], (0.0, 7.07))]
)
def test_an_interval_of_accuracies_never_leaves_0_to_100(values: list[float], ends: tuple[float, float] | None) -> None:
    found = Spread.of(values, PERCENT)
    got = None if found.low is None or found.high is None else (found.low, found.high)
    assert got == (ends and pytest.approx(ends, abs=0.01))
    assert found.next is None or 0 <= found.next[0] < found.next[1] <= 100
    assert Spread.of(values).low is None, "times of a shared machine have no interval"


def test_page_data_text_and_latex_hold_the_comparison(made: Made, tmp_path: Path) -> None:
    signed = made({"lenet_bn_1_digits": BN, "lenet_nd_1_digits": plus(BN, 1, 2, 3)})
    folder = tmp_path / "report"
    write_report(signed.scores(), About("A report", "0"), folder)
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [table["key"] for table in data["comparisons"]] == ["comparisons"]
    assert len(data["cells"][0]["test_accuracy_percent"]["one_more_run_95"]) == 2
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert 'id="comparisons-title"' in page and f"{MINUS}0.48 to 4.48" in page and "#comparisons-title" in page
    assert "## Deconvolution against batch norm" in (folder / "report.md").read_text(encoding="utf-8")
    assert "$-$0.48 to 4.48" in (folder / "tables" / "comparisons.tex").read_text(encoding="utf-8")


def test_a_report_of_one_method_has_no_comparison(made: Made, tmp_path: Path) -> None:
    write_report(made({"lenet_bn_1_digits": BN}).scores(), About("A report", "0"), tmp_path / "report")
    assert "comparison" not in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_runs_on_other_files_under_one_name_of_data_are_another_experiment(tmp_path: Path) -> None:
    signed = SignedRuns(tmp_path / "signed")
    easy, hard = "a" * 64, "b" * 64
    for method, files, seed in (("nd", easy, 0), ("nd", easy, 1), ("nd", hard, 2), ("bn", hard, 0), ("bn", hard, 1)):
        one = Experiment.from_name(f"lenet_{method}_2_fashion_mnist", {"seed": str(seed)})
        signed.add(one, rows(2, 0.8), official=False, data_files=files)
    signed.close()
    found = {(cell.first.method, cell.settings): cell.n for cell in cells_of(runs(signed))}
    assert found == {("nd", "data=aaaaaaaa"): 2, ("nd", "data=bbbbbbbb"): 1, ("bn", "data=bbbbbbbb"): 2}
    (alone,) = differences_of(runs(signed)).values()
    assert alone.sizes == (1, 2), "the two methods are compared on the same data alone"
    design = design_of(runs(signed))
    assert set(design.axes["data"]) == {"aaaaaaaa", "bbbbbbbb"}
    write_report(signed.scores(), About("A report", "0"), tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "aaaaaaaa" in page and "Data that are not the published files" in page
