"""A whole study in miniature, signed and with trails: what the answer says of bits, numbers and conclusion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared_runs import TENSORS, account, parted, put, records_of, sign_pair_member

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.sensitivity.analysis import AnalysisOptions, Sensitivity, sensitivity_of
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.execution.studies.study_file import load_study
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.messages import Scores
from ndrepro.protocol.training_record import METRICS_SUMMARY, metrics_summary
from ndrepro.report.sections.sensitivity_text import findings, markdown, sections
from provenance.attestation.trust import TrustPolicy

BN = {0: 80.0, 1: 82.0, 2: 84.0, 3: 81.0, 4: 83.0, 5: 82.5}


class Study:
    """Two methods, one or two threads, six seeds; two threads move the bits of step 3."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, root / "keys"

    def add(
        self, method: str, seed: int, accuracy: float, threads: int = 1, loss: Any = 1.0, run: str = "", flip: int = 0
    ) -> Path:
        row = {"epoch": 2, "step": 12, "train_accuracy": 0.9, "test_accuracy": accuracy / 100, "train_loss": loss}
        row["learning_rate"] = 0.1
        found = account(
            put(
                "byproducts",
                {"metrics summary": {"epochs": 2, "last": {**row, "test_loss": loss}}},
            )
        )
        settings = {"threads": str(threads), "seed": str(seed)}
        found["experiment"] = Experiment.from_name(f"lenet_{method}_2_digits", settings)
        table = records_of(found, 8, rate=1e-3 * (seed + 1))
        table = parted(table, 3, [0, 3], 1e-7, 4.0) if threads == 2 else table
        table = parted(table, flip, [1], 1e-9) if flip else table
        run = run or f"{method}-{seed}-{threads}"
        return sign_pair_member(self.root, run, found, table, home=self.home, tensors=TENSORS).root

    def fill(self) -> Study:
        for threads in (1, 2):
            for seed, value in BN.items():
                self.add("bn", seed, value + (0.1 * seed - 0.25) * (threads - 1), threads)
                self.add("nd", seed, value + 1.5 + 0.1 * seed, threads)
        return self

    def answer(self, **options: Any) -> Sensitivity:
        scores = read_results(self.root / "runs", policy=TrustPolicy.load(self.home))
        return sensitivity_of(scores, AnalysisOptions(**options))


