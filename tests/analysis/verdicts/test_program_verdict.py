"""The verdict on a program that was run again: by what both runs left, and never against an honest one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndrepro.analysis.verdicts.program_results import ProgramResults
from ndrepro.analysis.verdicts.program_verdict import judge_program
from ndrepro.analysis.verdicts.reproduction_verdict import Judgement
from ndrepro.analysis.verdicts.run_conditions import ASSERTED
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import CHECKED, FAILED, NOT_CHECKED, claim
from ndrepro.text.plain_json import plain
from provenance.formats.digest import bytes_digest
from provenance.formats.trail import TensorName, TrailWriter, float_bits

HAD = claim("inputs", True, "3 of 3")
SAME = claim("environment", True, "as recorded")
OTHER = claim("environment", None, "another release of numpy")
UNEQUAL = claim("conditions", None, "numpy: 2.3 then, 2.4 now")
EQUAL = claim("conditions", True, "as recorded")
A, B = "a" * 64, "b" * 64


def side(
    root: Path, name: str, *, code: Any = 0, outputs: Any = None, rows: Any = (), losses: Any = None, salt: int = 0
) -> ProgramResults:
    """What a run left; ``losses`` make a trail whose weights are determined by them and by ``salt``."""
    folder = RunFolder(root / name)
    if losses is not None:
        folder.trails.mkdir(parents=True)
        with TrailWriter(folder.trails / "trail-7-1700000000-0.bin", [TensorName("weight", (2,), "float32")]) as trail:
            weights = [float_bits(loss) % 65_521 ^ salt for loss in losses]
            records = [(step, float_bits(loss), weights[step]) for step, loss in enumerate(losses)]
            trail.append(np.array(records, dtype=np.uint64))
    return ProgramResults(folder, code, outputs or {}, tuple(rows))


def judged(then: ProgramResults, now: ProgramResults, **changes: Any) -> Judgement:
    return judge_program(then, now, **{"inputs": HAD, "environment": SAME, "conditions": UNEQUAL, **changes})


def rows(losses: Sequence[float], **more: Any) -> list[dict[str, Any]]:
    return [{"step": step, "loss": loss, **more} for step, loss in enumerate(losses)]


def claims(judgement: Judgement) -> dict[str, str]:
    return {item.name: item.status for item in judgement.claims}


LOSSES = (0.0, 1.0, 0.5, 0.25)


def test_equal_bits_of_everything_are_identical(tmp_path: Path) -> None:
    left = {"outputs": {"model.pt": A}, "rows": rows(LOSSES), "losses": LOSSES}
    found = judged(side(tmp_path, "then", **left), side(tmp_path, "now", **left), conditions=EQUAL)
    assert found.verdict == "identical" and found.passes and found.compared_steps == 4
    assert {name for name, status in claims(found).items() if status != CHECKED} == {ASSERTED}


def test_the_clock_s_metrics_are_left_aside_and_named(tmp_path: Path) -> None:
    then = side(tmp_path, "then", rows=rows(LOSSES, epoch_time=1.0, images_per_second=9.0))
    now = side(tmp_path, "now", rows=rows(LOSSES, epoch_time=2.0, images_per_second=8.0))
    found = judged(then, now)
    assert found.verdict == "identical"
    evidence = {item.name: item.evidence for item in found.claims}
    assert evidence["metrics"] == "4 rows equal; not compared: epoch_time, images_per_second"
    assert found.because.endswith("; not compared: epoch_time, images_per_second")
    assert claims(found)["left out of the comparison"] == NOT_CHECKED


@pytest.mark.parametrize(
    "name",
    [
        *("timestep", "time-averaged accuracy", "accuracy/s", "eta", "seconds to 94 %", "speed.accuracy"),
        *("test_accuracy/over/time", "accuracy.time", "acc:test/images/s", "test % of time"),
    ],
)
def test_a_metric_that_only_sounds_like_the_clock_counts(name: str, tmp_path: Path) -> None:
    then, now = (side(tmp_path, each, rows=[{name: count, "step": 1}]) for each, count in (("then", 1), ("now", 9)))
    assert judged(then, now).verdict == "undecided"


@pytest.mark.parametrize(
    "name",
    [
        *("it/s", "train/epoch_time", "_timestamp", "images per sec", "timing/wall", "time/forward", "GPU-seconds"),
        *("time.wall_time", "data time [s]"),
    ],
)
def test_a_metric_of_the_clock_is_known_by_every_word_of_its_name(name: str, tmp_path: Path) -> None:
    then, now = (side(tmp_path, each, rows=[{name: count, "step": 1}]) for each, count in (("then", 1), ("now", 9)))
    assert judged(then, now).verdict == "identical"


def test_metrics_of_the_clock_alone_are_nothing_to_compare(tmp_path: Path) -> None:
    then, now = (side(tmp_path, each, rows=[{"time": count}]) for each, count in (("then", 1), ("now", 9)))
    assert "nothing that can be compared" in judged(then, now).because


def test_a_clock_that_only_one_run_has_is_a_difference(tmp_path: Path) -> None:
    then, now = side(tmp_path, "then", rows=[{"step": 1, "time": 0.99}]), side(tmp_path, "now", rows=[{"step": 1}])
    assert judged(then, now).verdict == "undecided"


def test_an_output_that_was_not_written_then_is_named_or_compared(tmp_path: Path) -> None:
    left = {"outputs": {"o": A}}
    then = replace(side(tmp_path, "then", **left), unwritten={"m.csv": A})
    found = judged(then, side(tmp_path, "now", **left))
    assert found.verdict == "identical" and found.because.endswith("not compared: m.csv (not written)")
    assert judged(then, side(tmp_path, "again", outputs={"o": A, "m.csv": B})).verdict == "undecided"
    assert judged(then, side(tmp_path, "equal", outputs={"o": A, "m.csv": A})).verdict == "identical"


def test_losses_within_tolerances_are_close(tmp_path: Path) -> None:
    near = tuple(loss * (1 + 1e-6) for loss in LOSSES)
    then = side(tmp_path, "then", outputs={"table.csv": A}, rows=rows(LOSSES), losses=LOSSES)
    now = side(tmp_path, "now", outputs={"table.csv": A}, rows=rows(near), losses=near)
    found = judged(then, now)
    assert found.verdict == "close" and found.passes
    assert found.divergence is not None and found.divergence.step == 1 and found.divergence.tensors == ("weight",)
    assert FAILED not in claims(found).values()
    assert 0 < found.largest_loss_difference < 1e-5
    strict = judged(then, now, conditions=EQUAL)
    assert strict.verdict == "undecided" and strict.because.endswith("; the conditions are the same")
    assert judged(then, now, conditions=EQUAL, repeats=False).verdict == "close", (
        "as GPUs without a fixed order of sums"
    )


def test_of_several_trails_that_which_differs_is_named(tmp_path: Path) -> None:
    """Before: the place where the first differs, and the largest difference of all."""
    near = tuple(loss * (1 + 1e-6) for loss in LOSSES)
    then, now = (side(tmp_path, name, losses=LOSSES) for name in ("then", "now"))
    for first, salt, losses in ((then, 0, LOSSES), (now, 7, near)):
        (second,) = side(tmp_path / "second", str(salt), losses=losses, salt=salt).folder.trails.iterdir()
        second.rename(first.folder.trails / "trail-8-1800000000-0.bin")
    found = judged(then, now)
    evidence = {item.name: item.evidence for item in found.claims}["trail"]
    assert (
        evidence.startswith("trail 2 of 2, bits differ from step 0 (weight)")
        and "step 1 1.0 then, 1.000001 now" in evidence
    )


def test_whatever_differs_within_tolerances_is_named_with_both_values(tmp_path: Path) -> None:
    """Before: "a, b, c and 1 more differ"; the largest difference was named without its values."""
    names = [f"metric {number}" for number in range(20)]
    row = {name: 0.5 for name in names}
    then = side(tmp_path, "then", rows=[{**row, "accuracy": 0.9651}], losses=LOSSES)
    now = side(
        tmp_path,
        "now",
        rows=[{name: 0.5000001 for name in names} | {"accuracy": 0.9560}],
        losses=[loss * 1.00001 for loss in LOSSES],
    )
    found = judged(then, now)
    evidence = {item.name: item.evidence for item in found.claims}["metrics"]
    assert found.verdict == "close" and "accuracy 0.9651 then, 0.956 now (0.0094); metric 9 0.5 then" in evidence
    assert all(f"{name} 0.5 then, 0.5000001 now" in evidence for name in names)


def written(root: Path, name: str, text: bytes, **more: Any) -> ProgramResults:
    """A run that left the output ``results.txt``, with a copy of it."""
    (root / name / "outputs").mkdir(parents=True)
    (root / name / "outputs" / "results.txt").write_bytes(text)
    left = side(root, name, outputs={"results.txt": bytes_digest(text)}, rows=rows(LOSSES), **more)
    return replace(left, copies=root / name / "outputs")


TEXTS: dict[str, tuple[bytes, bytes, str]] = {
    "the last digits of numbers": (b'{"loss": 0.51234, "n": 3}', b'{"loss": 5.1235e-1, "n": 3}', "close"),
    "numbers too far apart": (b'{"loss": 0.51}', b'{"loss": 0.99}', "undecided"),
    "a whole number": (b"label 300\n", b"label 301\n", "undecided"),
    "a word": (b"0.51 of the test\n", b"0.51 of the training\n", "undecided"),
    "a number more": (b"0.5 0.6", b"0.5 0.6 0.7", "undecided"),
    "bytes that are no text": (b"\xff0.51", b"\xff0.52", "undecided"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_numbers_of_a_text_have_tolerances_and_bytes_have_none(case: str, tmp_path: Path) -> None:
    then, now, verdict = TEXTS[case]
    found = judged(written(tmp_path, "then", then), written(tmp_path, "now", now), environment=OTHER)
    assert found.verdict == verdict, found.because
    assert claims(found)["outputs"] == (CHECKED if verdict == "close" else FAILED)


def test_a_copy_that_is_not_the_recorded_output_counts_for_nothing(tmp_path: Path) -> None:
    then, now = written(tmp_path, "then", b"0.5100"), written(tmp_path, "now", b"0.5101")
    (tmp_path / "then" / "outputs" / "results.txt").write_bytes(b"0.5101 ")
    assert judged(then, now, environment=OTHER).verdict == "undecided"


def test_another_trajectory_is_undecided_and_accuses_nobody(tmp_path: Path) -> None:
    other = (0.0, 1.3, 0.9, 0.7)
    then, now = side(tmp_path, "then", losses=LOSSES), side(tmp_path, "now", losses=other)
    found = judged(then, now)
    assert found.verdict == "undecided" and "bits differ from step 1 (weight)" in found.because


def test_equal_steps_with_other_metrics_are_undecided(tmp_path: Path) -> None:
    """They may be drawn without a seed, or measured of the machine: memory, load."""
    then = side(tmp_path, "then", rows=[{"accuracy": 0.95}], losses=LOSSES)
    now = side(tmp_path, "now", rows=[{"accuracy": 0.71}], losses=LOSSES)
    found = judged(then, now)
    assert found.verdict == "undecided" and "steps are equal bit for bit" in found.because
    assert "accuracy" in found.because


def test_tolerances_leave_no_room_after_equal_bits_in_the_same_environment(tmp_path: Path) -> None:
    then = side(tmp_path, "then", rows=[{"accuracy": 0.9651}], losses=LOSSES)
    now = side(tmp_path, "now", rows=[{"accuracy": 0.9560}], losses=LOSSES)
    raised = judged(then, now)
    assert (
        raised.verdict == "undecided" and "accuracy 0.9651" in raised.because and "after trail equal" in raised.because
    )
    assert judged(then, now, environment=OTHER).verdict == "close", "the control: another release may round otherwise"
    table = written(tmp_path, "table", b"0.9999"), written(tmp_path, "table now", b"0.9901")
    assert judged(*table).verdict == "undecided" and judged(*table, environment=OTHER).verdict == "close"


def test_what_a_script_noted_is_compared(tmp_path: Path) -> None:
    made = (side(tmp_path, name, outputs={"o": A}) for name in ("then", "now"))
    then, now = (replace(each, notes={"accuracy": 0.51, "seconds": 3 + place}) for place, each in enumerate(made))
    assert judged(then, now).because == "outputs, notes: all equal bit for bit; not compared: seconds"
    lie = replace(then, notes={"accuracy": 0.99, "seconds": 3})
    assert judged(lie, now).verdict == judged(lie, replace(now, notes={})).verdict == "undecided"


def test_a_false_size_is_a_difference(tmp_path: Path) -> None:
    """Of an output without a copy, which no check of the run's files finds. Before: "identical"."""
    then, now = (
        replace(side(tmp_path, name, outputs={"/p/m.pt": A}), sizes={"/p/m.pt": 9}) for name in ("then", "now")
    )
    then, now = (each.within(Path("/p"), Path("/p")) for each in (then, now))
    assert judged(then, now).verdict == "identical"
    found = judged(replace(then, sizes={"m.pt": 900}), now)
    assert found.verdict == "undecided" and "differ: m.pt" in found.because


