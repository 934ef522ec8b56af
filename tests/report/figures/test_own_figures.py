"""The figures of one's own runs show the signed numbers, and leave out what was changed after signing."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from signed_runs import SignedRuns, rows

from ndrepro.analysis.results.results import ResultRow
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.report.elements import style
from ndrepro.report.figures.final_scores import final_scores
from ndrepro.report.figures.learning_curves import learning_curves
from ndrepro.report.page.contents import About
from ndrepro.report.page.write import write_report
from ndrepro.report.sections.own_summary import summary_of
from ndrepro.report.sections.seed_groups import SeedGroup, cells_of

ACCURACIES = {"bn": (0.80, 0.82, 0.84), "nd": (0.86, 0.87, 0.91)}


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> SignedRuns:
    found = SignedRuns(tmp_path_factory.mktemp("own"))
    for method, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            experiment = Experiment.from_name(f"lenet_{method}_4_digits", {"seed": str(seed)})
            found.add(experiment, rows(4, accuracy), seconds=10.0 if method == "bn" else 25.0)
    found.close()
    return found


def read(signed: SignedRuns) -> tuple[tuple[ResultRow, ...], tuple[SeedGroup, ...]]:
    runs = signed.scores().distinct()[0]
    return runs, cells_of(runs)


def test_a_curve_is_the_mean_of_the_signed_epochs(signed: SignedRuns) -> None:
    (figure,) = learning_curves(read(signed)[1])
    (panel,) = figure.data
    assert [series["label"] for series in panel["series"]] == ["batch norm", "deconvolution"]
    for series, accuracies in zip(panel["series"], ACCURACIES.values(), strict=True):
        assert [each["epoch"] for each in series["epochs"]] == [1, 2, 3, 4]
        last = series["epochs"][-1]
        assert last["test"] == pytest.approx(100 * statistics.fmean(accuracies))
        assert (last["lowest"], last["highest"]) == pytest.approx((100 * min(accuracies), 100 * max(accuracies)))
        assert last["n"] == 3


def test_the_page_holds_every_point_with_its_value(signed: SignedRuns, tmp_path: Path) -> None:
    write_report(signed.scores(), About("own", "0"), tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    for words in (
        "batch norm, seed 0: 80.00 %",
        "deconvolution: mean 88.00 [81.43, 94.57]",
        "epoch 4: test 82.00 % (80.00 to 84.00",
    ):
        assert words in page
    file = (tmp_path / "report" / "figures" / "final_scores.svg").read_text(encoding="utf-8")
    assert style.dark_style("svg") in file and style.dark_style("svg") not in page
    assert page.index("test accuracy (mean of 3 seeds") < page.index('id="figures"'), "this study comes first"
    assert 'id="claims"' not in page, "no publication has this network on these data"


def test_the_summary_states_means_differences_and_cost(signed: SignedRuns) -> None:
    text = " ".join(summary_of(*read(signed)))
    interval = "95 % interval 77.03 to 86.97 %"
    assert f"lenet with batch norm on digits, 4 epochs: 82.00 % test accuracy (mean of 3 seeds; {interval})." in text
    assert (
        "is 6.00 points higher than with batch norm (95 % interval of the difference +3.52 to +8.48, 3 pairs)" in text
    )
    assert "The difference is statistically significant (p = 0.009)." in text
    assert "took 2.50 times as long" in text


def test_what_is_not_significant_has_its_reason_in_words(tmp_path: Path) -> None:
    made = SignedRuns(tmp_path)
    for method, accuracies in {"bn": (0.80, 0.82, 0.84), "nd": (0.79, 0.87, 0.84)}.items():
        for seed, accuracy in enumerate(accuracies):
            for epochs in (1, 2)[seed // 2 :]:  # the third seed for two epochs alone
                one = Experiment.from_name(f"lenet_{method}_{epochs}_digits", {"seed": str(seed)})
                made.add(one, rows(epochs, accuracy))
    made.close()
    text = " ".join(summary_of(*read(made)))
    assert "The interval includes zero, so 3 seeds do not show a difference (p = 0." in text
    assert "seeds would be needed to detect a difference of this size" in text
    assert "(mean of 2 seeds; n = 2: no interval)" in text
    assert "are not compared: n = 2, and an interval takes 3 seeds of each" in text
    assert "±" not in text and "cannot be" not in text


def test_a_log_that_was_changed_is_not_drawn(signed: SignedRuns) -> None:
    runs, groups = read(signed)
    log = runs[0].folder / "metrics.jsonl"
    text = log.read_bytes()
    log.write_bytes(text.replace(b"0.8", b"0.9"))
    try:
        (figure,) = learning_curves(groups)
    finally:
        log.write_bytes(text)
    counts = [{each["n"] for each in series["epochs"]} for series in figure.data[0]["series"]]
    assert sorted(map(max, counts)) == [2, 3]


def test_runs_of_one_epoch_have_scores_and_no_curve(tmp_path: Path) -> None:
    one = SignedRuns(tmp_path)
    one.add(Experiment.from_name("lenet_bn_1_digits"), rows(1, 0.5))
    one.close()
    groups = read(one)[1]
    assert learning_curves(groups) == ()
    assert [figure.key for figure in final_scores(groups)] == ["final_scores", "training_time"]