class Whole(Study):
    """A study that is asked once for each set of options."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.known: dict[str, Sensitivity] = {}

    def answer(self, **options: Any) -> Sensitivity:
        if str(options) not in self.known:
            self.known[str(options)] = super().answer(**options)
        return self.known[str(options)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Whole(tmp_path_factory.mktemp("study")).fill()


def test_bits_are_read_off_the_trails(whole: Study) -> None:
    bits = whole.answer().bits[0]
    assert bits.groups == (("reference",), ("threads=2",)) and not bits.without_trail
    (pair,) = bits.pairs
    assert (pair.pairs, pair.equal, pair.steps, pair.forward) == (6, 0, (3,) * 6, 6)
    assert pair.tensor == TENSORS[0].name
    (grown,) = bits.growth
    assert grown.steps == tuple(range(9)) and grown.median[:3] == (0, 0, 0)
    assert grown.median[3] == pytest.approx(1e-7, rel=0.01) and grown.median[5] == pytest.approx(16e-7, rel=0.01)


def test_numbers_are_paired_with_the_reference(whole: Study) -> None:
    reference, threads = whole.answer().numbers[0].cells
    assert reference.against is None and reference.mean is not None and len(reference.values) == 6
    assert threads.against is not None and threads.against.difference.n == 6
    assert threads.against.difference.estimate == pytest.approx(0.0) and threads.equivalence is not None
    assert threads.equivalence.verdict == "equivalent" and threads.p_holm == 1.0
    assert threads.detectable is not None and 0.1 < threads.detectable.difference < 1.0
    (breakdown,) = whole.answer().numbers[0].components
    assert breakdown.components.of("seed").share > 0.95
    assert threads.needed is not None and threads.needed.n < 6, "a point is more than these pairs need"
    narrow = whole.answer(margin=0.05).numbers[0].cells[1].equivalence
    assert narrow is not None and narrow.verdict == "undecided"


def test_the_conclusion_is_asked_in_every_cell(whole: Study) -> None:
    found = whole.answer()
    (contrast,) = found.contrasts
    assert (contrast.first, contrast.second) == ("lenet_nd_2_digits", "lenet_bn_2_digits")
    assert len(contrast.holds) == 2 and contrast.signs == {1}
    assert [agreement.swapped for agreement in found.orders.values()] == [()]
    turned = whole.answer(methods=("bn", "nd")).contrasts[0]
    assert turned.holds == () and turned.signs == {-1}
    # a smaller loss is better: the same two, the other way round
    assert whole.answer(metric="test_loss").contrasts[0].first == "lenet_bn_2_digits"


def test_it_is_said_in_words_and_as_json(whole: Study) -> None:
    found = whole.answer()
    said = "\n".join(findings(found))
    assert "2 groups of equal bits: reference | threads=2" in said and "better than lenet_bn_2_digits in 2 of 2" in said
    assert "lenet_bn_2_digits: with 6 pairs a true shift of 0.3 points is seen four times in five" in said
    page = markdown(found, ["agreement.svg"])
    assert "![agreement](agreement.svg)" in page and "| threads=2 | 6 |" in page
    assert "24 verified and completed runs of 24 started" in page
    document = json.loads(json.dumps(found.to_json()))
    assert document["bits"][0]["groups"] == [["reference"], ["threads=2"]] and document["runs"]["begun"] == 24


def test_what_lacks_is_named_and_counted(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for seed in range(4):
        study.add("bn", seed, 80 + seed)
        if seed != 2:
            study.add("bn", seed, 80.5 + seed, threads=2)
    for run in ("bn-0-1", "bn-1-1"):
        (study.root / "runs" / "lenet_bn_2_digits" / run / "trail.bin").unlink()
    study.add("bn", 7, 50.0, loss="nan")
    found = study.answer()
    assert dict(found.bits[0].without_trail) == {
        "bn-0-1": "its trail was not kept",
        "bn-1-1": "its trail was not kept",
    }
    assert found.bits[0].pairs[0].pairs == 1, "only seed 3 is left with both trails"
    line = found.numbers[0].cells[1]
    assert line.against is not None and line.against.difference.n == 3 and line.against.only_second == (2, 7)
    said = " ".join(text for section in sections(found) for text in section.sentences)
    assert "Runs without a partner, in no difference: threads=2 (2, 3 pairs)" in said
    assert "2 of 10 runs of the full design are not there" in said and "2 runs have no trail to compare" in said
    assert "There is only one method" in said
    losses = study.answer(metric="test_loss").numbers[0].cells[0]
    assert losses.not_finite == (7,) and len(losses.values) == 4
    said = " ".join(t for section in sections(study.answer(metric="test_loss")) for t in section.sentences)
    assert "not finite, and in no number: seed 7" in said


def test_a_run_whose_trail_was_changed_is_in_no_number(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for seed in range(3):
        study.add("bn", seed, 80 + seed)
        study.add("bn", seed, 80.5 + seed, threads=2)
    assert study.answer().bits[0].pairs[0].pairs == 3, "the control"
    changed = study.root / "runs" / "lenet_bn_2_digits" / "bn-1-1" / "trail.bin"
    changed.write_bytes(changed.read_bytes()[:-8] + b"\0" * 8)
    found = study.answer()
    assert found.bits[0].pairs[0].pairs == 2 and dict(found.bits[0].without_trail) == {}
    assert [item.reason for item in found.scores.refused] == ["check 6 (digests): trail.bin was changed"]


def test_an_unequal_design_is_divided_with_every_run_and_said_to_be_unequal(tmp_path: Path) -> None:
    study = Study(tmp_path).fill()
    study.add("bn", 6, 81.0)  # which two threads were not given
    found = study.answer()
    (breakdown,) = found.numbers[0].components
    assert breakdown.components.method == "reml" and breakdown.components.n == 13
    said = " ".join(text for section in sections(found) for text in section.sentences)
    assert (
        "A mixed model (REML, intervals of the profile likelihood) of all these runs; unequal design: 1 of 14" in said
    )
    assert "a mixed model (REML) gives the same shares" in said, "of nd, whose design is whole"


def test_a_result_that_is_no_number_is_in_no_pair_and_is_counted(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for seed in range(4):
        study.add("bn", seed, 80.0 + seed, loss=1.0 + seed)
        study.add("nd", seed, 82.0 + 2 * seed, loss=0.5 + 2 * seed if seed else "nan")
    (contrast,) = study.answer(metric="test_loss").contrasts
    assert contrast.cells[0].not_finite == 1
    said = " ".join(t for section in sections(study.answer(metric="test_loss")) for t in section.sentences)
    assert "whose result is not finite, in no pair: reference (1)" in said
    assert "Runs without a partner, in no difference: reference (1, 3 pairs)" in said


def test_what_only_the_uncorrected_test_calls_different_is_not_called_so(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for seed, value in enumerate((0.3, 0.9, 1.2, 1.8)):
        study.add("bn", seed, 80.0 + seed)
        study.add("bn", seed, 80.0 + seed + value, threads=2)
        study.add("bn", seed, 80.0 + seed + (-1) ** seed, threads=3)
    line = study.answer(margin=0.5).numbers[0].cells[1]
    assert line.equivalence is not None and line.equivalence.verdict == "different"
    assert line.against is not None and line.against.p_value is not None and line.p_holm is not None
    assert line.against.p_value < 0.05 < line.p_holm == pytest.approx(2 * line.against.p_value)
    assert line.against.difference.low > 0, "the interval is not corrected, and agrees with the uncorrected test"
    page = markdown(study.answer(margin=0.5))
    assert "undecided (1.78)" in page and "| different" not in page


def test_two_seeds_have_no_interval_anywhere_and_the_reason_is_given(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for seed in range(2):
        for threads in (1, 2):
            study.add("bn", seed, 80.0 + seed + threads, threads=threads)
            study.add("nd", seed, 82.0 + seed, threads=threads)
    found = study.answer()
    assert all(line.mean is None and line.against is None for numbers in found.numbers for line in numbers.cells)
    assert not found.contrasts[0].judged
    said = " ".join(text for section in sections(found) for text in section.sentences)
    assert "threads=2: n = 2: no interval; it takes 3 runs." in said and "n = 2 pairs: no interval." in said


AXES = {
    "environment": ("torch-2.8.0", "torch-2.13.0"),
    "seed": (0, 1, 2),
    "seeds.init": (0, 1, 2),
    "seeds.order": (0, 1, 2),
    "threads": (1, 2),
    "determinism": ("deterministic", "free"),
    "precision": ("fp32", "bf16"),
    "device": ("cpu", "cuda"),
    "nudge": ("none", "conv1.weight:0:0"),
}


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_can_be_written_in_a_study_and_is_named(tmp_path: Path, axis: str) -> None:
    """From a study file, over its plan, to manifests of its runs: what was varied is the axis, and nothing else is."""
    values = ", ".join(str(value) if isinstance(value, int) else f'"{value}"' for value in AXES[axis])
    lines = ['title = "one axis"', "[settings]", 'arch = "lenet"', 'method = "bn"', "epochs = 2", 'dataset = "digits"']
    drawn = axis.startswith("seed")
    lines += [] if axis == "device" else ['device = "cpu"']
    lines += ["[grids.main]", f'axes."{axis}" = [{values}]', *([] if drawn else ["axes.seed = [0, 1]"])]
    path = tmp_path / "one.toml"
    path.write_text("\n".join(lines))
    planned = {f"run-{number}": run for number, run in enumerate(load_study(path).runs())}
    assert len(planned) == len(AXES[axis]) * (1 if drawn else 2)
    last = metrics_summary((Scores(2, 12, 1.0, 0.9, 1.0, 0.8, 0.1),))
    for name, run in planned.items():
        found = account(put("byproducts", {METRICS_SUMMARY: last}))
        found |= {"experiment": run.experiment, "internal": {**found["internal"], "device": run.experiment.device}}
        sign_pair_member(tmp_path, name, found, records_of(found, 8), home=tmp_path / "keys", tensors=TENSORS)
    scores = read_results(tmp_path / "runs", policy=TrustPolicy.load(tmp_path / "keys"))
    rows = tuple(replace(row, cell=planned[row.run_id].environment) for row in scores.rows)
    design = sensitivity_of(replace(scores, rows=rows), AnalysisOptions()).design
    assert set(design.axes) == (set() if drawn else {axis})
    assert design.missing == () and design.repeats == () and len(design.replicates) == (3 if drawn else 2)


def test_runs_that_were_run_again_are_no_sample_and_are_held_against_the_first(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for seed in range(2):
        study.add("bn", seed, 80 + seed)
    study.add("bn", 0, 80, run="z-again")
    study.add("bn", 1, 99, run="z-other", flip=4)
    found = study.answer()
    assert len(found.design.repeats) == 2 and list(found.numbers[0].cells[0].values.values()) == [80.0, 81.0]
    assert (found.bits[0].repeated, found.bits[0].repeated_equal) == (2, 1)


def test_one_seed_gives_no_interval(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.add("bn", 0, 80.0), study.add("bn", 0, 81.0, threads=2), study.add("nd", 0, 82.0)
    found = study.answer()
    for line in found.numbers[0].cells:
        assert line.mean is None and line.against is None and "1 value" in line.why
    assert "80.00" in markdown(found) and not found.contrasts[0].judged
    assert "no cell has 3 pairs" in " ".join(findings(found))


def test_no_runs_and_no_trust_are_told_apart(tmp_path: Path) -> None:
    study = Study(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(TooLittle, match="no verified, completed runs"):
        study.answer()
    study.add("bn", 0, 80.0)
    scores = read_results(tmp_path / "runs", policy=TrustPolicy.load(tmp_path / "stranger"))
    with pytest.raises(TooLittle, match="none of 1 manifests counts") as caught:
        sensitivity_of(scores, AnalysisOptions())
    assert "--key" in caught.value.cure


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metric": "accuracy"}, "metric"),
        ({"methods": ("nd", "none")}, "no run has the method 'none'"),
        ({"reference": {"threads": "9"}}, "no run has it"),
        ({"margin": 0.0}, "margin"),
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(whole: Study, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        whole.answer(**options)


def test_figures_are_drawn_alike_twice(whole: Study, tmp_path: Path) -> None:
    from dataclasses import replace

    from ndrepro.report.figures.sensitivity_figures import draw

    found = whole.answer()
    files = draw(found, tmp_path / "a")
    names = {path.stem for path in files}
    assert names == {"agreement", "divergence", "differences", "conclusion", "components"} and len(files) == 10
    again = draw(replace(found, bits=(), contrasts=(), numbers=found.numbers[:1]), tmp_path / "b")
    once_more = draw(replace(found, bits=(), contrasts=(), numbers=found.numbers[:1]), tmp_path / "c")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in once_more]