UNDECIDED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another exit code": ({"outputs": {"o": A}}, {"outputs": {"o": A}, "code": 1}, "another exit code: 0 then, 1 now"),
    "nothing to compare": ({}, {}, "nothing that can be compared"),
    "an output that is missing": ({"outputs": {"o": A, "p": A}}, {"outputs": {"o": A}}, "missing: p"),
    "an output that differs": ({"outputs": {"o": A}}, {"outputs": {"o": B}}, "differ: o"),
    "an output without digest": ({"outputs": {"o": None}}, {"outputs": {"o": None}}, "differ: o"),
    "a new output": ({"outputs": {"o": A}}, {"outputs": {"o": A, "n": B}}, "new: n"),
    "fewer rows": ({"rows": rows(LOSSES)}, {"rows": rows(LOSSES[:2])}, "4 rows then, 2 now"),
    "text instead of a number": ({"rows": [{"loss": 1.0}]}, {"rows": [{"loss": "nan"}]}, "loss"),
    "fewer steps": ({"losses": LOSSES}, {"losses": LOSSES[:2]}, "4 steps then, 2 now"),
    "steps that nobody trained, near the others": (
        {"losses": (*(loss * 1.00001 for loss in LOSSES), 0.01)},
        {"losses": LOSSES},
        "5 steps then, 4 now",
    ),
    "other weights, and no loss": (
        {"losses": (0.0, 0.0)},
        {"losses": (0.0, 0.0), "salt": 7},
        "losses cannot be compared",
    ),
    "other weights, and losses that are none": (
        {"losses": (0.0, math.nan)},
        {"losses": (0.0, math.nan), "salt": 7},
        "losses cannot be compared",
    ),
    "no trail": ({"losses": LOSSES}, {}, "1 trail then, 0 now"),
}


@pytest.mark.parametrize("case", UNDECIDED)
def test_what_decides_nothing_is_undecided(case: str, tmp_path: Path) -> None:
    then, now, because = UNDECIDED[case]
    found = judged(side(tmp_path, "then", **then), side(tmp_path, "now", **now))
    assert found.verdict == "undecided" and because in found.because


def test_a_missing_input_excuses_every_difference(tmp_path: Path) -> None:
    then, now = side(tmp_path, "then", losses=LOSSES), side(tmp_path, "now", losses=(0.0, 1.0001, 0.5, 0.25))
    assert judged(then, now).verdict == "close"
    lost = claim("inputs", None, "input data.bin: not here")
    found = judged(then, now, inputs=lost, whole=False)
    assert (found.verdict, found.because) == ("undecided", "inputs: input data.bin: not here")


def test_the_judgement_is_plain_json(tmp_path: Path) -> None:
    found = judged(side(tmp_path, "then", losses=LOSSES), side(tmp_path, "now", losses=(0.0, float("inf"), 1.0, 1.0)))
    document = json.loads(json.dumps(plain(found), allow_nan=False))
    assert (document["verdict"], document["largest_loss_difference"]) == ("undecided", "inf")
